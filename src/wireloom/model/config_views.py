"""What the HTTP API takes and gives of configurations.

=======  ============================================  ============================  ========================
method   path (below ``/api/v1``)                      body                          answer
=======  ============================================  ============================  ========================
GET      /configs                                                                    list[NodeConfigView]
GET      /labs/{lab}/configs                                                         list[NodeConfigView]
POST     /labs/{lab}/configs                           ExtractRequest                OperationView
GET      /labs/{lab}/configs.zip?which=                                              zip file
GET      /labs/{lab}/config-policy                                                   ConfigPolicy
PUT      /labs/{lab}/config-policy                     ConfigPolicy                  ConfigPolicy
GET      /labs/{lab}/nodes/{node}/configs                                            list[ConfigRevisionView]
POST     /labs/{lab}/nodes/{node}/configs              ConfigUpload                  ConfigRevisionView
DELETE   /labs/{lab}/nodes/{node}/configs                                            (of a deleted node)
GET      /labs/{lab}/nodes/{node}/configs/{which}                                    ConfigText
DELETE   /labs/{lab}/nodes/{node}/configs/{revision}
GET      /labs/{lab}/nodes/{node}/config-diff?before=&after=                         ConfigDiff
POST     /labs/{lab}/nodes/{node}/configs/activate     ActivateConfig                NodeConfigView
POST     /labs/{lab}/nodes/{node}/configs/restore      RestoreConfig                 OperationView
POST     /labs/{lab}/nodes/{node}/configs/map          MapConfigs                    list[ConfigRevisionView]
=======  ============================================  ============================  ========================

``{node}`` is a node's name, or the id of a deleted one; ``{which}`` a revision's number, ``active``, ``latest``,
``startup`` (the topology's) or ``running`` (read now, not stored).
"""

from __future__ import annotations

from typing import Literal

from wireloom.model.base import Value

__all__ = [
    "ActivateConfig",
    "ConfigDiff",
    "ConfigPolicy",
    "ConfigRevisionView",
    "ConfigSource",
    "ConfigText",
    "ConfigUpload",
    "ExtractRequest",
    "MapConfigs",
    "NodeConfigView",
    "RestoreConfig",
    "RevisionOrigin",
    "StoredRevision",
]

#: How a revision came to be: asked for, before a stop, by schedule, from a file, or taken over from another node.
RevisionOrigin = Literal["extract", "stop", "schedule", "upload", "map"]


class ExtractRequest(Value):
    """Read configurations from running nodes; an empty list means all. ``force``: also from nodes not ready."""

    nodes: tuple[str, ...] = ()
    note: str = ""
    force: bool = False


class ConfigSource(Value):
    """Where a configuration comes from.

    :ivar channel: the one that it was read over; ``tried``: why earlier ones did not give it.
    :ivar taken_at: when it was read, in UNIX seconds by the clock of who read it.
    """

    origin: RevisionOrigin
    who: str
    channel: str = ""
    tried: dict[str, str] = {}
    note: str = ""
    taken_at: float


class StoredRevision(ConfigSource):
    """A stored configuration without its text; ``lab`` and ``node`` are the names at that time.

    :ivar size: of its text, in bytes.
    :ivar created_at: when it was stored, in UNIX seconds.
    """

    lab: str
    node: str
    number: int
    sha256: str
    size: int
    created_at: float


class ConfigRevisionView(StoredRevision):
    """A revision of a node; ``active``: it is what the node's next making begins with."""

    active: bool = False


class NodeConfigView(Value):
    """What is stored of one node, there or deleted.

    :ivar active: number of the revision that its next making begins with; ``None``: its topology's own configuration.
    :ivar chosen_by: who decided that: the ``user``, an ``extract``, the ``topology``; empty: nobody yet.
    :ivar latest: the newest revision.
    :ivar extractable: its device says how to read its configuration.
    :ivar suggested_for: node of a lab, ``LAB/NODE``, that could take over what a deleted node has.
    """

    node_id: str
    lab: str
    node: str
    device: str
    exists: bool
    active: int | None = None
    chosen_by: Literal["", "user", "extract", "topology"] = ""
    revisions: int = 0
    latest: ConfigRevisionView | None = None
    extracted_at: float | None = None
    extractable: bool = False
    suggested_for: str = ""


class ConfigText(Value):
    """A configuration with what is known of it; ``revision`` is ``None`` for what is not stored."""

    name: str
    text: str
    revision: ConfigRevisionView | None = None


class ConfigDiff(Value):
    """How one configuration differs from another, as a unified diff; empty when it does not."""

    before: str
    after: str
    diff: str = ""


class ConfigUpload(Value):
    text: str
    note: str = ""
    activate: bool = True


class ActivateConfig(Value):
    """``revision``: a number, or ``None`` to go back to the configuration of the topology."""

    revision: int | None = None


class RestoreConfig(Value):
    """``revision``: a number, ``active`` or ``latest``. ``reboot``: make the node anew with it; otherwise it is loaded
    into the running node.
    """

    revision: str = "active"
    reboot: bool = False


class MapConfigs(Value):
    """Take over what another node has.

    :ivar source_lab: empty: the lab itself; ``source_node``: a name, or the id of a deleted node.
    :ivar revision: number of the one to take; ``None``: all.
    :ivar activate: the newest of them becomes active.
    :ivar force: also from another device.
    """

    source_lab: str = ""
    source_node: str
    revision: int | None = None
    activate: bool = False
    force: bool = False


class ConfigPolicy(Value):
    """What a lab does by itself; ``None``: what the installation's settings say.

    :ivar extract_every_s: interval of extraction in seconds; 0: never.
    :ivar keep: revisions that are kept of each node whatever their age; 0: all.
    :ivar keep_days: days after which further ones go; 0: at once.
    """

    extract_every_s: float | None = None
    keep: int | None = None
    keep_days: float | None = None
