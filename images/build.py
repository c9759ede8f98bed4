#!/usr/bin/env python3
"""Build Wireloom's reference images (``build.py --help``)."""

from __future__ import annotations

import sys

from imagebuild.cli import main

if __name__ == "__main__":
    sys.exit(main())
