"""``python -m wireloom.sniffer``: an order on standard input, a capture on standard output.

Exit codes: 0 done, 1 the reader went away, 3 the kernel refused.
"""

from __future__ import annotations

import os
import sys

from wireloom.sniffer.capture import Capture
from wireloom.sniffer.order import Order, Report

REFUSED = 3


def main() -> int:
    """Run one capture."""
    with open(0, "rb", buffering=0, closefd=False) as control:  # unbuffered: what follows the line is for poll
        line = control.readline()
    try:
        capture = Capture(Order.parse(line), control=0, output=1, reports=2)
    except OSError as error:
        os.write(2, Report(problem=error.strerror or str(error), number=error.errno or 0).line())
        return REFUSED
    try:
        capture.run()
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
