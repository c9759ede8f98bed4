"""Emulations of network operating systems, as far as dialogues, day-0 media and extraction need them.

These are not the vendors' systems: they print, ask and store what the real ones print, ask and store at their
consoles, and forward no packet. They run on a minimal Python (no dataclasses, json or termios).

``script``: requests that a persona yields. ``terminal``: plays them to bytes, without I/O. ``machine``: what a
persona's sessions share. ``tree``, ``junos_tree``: configurations. ``cisco_like`` and one module per persona. ``host``, ``media``,
``serve``, ``relay``: the I/O in the image.
"""
