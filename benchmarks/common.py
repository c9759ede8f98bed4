"""What all benchmarks share: a result with its target, a table for people, JSON for machines.

A benchmark builds a list of :class:`Result` and hands it to :func:`report`::

    arguments = arguments_of(__doc__)
    report("wires", [measured("wires made", 4200, "wires/s", at_least=600)], arguments.json)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

__all__ = ["Result", "arguments_of", "compared", "machine", "measured", "median", "parser", "report", "table"]


@dataclass(frozen=True)
class Result:
    """One number.

    :ivar baseline: the same measure of what we compare with, in the same run; ``ratio`` is ours to it.
    :ivar target: the limit that ``ratio`` (with a baseline) or ``value`` has to keep; ``None``: informative.
    :ivar sense: ``at least`` or ``at most``.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    target: float | None = None
    sense: str = ""
    met: bool | None = None


def measured(
    name: str, value: float, unit: str, *, at_least: float | None = None, at_most: float | None = None
) -> Result:
    """A number with a target of its own."""
    return _judged(Result(name, value, unit), value, at_least, at_most)


def compared(
    name: str,
    value: float,
    baseline: float,
    unit: str,
    *,
    ratio: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Result:
    """A number beside its baseline; the target is for ``ratio``, by default ``value / baseline``."""
    judged = value / baseline if ratio is None else ratio
    return _judged(Result(name, value, unit, baseline, judged), judged, at_least, at_most)


def _judged(result: Result, number: float, at_least: float | None, at_most: float | None) -> Result:
    if at_least is not None:
        return replace(result, target=at_least, sense="at least", met=number >= at_least)
    if at_most is not None:
        return replace(result, target=at_most, sense="at most", met=number <= at_most)
    return result


def median(values: Sequence[float]) -> float:
    """The middle of the values: one disturbed round does not move it."""
    return statistics.median(values)


def machine() -> dict[str, str | int]:
    """Where the numbers come from."""
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in facts if line.startswith("model name")), "unknown")
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    release = platform.freedesktop_os_release()
    return {
        "cpu": model,
        "cpus": os.cpu_count() or 1,
        "memory_gib": round(memory_kib / 2**20),
        "kernel": platform.release(),
        "os": release.get("PRETTY_NAME", "unknown"),
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _number(value: float | None) -> str:
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    head = ("what", "value", "unit", "baseline", "ratio", "target", "met")
    rows = [
        (
            result.name,
            _number(result.value),
            result.unit,
            _number(result.baseline),
            "" if result.ratio is None else f"{result.ratio:.3f}",
            "" if result.target is None else f"{result.sense} {result.target:g}",
            {None: "", True: "yes", False: "NO"}[result.met],
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) + " |" for row in lines
    )


def report(benchmark: str, results: Sequence[Result], json_file: Path | None = None) -> None:
    """Print the table and, if asked, write ``{benchmark, machine, results}``."""
    host = machine()
    print(
        f"{benchmark} on {host['cpus']} x {host['cpu']}, {host['memory_gib']} GiB, {host['os']}, Linux {host['kernel']}"
    )
    print(table(results))
    if json_file is not None:
        document = {"benchmark": benchmark, "machine": host, "results": [asdict(result) for result in results]}
        json_file.write_text(json.dumps(document, indent=2) + "\n")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the results there, for machines")
    return made


def arguments_of(description: str | None) -> argparse.Namespace:
    """The command line of a benchmark without options of its own."""
    return parser(description).parse_args()
