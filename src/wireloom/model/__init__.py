"""Frozen values and pure rules: what labs, nodes, ports, links and their states are.

Nothing in this package does I/O, reads a clock or makes an id.
"""
