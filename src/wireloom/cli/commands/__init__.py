"""The commands, one module per subject. Each has ``register(app)``.

These modules do without ``from __future__ import annotations``: Typer reads every annotation at every start, and
compiling some hundred strings takes 20 ms.
"""
