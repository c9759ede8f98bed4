"""The provider contract: what a technology must be able to do with one runtime, and no more.

A provider is a leaf. It never sees labs, policy, links, databases or events; the agent's runner owns every
verb around it. Rules that hold for each verb of each provider (the conformance suite proves them):

* **Idempotent.** Starting what runs, stopping what is stopped, destroying what is gone: no error, no effect.
* **Found by labels.** A provider keeps no state of its own. A ``runtime_id`` is the engine's own id, and
  ``observe`` finds every runtime of the installation again after a restart of anything. A runtime that is made anew
  has the id of the one before exactly where it finds that one's system disk again.
* **No debris.** A verb that fails leaves nothing behind that was not there before it.
* **Deadlines.** Each call ends within its own deadline or raises ``DeadlineExceeded``; cancelling it is safe.
* **Errors** are those of :mod:`wireloom.errors`: ``ImageMissing``, ``Unavailable`` (engine gone),
  ``InvalidInput`` (settings), ``Unsupported``, ``NotFound`` (no such runtime), ``RuntimeFailed``.
* **Never blocks the loop.**

Life of a runtime: ``create`` → ``start`` (up to the gate: none of the guest's code runs) → the data plane plugs
its ports → ``release`` → running → ``stop`` (storage is kept) → ``start`` … → ``destroy``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from wireloom.model.attachment import Attachment
from wireloom.model.images import ImageFormat
from wireloom.model.orphans import Leftover, OtherRuntime
from wireloom.model.runtime import (
    Boot,
    Capabilities,
    ConsoleRequest,
    EventKind,
    ExecResult,
    GuestFile,
    ImageInfo,
    Medium,
    RuntimeEvent,
    RuntimeSpec,
    RuntimeStats,
    RuntimeStatus,
)
from wireloom.model.slice import PortIntent

__all__ = [
    "GUEST_FILE_MOST",
    "Abilities",
    "Boot",
    "ByteStream",
    "Capabilities",
    "CarrierControl",
    "ConsoleRequest",
    "Credentials",
    "EventKind",
    "ExecResult",
    "FileAccess",
    "GuestFile",
    "Health",
    "HealthCheck",
    "Housekeeping",
    "ImageInfo",
    "ImageSaver",
    "ImageStore",
    "Medium",
    "Provider",
    "RecentOutput",
    "RuntimeEvent",
    "RuntimeSpec",
    "RuntimeStats",
    "RuntimeStatus",
    "StoragePorter",
]

#: The largest file that :class:`FileAccess` gives, in bytes: what an answer over the fabric can hold.
GUEST_FILE_MOST: Final = 4 << 20

Health = Literal["healthy", "unhealthy", "unknown"]


class ByteStream(Protocol):
    """A two-way stream of bytes with a terminal at its far end."""

    async def read(self) -> bytes:
        """The next bytes, at least one; ``b""`` at the end of the stream."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the far end the terminal's size; without effect where the line has no size."""
        ...

    async def close(self) -> None:
        """Release the stream; idempotent. A serial line stays alive in the guest."""
        ...


@dataclass(frozen=True)
class Credentials:
    """What a registry is shown for one pull; kept nowhere."""

    username: str
    password: str = field(repr=False)


class ImageStore(Protocol):
    """A provider's images on this host. ``ImageInfo.digest`` is what an image's content is known by."""

    #: The form of file that :meth:`load` takes and :meth:`export` makes.
    format: ImageFormat

    async def has(self, image: str) -> bool: ...

    async def info(self, image: str) -> ImageInfo | None:
        """What is there under that name; ``None``: nothing. Cheap: content that was read before is not read again."""
        ...

    async def load(
        self, image: str, source: Path | None = None, *, content: str = "", credentials: Credentials | None = None
    ) -> ImageInfo:
        """Make ``image`` present: from the file ``source``, or by pulling it where the engine can.

        What has the name by now loses it when the new one is there, and not before; it goes when nothing uses it.
        One that was found damaged is made anew. ``source`` may be linked to, and is never changed.

        :param content: what :class:`ImageInfo` must say of it; a load that ends otherwise is undone.
        :param credentials: for a pull.
        :raises ImageMissing: neither is possible, or the content is another (``details``: ``wanted`` and ``found``);
            the hint says what to do.
        :raises Conflict: a runtime uses what has the name, and would lose it.
        :raises CapacityExceeded: there is no room for it.
        """
        ...

    async def verify(self, image: str) -> ImageInfo:
        """Read it again, all that can be read, and say what it is now. :raises ImageMissing: it is damaged, or gone."""
        ...

    async def export(self, image: str, target: Path) -> None:
        """Write it to the new file ``target``, in the store's ``format``, whole or not at all.

        :raises ImageMissing: it is not there, or is damaged. :raises CapacityExceeded: there is no room for it.
        """
        ...

    async def remove(self, image: str) -> None:
        """Idempotent. :raises Conflict: a runtime uses it."""
        ...

    async def list(self) -> Sequence[ImageInfo]: ...


class ImageSaver(Protocol):
    """Ability to make an image of a runtime: its system disk, or its file system with what its image starts."""

    async def save(self, runtime_id: str, target: Path) -> None:
        """Write the new file ``target``, which stands alone, in the format of the provider's images, whole or not at
        all. Nothing of the runtime's own is in it (name, settings, what was shown to it); the runtime stays as it is.

        :raises NotFound: no such runtime. :raises Conflict: it is not down. :raises CapacityExceeded: no room for it.
        """
        ...


class StoragePorter(Protocol):
    """Ability to carry what a runtime keeps to another host. The runtime is down; its folder's files are carried by the
    agent, so this is about what else there is, and about what in these files is true of one host only.
    """

    async def pack(self, runtime_id: str | None, folder: Path) -> Mapping[str, str]:
        """Put what the engine itself keeps of the runtime into files below ``folder/storage``; may be done again.

        :param runtime_id: ``None``: there is no runtime, only its folder.
        :returns: what :meth:`settle` has to know.
        :raises Conflict: it is not down. :raises CapacityExceeded: no room for it.
        """
        ...

    async def settle(self, folder: Path, image: str, facts: Mapping[str, str]) -> None:
        """Make files that came from another host right for this one; may be done again. ``image`` is here by now.

        :raises ImageMissing: what the files stand on is not what they stood on.
        """
        ...

    async def unpack(self, runtime_id: str, folder: Path) -> None:
        """Give a runtime that was made, and never started, what :meth:`pack` put aside; without effect when there is
        nothing, or it was done before."""
        ...


class CarrierControl(Protocol):
    """Ability of a provider whose host devices cannot drop the guest's carrier themselves."""

    async def set_carrier(self, runtime_id: str, carriers: Mapping[int, bool]) -> None:
        """Set carriers by port index; on a runtime that is down they hold for the next start."""
        ...


class RecentOutput(Protocol):
    """Ability to say what a console line has shown lately, from the engine's own log of it."""

    async def recent(self, runtime_id: str, line: int, size: int) -> bytes:
        """The last ``size`` bytes, or fewer, that serial ``line`` wrote since power-on; ``b""`` when none are kept."""
        ...


class FileAccess(Protocol):
    """Ability of a provider that can read the guest's own file system from outside."""

    async def read(self, runtime_id: str, path: str) -> bytes:
        """The regular file at ``path`` (absolute, in the guest), at most ``GUEST_FILE_MOST`` bytes; links are followed
        as the guest itself would, and never lead out of it.

        :raises NotFound: there is no such file, or no such runtime.
        :raises InvalidInput: the path is not absolute, or names no regular file.
        :raises GuestFailed: the file is larger than that.
        """
        ...


class HealthCheck(Protocol):
    """Ability of a provider whose guests, or agents in them, can say how they are."""

    async def health(self, runtime_id: str) -> Health:
        """``unknown`` where this guest has no such check, which does not change during a boot.

        :raises NotFound: no such runtime. :raises WireloomError: it cannot be asked now.
        """
        ...


class Housekeeping(Protocol):
    """Ability to say what an engine holds beside the runtimes of this installation."""

    async def others(self) -> Sequence[OtherRuntime]:
        """Runtimes of other installations; they are never touched."""
        ...

    async def leftovers(self) -> Sequence[Leftover]:
        """What interrupted steps of this installation left. What a step that goes on has made is not among it."""
        ...

    async def discard(self, leftover: Leftover) -> None:
        """Remove it; idempotent. :raises Conflict: a runtime, or a step that goes on, uses it by now."""
        ...


@dataclass(frozen=True)
class Abilities:
    """Optional abilities; ``None`` means that the provider lacks it. Read as data, never probed."""

    carrier: CarrierControl | None = None
    files: FileAccess | None = None
    health: HealthCheck | None = None
    recent: RecentOutput | None = None
    saver: ImageSaver | None = None
    porter: StoragePorter | None = None
    housekeeping: Housekeeping | None = None


class Provider(Protocol):
    """One technology on one host. See the module's text for the rules that hold for every verb."""

    name: str
    abilities: Abilities
    images: ImageStore

    def settings_schema(self) -> dict[str, Any]:
        """JSON Schema of ``RuntimeSpec.settings``, for device files and topologies."""
        ...

    async def capabilities(self) -> Capabilities:
        """What this host can do. Never raises: an engine that does not answer is ``available=False``."""
        ...

    async def observe(self, runtime_id: str | None = None) -> Sequence[RuntimeStatus]:
        """Every runtime of this installation, or the one named (empty when it is gone)."""
        ...

    async def create(self, spec: RuntimeSpec) -> str:
        """Make the runtime, not started, and return its id. One that already exists for the node is returned
        when its spec hash and incarnation are equal; otherwise :raises Conflict:."""
        ...

    async def start(self, runtime_id: str) -> None:
        """Bring it to the gate (phase ``gated``)."""
        ...

    async def release(self, runtime_id: str) -> None:
        """Open the gate: the guest's own code begins to run."""
        ...

    async def stop(self, runtime_id: str, grace_s: float) -> None:
        """Ask the guest to end, then end it after ``grace_s`` seconds (0: at once). Storage is kept."""
        ...

    async def destroy(self, runtime_id: str) -> None:
        """End and remove the runtime. Files in the node's folder are the runner's to remove."""
        ...

    async def attachment(self, runtime_id: str, port: PortIntent) -> Attachment | None:
        """How ``port`` is plugged now; ``None`` while it cannot be (e.g. before start)."""
        ...

    async def console(self, runtime_id: str, request: ConsoleRequest) -> ByteStream:
        """:raises Unsupported: the kind is not among ``Capabilities.consoles``."""
        ...

    async def exec(
        self, runtime_id: str, command: Sequence[str], *, timeout_s: float, stdin: bytes = b""
    ) -> ExecResult:
        """Run ``command`` in the guest. :raises Unsupported: where ``Capabilities.exec`` is false."""
        ...

    def boot_log(self, runtime_id: str, *, follow: bool = False, boot: int = 0) -> AsyncGenerator[bytes, None]:
        """Output of the console in one boot (or the engine's log of it), also after the runtime has stopped.

        :param boot: 0 is the present or last one, 1 the one before. At least three earlier ones are kept, each up to a
            bound; what is kept survives stops and starts, not a destroy.
        :param follow: go on with what comes, to the end of the present boot.
        :raises NotFound: nothing is kept of that boot.
        """
        ...

    async def boots(self, runtime_id: str) -> Sequence[Boot]:
        """The boots of which a log is kept, newest first; empty before the first start."""
        ...

    async def stats(self, runtime_id: str) -> RuntimeStats: ...

    def watch(self) -> AsyncIterator[RuntimeEvent]:
        """Events of this installation's runtimes, for ever; survives a restart of the engine (``LOST``, ``RESYNC``)."""
        ...

    async def close(self) -> None:
        """Let go of the engine. Runtimes keep running."""
        ...
