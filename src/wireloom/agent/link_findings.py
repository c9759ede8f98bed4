"""Judging what the data plane of a machine can do, and whether frames truly pass. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from wireloom.agent.probes import Finding, Level
from wireloom.model.network import DataPlaneAbilities, PathTest

__all__ = ["judge_links", "untested_links"]

_NAME: Final = "links"


def untested_links(reason: str) -> Finding:
    """Nothing could be tried."""
    return Finding(
        name=_NAME,
        level=Level.FAIL,
        finding=f"not tested: {reason}",
        meaning="it is not known whether frames pass from node to node",
        advice="run `sudo wireloom doctor` when the checks above are well",
    )


def judge_links(abilities: DataPlaneAbilities, paths: Sequence[PathTest]) -> Iterator[Finding]:
    """A finding for each path that fails, or one for all; and what links on this host cannot have."""
    failed = [path for path in paths if path.problem]
    for path in failed:
        yield Finding(
            name=path.path,
            level=Level.FAIL,
            finding=path.problem,
            meaning=f"the data plane {abilities.name!r} does not carry frames on this kind of path",
            advice=path.hint or "see the log of the agent",
        )
    if not failed:
        finding = f"a frame passed on each of {len(paths)} kinds of path ({abilities.name})"
        yield Finding(name=_NAME, level=Level.OK, finding=finding)
    if abilities.fence:
        yield Finding(
            name="nodes apart from the host",
            level=Level.WARN,
            finding=abilities.fence,
            meaning="what a node sends may reach the host's own IP stack where no link takes it",
            advice="load that module, and have it loaded at boot",
        )
    lacks = dict(_lacks(abilities))
    if lacks:
        yield Finding(
            name="features of links",
            level=Level.WARN,
            finding=f"no {', '.join(lacks)}",
            meaning="topologies that ask for them are refused: " + "; ".join(dict.fromkeys(lacks.values())),
            advice="load the missing kernel modules, or choose another data plane with `dataplane` in the settings",
        )


def _lacks(abilities: DataPlaneAbilities) -> Iterator[tuple[str, str]]:
    for name, reason in (
        ("VLANs in switches", abilities.vlans),
        ("Q-in-Q", abilities.qinq),
        ("VLANs of NICs", abilities.vlan_devices),
        *((f"{part} on links", reason) for part, reason in sorted(abilities.impairments.items())),
        ("impairment towards segments", abilities.impair_from_guest),
    ):
        if reason:
            yield name, reason
