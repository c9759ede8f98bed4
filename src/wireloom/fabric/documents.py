"""What travels on the fabric besides slices and their status: host facts, events, questions and answers.

Subjects and keys (all built in :mod:`wireloom.fabric.subjects`):

=====================  =========================================  =========================================
what                   where                                      written by
=====================  =========================================  =========================================
intent                 KV ``desired``, key ``<host>.<lab id>``    controller
observation            KV ``observed``, key ``<host>.<lab id>``   the host's agent
host facts, heartbeat  KV ``hosts``, key ``<host>`` (with a TTL)  the host's agent
history                stream ``events``, ``events.<host>``       agents and controller
questions              ``rpc.<host>.<method>``                    anyone permitted; typed result or error
byte streams           ``stream.<host>.<session>.{up,down}``      both ends, windowed
=====================  =========================================  =========================================
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from wireloom.model.base import Value
from wireloom.model.console import ConsoleLine
from wireloom.model.network import DataPlaneAbilities
from wireloom.model.post_boot import BootRecord
from wireloom.model.runtime import Boot, Capabilities

__all__ = [
    "ConsoleOpen",
    "Event",
    "EventLevel",
    "ExecAnswer",
    "ExecQuestion",
    "HostFacts",
    "ImagesAnswer",
    "ImagesQuestion",
    "LinesAnswer",
    "LinesQuestion",
    "LogOpen",
    "LoopHealth",
    "Orphan",
    "PostBootAnswer",
    "PostBootQuestion",
    "PruneAnswer",
    "PruneQuestion",
    "StatsAnswer",
    "StatsQuestion",
]


class LoopHealth(Value):
    """Liveness of one loop of an agent; ``last_success`` in UNIX seconds, stale after ``stale_after_s``."""

    name: str
    last_success: float
    stale_after_s: float


class HostFacts(Value):
    """What an agent says of its host; also its heartbeat.

    :ivar kvm: hardware acceleration works; ``nested``: guests can have it as well.
    :ivar cpu_flags: those of :data:`wireloom.model.device.CPU_FLAGS` that the CPU has; ``None``: not told.
    """

    host: str
    version: str
    installation: str
    time: float
    kernel: str = ""
    os: str = ""
    cpus: int = 1
    memory_mb: int = 0
    kvm: bool = False
    kvm_reason: str = ""
    nested: bool = False
    cpu_flags: tuple[str, ...] | None = None
    providers: tuple[Capabilities, ...] = ()
    dataplane: DataPlaneAbilities = DataPlaneAbilities()
    loops: tuple[LoopHealth, ...] = ()
    problems: tuple[str, ...] = ()
    management_subnet: str = ""
    labs: int = 0
    nodes: int = 0


class EventLevel(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Event(Value):
    """One line of history. ``kind`` is a stable dotted word, e.g. ``node.ready``, ``link.down``, ``node.failed``."""

    time: float
    host: str = ""
    lab: str = ""
    node: str = ""
    kind: str
    level: EventLevel = EventLevel.INFO
    message: str
    details: dict[str, Any] = {}


class ExecQuestion(Value):
    """Run a command in a node; ``command`` is an argument list, run over the node's chain of channels."""

    lab_id: str
    node_id: str
    command: tuple[str, ...]
    timeout_s: float = 60
    stdin: bytes = b""


class ExecAnswer(Value):
    """``channel`` answered; ``tried`` says why each earlier channel of the chain did not, ``skipped`` which of them the
    node does not have.
    """

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    channel: str = ""
    tried: dict[str, str] = {}
    skipped: dict[str, str] = {}


class ImagesQuestion(Value):
    """Are these images there? ``wanted``: provider → names."""

    wanted: dict[str, tuple[str, ...]]


class ImagesAnswer(Value):
    """By provider: ``missing`` images cannot be had (name → wire form of the error), ``absent`` ones are fetched by
    the engine when they are needed, as far as it can reach them. What is not named is there."""

    missing: dict[str, dict[str, dict[str, Any]]] = {}
    absent: dict[str, tuple[str, ...]] = {}


class PostBootQuestion(Value):
    lab_id: str
    node_id: str


class PostBootAnswer(Value):
    """What post-boot commands did in the newest boots, the newest first."""

    boots: tuple[BootRecord, ...] = ()


class StatsQuestion(Value):
    lab_id: str
    node_id: str


class StatsAnswer(Value):
    cpu_seconds: float
    memory_bytes: int


class Orphan(Value):
    """Something on a host with our labels that no lab wants. ``kind``: runtime, port, segment, folder."""

    kind: str
    provider: str = ""
    id: str
    name: str
    lab: str = ""
    node: str = ""
    removed: bool = False
    error: dict[str, Any] | None = None


class PruneQuestion(Value):
    """``labs``: ids of the labs that exist; anything of this installation outside them is an orphan."""

    labs: tuple[str, ...]
    dry_run: bool = True


class PruneAnswer(Value):
    orphans: tuple[Orphan, ...] = ()


class ConsoleOpen(Value):
    """Open a node's console; its device says what that is. ``read_only`` takes no writer lease.

    ``who`` opens it, as others on the line are told; ``notices``: the asking end understands messages beside bytes.
    """

    lab_id: str
    node_id: str
    columns: int = 80
    rows: int = 24
    read_only: bool = False
    line: int | None = None
    who: str = ""
    notices: bool = False


class LinesQuestion(Value):
    """Who is on the console lines of a node?"""

    lab_id: str
    node_id: str


class LinesAnswer(Value):
    """Lines that the agent holds open; one that nobody opened since the agent started is not listed."""

    lines: tuple[ConsoleLine, ...] = ()


class LogOpen(Value):
    """Open a node's boot log: everything since power-on, and with ``follow`` what comes; ``boot`` counts back."""

    lab_id: str
    node_id: str
    follow: bool = False
    boot: int = 0


class BootsQuestion(Value):
    """Of which boots of a node is there a log?"""

    lab_id: str
    node_id: str


class BootsAnswer(Value):
    """Newest first."""

    boots: tuple[Boot, ...] = ()
