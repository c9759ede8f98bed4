"""What is checked before the first change, node by node. Pure.

A finding stops the node that it concerns and no other; it says what to do. Warnings stop nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from wireloom.errors import CapacityExceeded, NotPermitted, Unavailable, Unsupported, WireloomError
from wireloom.fabric.documents import HostFacts
from wireloom.model.topology import NodeSpec
from wireloom.planning.placement import Choice

__all__ = ["OVERCOMMIT", "Candidate", "Findings", "ImageRef", "check", "unsuited"]

#: Reserved memory may exceed the host's by this factor: a limit is rarely used up, and engines share pages.
OVERCOMMIT: Final = 2.0


@dataclass(frozen=True)
class Candidate:
    """A node and the host chosen for it; ``None``: none was found. ``allow_privileged``: the user's consent.

    :ivar refusal: why placement found none.
    """

    spec: NodeSpec
    host: str | None
    power: Literal["on", "off"] = "on"
    allow_privileged: bool = False
    refusal: WireloomError | None = None


class ImageRef(NamedTuple):
    """An image on a host."""

    host: str
    provider: str
    image: str


@dataclass
class Findings:
    """Errors by node name, and warnings as sentences. ``placement``: where each node goes, and why."""

    problems: dict[str, WireloomError] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    placement: Mapping[str, Choice] = field(default_factory=dict)


def check(
    candidates: Sequence[Candidate],
    facts: Mapping[str, HostFacts],
    reserved_mb: Mapping[str, int],
    missing: Mapping[ImageRef, WireloomError] | None = None,
    secrets: Container[str] | None = None,
    *,
    overcommit: float = OVERCOMMIT,
) -> Findings:
    """Check ``candidates`` against hosts.

    :param facts: of hosts that live, by name.
    :param reserved_mb: memory that nodes of other labs reserve, in MiB by host.
    :param missing: images that a host has not and cannot fetch, as far as it was asked.
    :param secrets: names of those that users gave; ``None``: not known.
    :param overcommit: reserved memory may exceed a host's by this factor.
    """
    missing = missing or {}
    findings = Findings()
    used = dict(reserved_mb)
    for candidate in candidates:
        problem = candidate.refusal or _host_problem(candidate, facts) or unsuited(candidate, facts, missing)
        problem = problem or _secret_problem(candidate, secrets)
        problem = problem or _memory_problem(candidate, facts, used, overcommit)
        if problem is not None:
            findings.problems[candidate.spec.name] = problem
    _block_dependents(candidates, findings)
    findings.warnings += _memory_warnings(facts, used)
    findings.warnings += _core_warnings(candidates, facts, findings.problems)
    return findings


def unsuited(
    candidate: Candidate, facts: Mapping[str, HostFacts], missing: Mapping[ImageRef, WireloomError]
) -> WireloomError | None:
    """What the node needs and its host, which has to be one of ``facts``, has not; room for it is not looked at."""
    return (
        _provider_problem(candidate, facts)
        or _device_problem(candidate)
        or _privilege_problem(candidate, facts)
        or _need_problem(candidate, facts)
        or _image_problem(candidate, missing)
    )


def _host_problem(candidate: Candidate, facts: Mapping[str, HostFacts]) -> WireloomError | None:
    name = candidate.spec.name
    wanted = candidate.host or candidate.spec.host
    if wanted is None:
        return Unavailable("no host is connected", node=name, hint="start an agent: `sudo wireloom up`")
    if wanted not in facts:
        living = ", ".join(sorted(facts)) or "none"
        return Unavailable(f"host {wanted} does not answer", node=name, hint=f"hosts that do: {living}")
    return None


def _provider_problem(candidate: Candidate, facts: Mapping[str, HostFacts]) -> WireloomError | None:
    node, host = candidate.spec, facts[candidate.host or ""]
    offered = {provider.name: provider for provider in host.providers}
    capabilities = offered.get(node.provider)
    if capabilities is None:
        names = ", ".join(sorted(offered)) or "none"
        return Unsupported(
            f"host {host.host} has no provider {node.provider}",
            node=node.name,
            hint=f"providers there: {names}; choose one with `provider:`",
        )
    if not capabilities.available:
        return Unavailable(
            f"provider {node.provider} on {host.host} is not available: {capabilities.problem}",
            node=node.name,
            hint="`wireloom doctor` on that host says what is missing",
        )
    if node.cpu != int(node.cpu) and not capabilities.fractional_cpu:
        return Unsupported(
            f"provider {node.provider} cannot give a fraction of a core (cpu: {node.cpu:g})",
            node=node.name,
            hint=f"write `cpu: {max(1, round(node.cpu))}`",
        )
    chosen = node.origins.get("disk")
    if node.disk_gb and not capabilities.disk and chosen is not None and chosen.layer == "node":
        return Unsupported(
            f"provider {node.provider} cannot set the size of a disk (disk: {node.disk_gb:g})",
            node=node.name,
            hint="remove `disk`; what the node writes takes room on the host as it needs it",
        )
    if node.binds and not capabilities.binds:
        return Unsupported(
            f"provider {node.provider} cannot show host folders in the guest", node=node.name, hint="remove `binds`"
        )
    return None


def _device_problem(candidate: Candidate) -> WireloomError | None:
    node = candidate.spec
    if not node.machines:
        return None
    return Unsupported(
        f"device {node.device} is made of {len(node.machines) + 1} machines (also {', '.join(node.machines)}),"
        " and such nodes cannot be run yet",
        node=node.name,
        hint="`provider: simulated` stands in for it",
    )


def _privilege_problem(candidate: Candidate, facts: Mapping[str, HostFacts]) -> WireloomError | None:
    node, host = candidate.spec, facts[candidate.host or ""]
    if node.settings.get("privileged") is not True and "privileged" not in {*node.needs, *node.image_needs}:
        return None
    if not candidate.allow_privileged:
        return NotPermitted(
            "it wants to run privileged, and this deployment does not allow it",
            node=node.name,
            hint="allow privileged nodes when you deploy, if you trust the image",
        )
    if not any(item.name == node.provider and item.privileged for item in host.providers):
        return Unsupported(
            f"host {host.host} cannot run privileged nodes",
            node=node.name,
            hint="name the capabilities that it needs, or use another host",
        )
    return None


def _need_problem(candidate: Candidate, facts: Mapping[str, HostFacts]) -> WireloomError | None:
    """What device and image need and the host has not; ``privileged`` is checked with the user's consent."""
    node, host = candidate.spec, facts[candidate.host or ""]
    problem = next(filter(None, (_unmet(need, host) for need in node.needs)), "")
    if problem:
        return Unsupported(
            f"device {node.device} needs {problem}",
            node=node.name,
            hint="use another host, or say in an override of the device that it works without (`needs: []`)",
        )
    problem = next(filter(None, (_unmet(need, host) for need in node.image_needs)), "")
    if problem:
        return Unsupported(
            f"image {node.image} needs {problem}",
            node=node.name,
            hint="use another host or another image; `wireloom images extract` takes the disk out of one that wraps a"
            " virtual machine",
        )
    return None


def _unmet(need: str, host: HostFacts) -> str:
    """What is missing on ``host``, in words; empty when it is there or the host does not tell."""
    if need == "kvm" and not host.kvm:
        return f"hardware acceleration, and host {host.host} has none: {host.kvm_reason}"
    if need == "nested" and not host.nested:
        reason = host.kvm_reason if not host.kvm else "the kernel's module has `nested` off"
        return f"hardware acceleration inside of its machine, and host {host.host} cannot give it: {reason}"
    kind, _, flag = need.partition(":")
    if kind == "cpu" and host.cpu_flags is not None and flag not in host.cpu_flags:
        return f"a CPU with {flag}, and that of host {host.host} has not"
    if kind == "arch" and host.architecture and flag != host.architecture:
        return f"a machine of architecture {flag}, and host {host.host} is {host.architecture}"
    if kind == "kernel" and host.ability(flag) is False:
        return f"a kernel with {flag}, and that of host {host.host} has not"
    return ""


def _secret_problem(candidate: Candidate, secrets: Container[str] | None) -> WireloomError | None:
    node = candidate.spec
    if secrets is None or candidate.power == "off":
        return None
    lacking = next((secret for secret in node.secrets if secret.name not in secrets), None)
    return None if lacking is None else lacking.not_given(node.device, node.name)


def _image_problem(candidate: Candidate, missing: Mapping[ImageRef, WireloomError]) -> WireloomError | None:
    node = candidate.spec
    problem = missing.get(ImageRef(candidate.host or "", node.provider, node.image))
    if problem is None or candidate.power == "off":
        return None
    return type(problem)(problem.message, hint=problem.hint, node=node.name, details=problem.details)


def _memory_problem(
    candidate: Candidate, facts: Mapping[str, HostFacts], used: dict[str, int], overcommit: float
) -> WireloomError | None:
    """Reserve the node's memory on its host, or say why that is not possible."""
    node, host = candidate.spec, facts[candidate.host or ""]
    if candidate.power == "off" or not host.memory_mb:
        return None
    reserved = used.get(host.host, 0) + node.memory_mb
    if node.memory_mb > host.memory_mb or reserved > host.memory_mb * overcommit:
        return CapacityExceeded(
            f"host {host.host} has no room for {node.memory_mb} MiB: {reserved - node.memory_mb} MiB of"
            f" {host.memory_mb} MiB are promised already",
            node=node.name,
            hint="stop other nodes, lower `memory`, or use a larger host",
        )
    used[host.host] = reserved
    return None


def _block_dependents(candidates: Iterable[Candidate], findings: Findings) -> None:
    """A node that waits for a refused one could never start; say so instead of letting it wait."""
    grown = True
    while grown:
        grown = False
        for node in (candidate.spec for candidate in candidates):
            cause = next((other for other in node.depends_on if other in findings.problems), None)
            if cause is not None and node.name not in findings.problems:
                findings.problems[node.name] = Unavailable(
                    f"it depends on {cause}, which cannot run", node=node.name, hint=f"solve the problem of {cause}"
                )
                grown = True


def _memory_warnings(facts: Mapping[str, HostFacts], used: Mapping[str, int]) -> Iterable[str]:
    for name, host in facts.items():
        if host.memory_mb and used.get(name, 0) > host.memory_mb:
            yield f"nodes on {name} may use {used[name]} MiB of memory together, and it has {host.memory_mb} MiB"


def _core_warnings(
    candidates: Iterable[Candidate], facts: Mapping[str, HostFacts], refused: Container[str]
) -> Iterable[str]:
    for candidate in candidates:
        host, node = facts.get(candidate.host or ""), candidate.spec
        if host is not None and candidate.power == "on" and node.cpu > host.cpus and node.name not in refused:
            yield f"{node.name} wants {node.cpu:g} cores, and its host {host.host} has {host.cpus}: it gets no more"
