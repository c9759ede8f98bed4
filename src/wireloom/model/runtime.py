"""Values about one runtime on one host: what it should be made of, what an engine says of it, what it can do.

Providers take and give these; planning reads them. Words are common to all technologies.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from wireloom.model.base import Value
from wireloom.model.identity import Identity
from wireloom.model.slice import Bind, PortIntent
from wireloom.model.state import RuntimePhase

__all__ = [
    "Boot",
    "Capabilities",
    "ConsoleRequest",
    "EventKind",
    "ExecResult",
    "GuestFile",
    "ImageInfo",
    "Medium",
    "RuntimeEvent",
    "RuntimeSpec",
    "RuntimeStats",
    "RuntimeStatus",
]


class Capabilities(Value):
    """What a provider on this host can do: data that planning reads, so that refusals come early.

    :ivar available: the engine answers; ``problem`` says why not.
    :ivar attachments: when ports can be made: ``created`` (before start) or ``gated`` (between start and release).
    :ivar carrier: who drops a port's carrier: the host ``device`` or the provider (``Abilities.carrier``).
    :ivar acceleration: ``native`` (no emulation), ``kvm`` or ``tcg`` (emulated, slow).
    :ivar ports_fixed: ports must exist when the runtime is created; later ones need spare ports or a new runtime.
    :ivar exec: commands run in the guest without its network or console.
    :ivar files: ``RuntimeSpec.files`` are honoured; ``media`` names the medium kinds that are.
    :ivar consoles: console kinds that ``console`` serves.
    :ivar binds: host folders can be shown in the guest.
    :ivar fractional_cpu: ``cpu`` may be a fraction of a core.
    :ivar disk: the size of the system disk can be set.
    :ivar pulls: the engine fetches an image that it has not.
    :ivar privileged: privileged runtimes can run on this host.
    :ivar moves: what runtimes keep can be carried to another host.
    :ivar parallel_starts: how many runtimes may start at once with profit.
    """

    name: str
    available: bool = True
    problem: str = ""
    version: str = ""
    attachments: Literal["created", "gated"] = "created"
    carrier: Literal["device", "provider"] = "device"
    acceleration: Literal["native", "kvm", "tcg"] = "native"
    ports_fixed: bool = False
    exec: bool = False
    files: bool = False
    media: frozenset[str] = frozenset()
    consoles: frozenset[str] = frozenset()
    binds: bool = False
    fractional_cpu: bool = False
    disk: bool = False
    pulls: bool = False
    privileged: bool = False
    moves: bool = False
    parallel_starts: int = 4


class GuestFile(Value):
    """A file put into the guest's own file system between create and the first start. Its content may be secret."""

    path: str
    content: bytes = Field(repr=False)
    mode: int = 0o644


class Medium(Value):
    """A medium, ready as a file on the host; ``attach`` says as what the guest sees it.

    A CD and a USB stick are read-only to the guest. So is a disk where its bus knows read-only disks.
    """

    kind: Literal["iso", "fat"]
    path: str
    attach: Literal["cdrom", "usb", "disk"] = "cdrom"


class Boot(Value):
    """One time that a runtime was started: ``number`` 0 is the latest, 1 the one before; when, in UNIX seconds."""

    number: int
    started_at: float


class RuntimeSpec(Value):
    """Everything a provider needs to create one runtime.

    :ivar hostname: the guest's host name (a DNS label).
    :ivar image: as the provider's ``ImageStore`` names it.
    :ivar cpu: cores; ``memory_mb``: MiB; both are limits on every technology.
    :ivar disk_gb: least size of the system disk in GiB, where the technology has one; 0: as the image has it.
    :ivar settings: the provider's own, validated by its ``settings_schema``.
    :ivar folder: the node's folder on this host, existing, owned by the runner; a provider keeps disks, sockets
        and logs in it and nowhere else.
    :ivar storage: sub-folder for persistent disks: survives everything but a wipe.
    :ivar smbios: entries by name (``system.product``), which win over those in ``settings``.
    :ivar dns: name servers and search domains for guests that we configure from outside.
    """

    identity: Identity
    incarnation: int
    spec_hash: str
    hostname: str
    image: str
    cpu: float = 1
    memory_mb: int = 256
    disk_gb: float = 0
    env: dict[str, str] = {}
    binds: tuple[Bind, ...] = ()
    settings: dict[str, Any] = {}
    ports: tuple[PortIntent, ...] = ()
    files: tuple[GuestFile, ...] = ()
    media: tuple[Medium, ...] = ()
    smbios: dict[str, str] = {}
    folder: Path
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    privileged_allowed: bool = False
    mtu: int = 1500  # the largest MTU any of its ports needs at creation

    @property
    def name(self) -> str:
        return self.identity.runtime_name

    @property
    def storage(self) -> Path:
        return self.folder / "storage"


class RuntimeStatus(Value):
    """What the engine says of one runtime now. Times are UNIX seconds.

    ``carriers`` maps a port index to its carrier where ``Capabilities.carrier`` is ``provider``.
    """

    runtime_id: str
    name: str
    identity: Identity
    incarnation: int
    spec_hash: str
    phase: RuntimePhase
    exit_code: int | None = None
    started_at: float | None = None
    detail: str = ""
    carriers: dict[int, bool] = {}


class EventKind(StrEnum):
    CREATED = "created"
    STARTED = "started"
    EXITED = "exited"
    REMOVED = "removed"
    LOST = "lost"  # the engine went away: what is known of its runtimes may be old
    RESYNC = "resync"  # the stream begins, or goes on after an interruption: observe everything again


class RuntimeEvent(Value):
    """Something changed; the receiver observes to learn what. ``LOST`` and ``RESYNC`` name no runtime."""

    kind: EventKind
    runtime_id: str = ""
    node_id: str = ""


class ExecResult(Value):
    """Outcome of a command in the guest. A non-zero ``exit_code`` is a result, not an error."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    channel: str = "exec"


class RuntimeStats(Value):
    """Use of resources: cumulative CPU seconds, memory in bytes (resident, without page cache)."""

    cpu_seconds: float
    memory_bytes: int


class ConsoleRequest(Value):
    """``exec`` runs ``command`` on a terminal in the guest; ``serial`` opens line ``line``."""

    kind: Literal["exec", "serial"]
    command: tuple[str, ...] = ()
    line: int = 0
    columns: int = 80
    rows: int = 24


class ImageInfo(Value):
    """An image on this host: the name to start it by, a content id, and its size in bytes."""

    name: str
    digest: str
    size: int
