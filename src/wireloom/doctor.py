"""``wireloom doctor``: brings the readings of the machine together with what the providers decide for themselves."""

from __future__ import annotations

from wireloom.agent.facts import read_machine
from wireloom.agent.probes import Finding, judge
from wireloom.errors import Unavailable
from wireloom.providers.docker.gate import find_busybox
from wireloom.providers.libvirt.acceleration import probe
from wireloom.settings import Settings

__all__ = ["examine"]


def examine(settings: Settings) -> list[Finding]:
    """Every check of this machine. Blocks for some seconds; changes nothing."""
    acceleration = probe(settings.acceleration)
    try:
        busybox: str | None = str(find_busybox())
    except Unavailable:
        busybox = None
    readings = read_machine(
        settings, kvm=acceleration.kind == "kvm", kvm_reason=acceleration.reason, static_busybox=busybox
    )
    return judge(readings)
