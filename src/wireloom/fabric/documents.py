"""What travels on the fabric besides slices and their status: host facts, events, questions and answers.

Subjects and keys (all built in :mod:`wireloom.fabric.subjects`):

=====================  =========================================  =========================================
what                   where                                      written by
=====================  =========================================  =========================================
intent                 KV ``desired``, key ``<host>.<lab id>``    controller
observation            KV ``observed``, key ``<host>.<lab id>``   the host's agent
host facts, heartbeat  KV ``hosts``, key ``<host>`` (with a TTL)  the host's agent
wires between hosts    KV ``peers`` and ``ends``, see              controller, agents
                       :mod:`wireloom.fabric.underlay_documents`
history                stream ``events``, ``events.<host>``       agents and controller
questions              ``rpc.<host>.<method>``                    anyone permitted; typed result or error
lease                  ``lease.<host>``, not stored              the lab's leading controller
byte streams           ``stream.<host>.<session>.{up,down}``      both ends, windowed
=====================  =========================================  =========================================
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from wireloom.model.base import Value
from wireloom.model.console import ConsoleLine
from wireloom.model.network import DataPlaneAbilities
from wireloom.model.orphans import Orphan, Trouble
from wireloom.model.post_boot import BootRecord
from wireloom.model.runtime import Boot, Capabilities
from wireloom.model.underlay import Path, WireGuardPeer

__all__ = [
    "Ability",
    "ConsoleOpen",
    "Disk",
    "EngineFacts",
    "Event",
    "EventLevel",
    "ExecAnswer",
    "ExecQuestion",
    "HostFacts",
    "ImagesAnswer",
    "ImagesQuestion",
    "Lease",
    "LinesAnswer",
    "LinesQuestion",
    "LogOpen",
    "LoopHealth",
    "Nic",
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


class Disk(Value):
    """Room on the file system that holds ``path``, in bytes. ``purpose``: what lies there (``data``, ``docker``, …)."""

    purpose: str
    path: str
    total: int
    free: int


class Nic(Value):
    """A network interface of the host itself, not one of a lab. ``speed``: Mbit/s; ``None``: it does not tell."""

    name: str
    mac: str = ""
    mtu: int = 0
    up: bool = False
    speed: int | None = None
    addresses: tuple[str, ...] = ()


class EngineFacts(Value):
    """An engine of the host. ``version``: as it tells it, empty when it did not answer."""

    name: str
    version: str = ""


class Ability(Value):
    """Something that was tried on the host. ``reason``: why it cannot be had; empty where it can."""

    name: str
    works: bool
    reason: str = ""


class HostFacts(Value):
    """What an agent says of its host; also its heartbeat.

    What an agent of an older version does not tell has its default: ``None``, empty, or 0.

    :ivar kvm: hardware acceleration works; ``nested``: guests can have it as well.
    :ivar cpu_flags: those of :data:`wireloom.model.device.CPU_FLAGS` that the CPU has; ``None``: not told.
    :ivar memory_free_mb: what could be had at this moment, without swapping; ``load``: averages of 1, 5, 15 minutes.
    :ivar abilities: of the kernel, tried in a namespace that was thrown away again: ``netem``, ``8021q``, ``vrf``,
        ``mpls``, ``wireguard``, …
    :ivar privileged: whether nodes can be privileged here; ``None``: not told. ``privileged_reason``: why not.
    :ivar underlay: address at which other hosts reach this one; empty: none is known.
    :ivar underlay_mtu: of the interface that has it; 0: not known.
    :ivar beat: of this heartbeat alone; a :class:`Lease` names the heartbeat that it answers. Empty: none is wanted.
    :ivar probe_port: UDP port at which it answers probes of its peers; 0: it does not.
    :ivar underlay_told: its agent knows of links between hosts.
    :ivar wireguard: how others reach it through WireGuard; ``None``: not, for ``wireguard_reason``.
    :ivar paths: ways to the hosts that it has wires to, as measured.
    :ivar images_count: images in its engines and folders, whoever brought them; ``None``: not told.
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
    architecture: str = ""
    cpu_model: str = ""
    memory_free_mb: int | None = None
    load: tuple[float, ...] = ()
    engines: tuple[EngineFacts, ...] = ()
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    abilities: tuple[Ability, ...] | None = None
    privileged: bool | None = None
    privileged_reason: str = ""
    underlay: str = ""
    underlay_mtu: int = 0
    probe_port: int = 0
    underlay_told: bool = False
    wireguard: WireGuardPeer | None = None
    wireguard_reason: str = ""
    paths: tuple[Path, ...] = ()
    images_count: int | None = None
    beat: str = ""

    def ability(self, name: str) -> bool | None:
        """Whether the kernel of this host can do ``name``; ``None``: not told."""
        return next((item.works for item in self.abilities or () if item.name == name), None)


class Lease(Value):
    """A controller's answer to a heartbeat: which labs the host may run on for a while.

    Only the controller that leads a lab names it, so a host may hear several controllers.

    :ivar beat: :attr:`HostFacts.beat` of the heartbeat that is answered: the lease counts from when that was sent.
    :ivar labs: lab id → generation of the intent that the host must have for the lease to be of use.
    """

    host: str
    beat: str
    labs: dict[str, int] = {}


class Notice(Value):
    """A controller has changed something in the database; the others look there.

    :ivar sender: id of that controller. :ivar lab_id: the lab; empty: something that is no lab's.
    """

    sender: str
    lab_id: str


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


class PruneQuestion(Value):
    """``labs``: ids of the labs that exist; anything of this installation outside them is an orphan.

    :ivar all: also what no lab ever had: images, files, and (to be looked at only) what other installations have.
    :ivar images: remove also what nothing uses and can be had again.
    :ivar only: keys of orphans; nothing else is removed. Empty: everything that was found.
    """

    labs: tuple[str, ...]
    dry_run: bool = True
    all: bool = False
    images: bool = False
    only: tuple[str, ...] = ()


class PruneAnswer(Value):
    """``troubles``: what could not be looked at; it hides nothing else."""

    orphans: tuple[Orphan, ...] = ()
    troubles: tuple[Trouble, ...] = ()


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
