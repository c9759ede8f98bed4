"""The commands, one module per subject. Each has ``register(app)``."""
