"""What the runner and its hooks hold while they work on one node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from wireloom.agent.folder import NodeFolder
from wireloom.agent.undo import Undo
from wireloom.library.values import no_progress
from wireloom.model.identity import Identity
from wireloom.model.runtime import Capabilities, GuestFile, Medium
from wireloom.model.slice import Bind, NodeIntent, Slice
from wireloom.model.state import NodeStep
from wireloom.providers.contract import Provider

__all__ = ["NodeContext"]


@dataclass
class NodeContext:
    """One node at work.

    ``files``, ``media``, ``binds`` and ``smbios`` are gathered by hooks before the runtime is created, and ``undo``
    takes back what they made when it cannot be created. ``medium_files`` go onto the day-0 medium, path to content;
    neither they nor ``files`` are shown. ``progress`` is told of each step, and ``transfer`` of bytes that are there,
    of those that come in the step.
    """

    lab: Slice
    node: NodeIntent
    identity: Identity
    provider: Provider
    capabilities: Capabilities
    folder: NodeFolder
    progress: Callable[[NodeStep], None]
    runtime_id: str | None = None
    files: list[GuestFile] = field(default_factory=list, repr=False)
    medium_files: dict[str, bytes] = field(default_factory=dict, repr=False)
    media: list[Medium] = field(default_factory=list)
    binds: list[Bind] = field(default_factory=list)
    smbios: dict[str, str] = field(default_factory=dict)
    transfer: Callable[[int, int], None] = no_progress
    undo: Undo = field(default_factory=Undo)

    @property
    def live_runtime_id(self) -> str:
        """The runtime's id once it exists."""
        if self.runtime_id is None:
            raise RuntimeError(f"{self.node.name} has no runtime yet")
        return self.runtime_id
