"""Print the names in the output of ``wireloom labs --json``, one a line (standard input)."""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Accept both a bare list and an object that holds one under ``labs``."""
    document = json.load(sys.stdin)
    labs = document["labs"] if isinstance(document, dict) else document
    for lab in labs:
        print(lab["name"])


if __name__ == "__main__":
    main()
