"""Run every benchmark, one after the other, and print one Markdown table with the machine named.

Each is a process of its own, so that none disturbs the next; its results stay as JSON in a folder, from which the
table can be made again (``--table-only``). ``--readme README.md`` puts the table between the marks in that file. A
missed target is a result, told in the table; only a benchmark that does not come to an end makes this program fail.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common import Result, table

HERE: Final = Path(__file__).parent
DEADLINE_S: Final = 1800.0
#: A benchmark that is told to stop tidies up the host first.
TIDY_S: Final = 60.0
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"


@dataclass(frozen=True)
class Benchmark:
    """A program beside this one, and what makes it quick."""

    name: str
    quick: tuple[str, ...] = ()


BENCHMARKS: Final = (
    Benchmark("deploy", ("--counts", "40", "--rounds", "1")),
    Benchmark("wires", ("--sizes", "100", "500")),
    Benchmark("throughput", ("--rounds", "4")),
    Benchmark("impairment", ("--ports", "200", "--seconds", "2")),
    Benchmark("captures", ("--frames", "4000")),
    Benchmark("guests", ("--rounds", "2", "--megabytes", "10")),
    Benchmark("images", ("--rounds", "2", "--disk", "512", "--archive", "256", "--small", "64")),
    Benchmark("moves", ("--rounds", "3")),
    Benchmark("planning", ("--nodes", "1000")),
    Benchmark("takeover", ("--rounds", "3")),
    Benchmark("library", ("--images", "300", "--hosts", "30", "--each", "20")),
    Benchmark("live_link", ("--containers", "20", "--machines", "8", "--commands", "3")),
    Benchmark("carrier", ("--containers", "3", "--machines", "1")),
    Benchmark("machine_start", ("--rounds", "5")),
    Benchmark("idle", ("--seconds", "20")),
    Benchmark("console_echo", ("--consoles", "10", "--keys", "300")),
    Benchmark("console_idle", ("--seconds", "10")),
    Benchmark("cli_startup"),
)


def run(benchmark: Benchmark, results: Path, *, quick: bool) -> bool:
    """Run one to its end; whether it came to a result."""
    target = results / f"{benchmark.name}.json"
    target.unlink(missing_ok=True)
    more = benchmark.quick if quick else ()
    command = [sys.executable, str(HERE / f"{benchmark.name}.py"), "--json", str(target), *more]
    print(f"== {benchmark.name}", file=sys.stderr, flush=True)
    with subprocess.Popen(command, stdout=sys.stderr) as process:
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            print(f"{benchmark.name} takes too long", file=sys.stderr)
            process.send_signal(signal.SIGINT)
            try:
                process.wait(TIDY_S)
            except subprocess.TimeoutExpired:
                process.kill()
    return process.returncode == 0 and target.exists()


def stored(results: Path, benchmarks: Sequence[Benchmark]) -> list[dict[str, Any]]:
    """What the benchmarks wrote, in their order; those without a result are left out."""
    files = [results / f"{benchmark.name}.json" for benchmark in benchmarks]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def markdown(documents: Sequence[dict[str, Any]]) -> str:
    """One table, with the machine and how busy it was."""
    if not documents:
        return "No results."
    host = documents[0]["machine"]
    loads = [float(document["machine"]["load"]) for document in documents]
    rows = [Result(**result) for document in documents for result in document["results"]]
    judged = [row.met for row in rows if row.met is not None]
    where = f"{host['cpus']} x {host['cpu']}, {host['memory_gib']} GiB, {host['os']}, Linux {host['kernel']}"
    guests = f"Python {host['python']}; virtual machines {_acceleration()}"
    met = f"{judged.count(True)} of {len(judged)} targets met"
    busy = f"load average at the end of each benchmark {min(loads):.1f} to {max(loads):.1f}"
    return f"On {where}, {guests}. {met}; {busy}.\n\n{table(rows)}"


def _acceleration() -> str:
    from wireloom.providers.libvirt import acceleration

    return "with KVM" if acceleration.probe("auto").kind == "kvm" else "emulated, without KVM"


def put_into(readme: Path, text: str) -> None:
    """Replace what stands between the marks."""
    before, found, rest = readme.read_text().partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        sys.exit(f"{readme} has no {BEGIN} … {END}")
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def options() -> Namespace:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that all of it works")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where the JSON files go (and are read from)")
    parser.add_argument("--table-only", action="store_true", help="run nothing, make the table of what is there")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put the table between the marks in this file")
    return parser.parse_args()


def main() -> None:
    arguments = options()
    chosen = [benchmark for benchmark in BENCHMARKS if benchmark.name in arguments.only]
    results = arguments.results or Path(tempfile.mkdtemp(prefix="wireloom-benchmarks-"))
    results.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    if not arguments.table_only:
        if os.geteuid() != 0:
            sys.exit("benchmarks make devices and nodes on this host: run them as root")
        failed = [item.name for item in chosen if not run(item, results, quick=arguments.quick)]
    text = markdown(stored(results, BENCHMARKS if arguments.table_only else chosen))
    print(text)
    if arguments.readme is not None:
        put_into(arguments.readme, text)
    print(f"results are in {results}", file=sys.stderr)
    if failed:
        sys.exit(f"without a result: {', '.join(failed)}")


if __name__ == "__main__":
    main()
