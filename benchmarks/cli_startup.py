"""How long the command line takes from nothing to its last byte.

``--help``, ``--version``, and ``labs`` against a server on loopback that answers at once, beside the same interpreter
running nothing. Each number is the median of many runs, each a process of its own. Wall time has the target and grows
with whatever else the machine does; processor time does not.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from common import Result, arguments_of, measured, report

ROUNDS: Final = 15
LIMIT_MS: Final = 250
COMMANDS: Final = ("--help", "--version", "labs", "labs --json")
ANSWER: Final = b"[]"


class _Controller(BaseHTTPRequestHandler):
    """Answers every question with an empty list."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Quiet: the terminal is for results."""


def milliseconds(command: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Median wall time and median processor time of ``command``; the first run, which fills caches, does not count."""
    walls, busy = [], []
    for _ in range(ROUNDS + 1):
        began, used = time.perf_counter(), _processor_time()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        walls.append((time.perf_counter() - began) * 1000)
        busy.append((_processor_time() - used) * 1000)
    return statistics.median(walls[1:]), statistics.median(busy[1:])


def _processor_time() -> float:
    """Seconds that finished children have spent on a processor; other work on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run() -> list[Result]:
    """All measurements."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Controller)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    environment = {**os.environ, "WIRELOOM_URL": url, "WIRELOOM_TOKEN": "benchmark"}
    wireloom = [sys.executable, "-m", "wireloom.cli"]
    results = []
    try:
        for name, command in (
            ("python -c pass", [sys.executable, "-c", "pass"]),
            *((f"wireloom {words}", [*wireloom, *words.split()]) for words in COMMANDS),
        ):
            wall, busy = milliseconds(command, environment)
            ours = name.startswith("wireloom")
            results.append(measured(name, wall, "ms", at_most=LIMIT_MS) if ours else measured(name, wall, "ms"))
            results.append(measured(f"{name}, processor time", busy, "ms"))
    finally:
        server.shutdown()
    return results


if __name__ == "__main__":
    arguments = arguments_of(__doc__)
    report("cli start-up", run(), arguments.json)
