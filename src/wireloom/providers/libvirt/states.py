"""libvirt's states and events in the contract's words: pure tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import libvirt

from wireloom.model.runtime import EventKind
from wireloom.model.state import RuntimePhase
from wireloom.providers.libvirt.metadata import Run

__all__ = ["Observed", "event_kind", "interpret"]

#: Why a shut-off domain ended: exit code and words. Reasons that libvirt forgot (host or engine restart) have no code.
_ENDINGS: Final[dict[int, tuple[int | None, str]]] = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: (0, "shut down by the guest"),
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: (0, "saved"),
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: (1, "powered off"),
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: (1, "the emulator ended unexpectedly"),
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: (1, "it failed to start"),
    libvirt.VIR_DOMAIN_SHUTOFF_DAEMON: (1, "ended by the engine"),
}

_PAUSES: Final = {
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: "paused: a disk of the host failed or is full",
    libvirt.VIR_DOMAIN_PAUSED_WATCHDOG: "paused by its watchdog",
    libvirt.VIR_DOMAIN_PAUSED_CRASHED: "paused: the guest crashed",
}

_EVENTS: Final = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: EventKind.STARTED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: EventKind.STARTED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: EventKind.EXITED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: EventKind.EXITED,
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: EventKind.REMOVED,
}

_LIVE: Final = {
    libvirt.VIR_DOMAIN_RUNNING: RuntimePhase.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: RuntimePhase.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: RuntimePhase.RUNNING,
    libvirt.VIR_DOMAIN_PMSUSPENDED: RuntimePhase.SUSPENDED,
}


@dataclass(frozen=True)
class Observed:
    """A domain's phase, and how it ended if it did."""

    phase: RuntimePhase
    exit_code: int | None = None
    detail: str = ""


def interpret(state: int, reason: int, run: Run | None, *, process_alive: bool = True) -> Observed:
    """The phase of a domain in libvirt's ``state`` with ``reason``.

    :param run: its last start, as the metadata recorded it; tells the gate from a suspended guest, and a domain that
        never ran from one that ended.
    :param process_alive: whether its emulator lives. libvirt can take seconds to notice that it died.
    """
    if state in {libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED}:
        return _ended(state, reason, run)
    if not process_alive:
        by_guest = state == libvirt.VIR_DOMAIN_SHUTDOWN
        return Observed(RuntimePhase.EXITED, 0 if by_guest else 1, "the emulator has ended")
    if state == libvirt.VIR_DOMAIN_PAUSED:
        if run is None or not run.released:
            return Observed(RuntimePhase.GATED)
        return Observed(RuntimePhase.SUSPENDED, detail=_PAUSES.get(reason, "paused"))
    return Observed(_LIVE.get(state, RuntimePhase.UNKNOWN))


def _ended(state: int, reason: int, run: Run | None) -> Observed:
    if run is None:
        return Observed(RuntimePhase.CREATED)
    if state == libvirt.VIR_DOMAIN_CRASHED:
        return Observed(RuntimePhase.EXITED, 1, "the guest crashed")
    code, words = _ENDINGS.get(reason, (None, "ended while the host or its engine was down"))
    return Observed(RuntimePhase.EXITED, code, words)


def event_kind(event: int, detail: int) -> EventKind | None:
    """What a lifecycle event means to the contract; ``None`` for one that changes nothing there."""
    if event == libvirt.VIR_DOMAIN_EVENT_DEFINED:
        return EventKind.CREATED if detail == libvirt.VIR_DOMAIN_EVENT_DEFINED_ADDED else None
    return _EVENTS.get(event)
