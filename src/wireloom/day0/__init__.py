"""Day-0 data: pure builders from text to bytes. Nothing is mounted, nothing is run.

::

    template_values ─> startup_text ─> render_day0 ──> build_medium ─> MediumImage
     (variables)      (configuration)   (files)     │   iso.py, fat.py
                                        archive.py  └──> files and binds as they are
                                        mime.py
                                        cloud.py

``templates.py`` fills in every text; equal data gives equal bytes, whatever the time and the machine.
"""

from wireloom.day0.content import render_day0, render_smbios, startup_text
from wireloom.day0.fat import build_fat
from wireloom.day0.image import MediumImage
from wireloom.day0.iso import build_iso
from wireloom.day0.medium import build_medium
from wireloom.day0.values import template_values

__all__ = [
    "MediumImage",
    "build_fat",
    "build_iso",
    "build_medium",
    "render_day0",
    "render_smbios",
    "startup_text",
    "template_values",
]
