"""Nodes that move from host to host: see :mod:`wireloom.model.moves`."""
