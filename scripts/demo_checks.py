"""Show that the demonstration lab works: OSPF is full everywhere, and a ping crosses from host to host."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CONVERGENCE_SECONDS = 60
COMMAND_SECONDS = 30
FULL = re.compile(r"\bFull/")
NEIGHBOR = re.compile(r"^\d+\.\d+\.\d+\.\d+\s")
MANAGEMENT_PORT = "eth0"


@dataclass(frozen=True)
class Lab:
    """A running lab, seen through the command line."""

    wireloom: str
    name: str

    def inspect(self) -> dict[str, Any]:
        """The document of ``inspect --json``."""
        document: dict[str, Any] = json.loads(self._run("inspect", self.name, "--json"))
        return document

    def run(self, node: str, *command: str) -> str:
        """Standard output of a command in a node; empty when the command failed."""
        return self._run("exec", self.name, node, "--", *command, check=False)

    def _run(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [self.wireloom, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=COMMAND_SECONDS,
            check=check,
        )
        return done.stdout


def all_neighbors_full(table: str) -> bool:
    """Whether FRR's table of OSPF neighbours has entries and each of them is full."""
    neighbors = [line for line in table.splitlines() if NEIGHBOR.match(line)]
    return bool(neighbors) and all(FULL.search(line) for line in neighbors)


def wait_for(what: str, attempt: Callable[[], str], good: Callable[[str], bool]) -> str:
    """Repeat an attempt until its output is good, print it, and return it.

    :raises SystemExit: it did not become good in time.
    """
    began = time.monotonic()
    while True:
        output = attempt()
        seconds = time.monotonic() - began
        if good(output):
            print(f"\n{what}: yes, after {seconds:.1f} s\n{output.strip()}")
            return output
        if seconds > CONVERGENCE_SECONDS:
            sys.exit(f"\n{what}: not within {CONVERGENCE_SECONDS} s\n{output}")
        time.sleep(1)


def lab_address(lab: Lab, node: str) -> str:
    """The first IPv4 address on a port of the node that belongs to the lab.

    :raises SystemExit: there is none.
    """
    listing = lab.run(node, "ip", "-o", "-4", "address", "show", "scope", "global")
    for line in listing.splitlines():
        fields = line.split()
        if fields[1].split("@")[0] != MANAGEMENT_PORT:
            return fields[3].split("/")[0]
    sys.exit(f"{node} has no address in the lab:\n{listing}")


def main() -> None:
    """Check every router, then the path between the first and the last host."""
    parser = argparse.ArgumentParser(description="Show that the demonstration lab works.")
    parser.add_argument("--wireloom", default="wireloom", help="the command to use")
    parser.add_argument("lab")
    options = parser.parse_args()
    lab = Lab(options.wireloom, options.lab)
    nodes = lab.inspect()["nodes"]
    for router in sorted(node["name"] for node in nodes if node["device"] == "frr"):
        wait_for(
            f"OSPF on {router} is full",
            lambda router=router: lab.run(router, "vtysh", "-c", "show ip ospf neighbor"),  # type: ignore[misc]
            all_neighbors_full,
        )
    hosts = sorted(node["name"] for node in nodes if node["device"] != "frr")
    source, target = hosts[0], hosts[-1]
    address = lab_address(lab, target)
    wait_for(
        f"a ping goes from {source} to {target} ({address})",
        lambda: lab.run(source, "ping", "-c", "3", "-W", "2", address),
        lambda output: " 0% packet loss" in output,
    )
    print(f"\nits path, hop by hop:\n{lab.run(source, 'traceroute', '-n', '-w', '1', '-m', '8', address).strip()}")


if __name__ == "__main__":
    main()
