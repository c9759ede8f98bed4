"""What lies on hosts and belongs to no lab: as providers, agents and the API tell it.

Routes: ``GET /discover`` → :class:`DiscoverView`; ``POST /prune`` (:class:`PruneRequest`) → ``list[Orphan]``;
``POST /adopt`` (:class:`AdoptRequest`) → :class:`AdoptView`.
"""

from __future__ import annotations

from typing import Any, Literal

from wireloom.model.base import Value
from wireloom.model.identity import Identity
from wireloom.model.views import OperationView

__all__ = [
    "AdoptRequest",
    "AdoptView",
    "AdoptedNode",
    "DiscoverView",
    "HostFinds",
    "Leftover",
    "Orphan",
    "OtherRuntime",
    "PruneRequest",
    "Trouble",
    "Why",
]

#: Why it is told: no lab wants it; it is another installation's, and never touched; an interrupted step has left it;
#: nothing uses it, and it can be had again.
Why = Literal["no-lab", "other-installation", "leftover", "unused"]


class OtherRuntime(Value):
    """A runtime of another installation on the same engine."""

    runtime_id: str
    name: str
    identity: Identity
    running: bool = False


class Leftover(Value):
    """Something of ours in an engine or folder that is no runtime. ``size``: bytes that go with it.

    :ivar unused: whole, but nothing uses it; else it is what an interrupted step has left.
    """

    id: str
    kind: Literal["image", "file"]
    name: str
    size: int = 0
    unused: bool = False
    detail: str = ""


class Orphan(Value):
    """Something on a host that no lab wants, or that could not be looked at: then ``error`` says why.

    :ivar kind: ``runtime``, ``folder`` (of a node, with its disks), ``port``, ``tunnel``, ``segment``, ``image``,
        ``file``; ``host`` is one that could not be asked.
    :ivar size: bytes that go with it, where that is known.
    :ivar incarnation: of a runtime or folder; ``spec_hash``: of what the runtime was made of.
    """

    kind: str
    provider: str = ""
    id: str
    name: str
    lab: str = ""
    node: str = ""
    removed: bool = False
    error: dict[str, Any] | None = None
    host: str = ""
    why: Why = "no-lab"
    lab_id: str = ""
    node_id: str = ""
    installation: str = ""
    size: int = 0
    detail: str = ""
    running: bool = False
    incarnation: int = 0
    spec_hash: str = ""

    @property
    def key(self) -> str:
        """Names it on its host."""
        return f"{self.kind} {self.provider} {self.id}"


class Trouble(Value):
    """A part of a host that could not be looked at: ``source`` is an engine, ``network`` or ``files``."""

    source: str
    error: dict[str, Any]


class HostFinds(Value):
    """What was found on one host. ``error``: it could not be asked at all; ``troubles``: parts of it could not."""

    host: str
    found: tuple[Orphan, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    error: dict[str, Any] | None = None


class DiscoverView(Value):
    """By host, also those that do not answer."""

    hosts: tuple[HostFinds, ...] = ()


class PruneRequest(Value):
    """:ivar images: also images and files that nothing uses and that can be had again. ``hosts``: none named: all."""

    dry_run: bool = True
    images: bool = False
    hosts: tuple[str, ...] = ()


class AdoptRequest(Value):
    """Make a lab again of what hosts have of it.

    :ivar topology: its text; ``files``: startup configurations by path as written in it.
    :ivar lab_id: which one, where hosts have remains of several labs of that name.
    """

    topology: str
    files: dict[str, str] = {}
    source: str = "topology.yml"
    allow_privileged: bool = False
    lab_id: str = ""
    dry_run: bool = False


class AdoptedNode(Value):
    """A node of the adopted lab.

    :ivar outcome: ``kept``: its runtime goes on as it is; ``remade``: its definition is another, so it is made anew and
        keeps its disk; ``disk``: only its disk was there; ``new``: nothing of it was.
    """

    name: str
    host: str = ""
    outcome: Literal["kept", "remade", "disk", "new"]
    detail: str = ""


class AdoptView(Value):
    """``operation`` is that of the deployment that follows; ``None`` for a dry run."""

    lab: str
    lab_id: str
    nodes: tuple[AdoptedNode, ...] = ()
    left: tuple[Orphan, ...] = ()
    operation: OperationView | None = None
