"""Day-0 media: pure builders from text to bytes. Nothing is mounted, nothing is run.

``content.py`` fills in what a device's day-0 method wants on the medium; one module per kind of medium turns files
into an image: ``iso.py`` (a CD-ROM). A FAT disk takes the same arguments and gets a module of its own beside it.
"""

from wireloom.day0.content import render_day0
from wireloom.day0.iso import build_iso

__all__ = ["build_iso", "render_day0"]
