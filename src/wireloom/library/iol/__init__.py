"""IOL: a vendor's IOS as a Linux program, made into a container's image of its own.

=============  ============================================================================================
``elf``        programs for Linux, as far as it takes to know whether they can run
``binary``     whether a file is an IOL binary, and which
``builder``    the image: the distribution's minimal Python, what :mod:`~wireloom.library.iol.guest` holds, IOL
``guest``      what runs beside IOL in the node
=============  ============================================================================================
"""

from __future__ import annotations

from wireloom.library.iol.binary import IolBinary, inspect_binary, is_program
from wireloom.library.iol.builder import BASE_ARCHIVE, build, find_base

__all__ = ["BASE_ARCHIVE", "IolBinary", "build", "find_base", "inspect_binary", "is_program"]
