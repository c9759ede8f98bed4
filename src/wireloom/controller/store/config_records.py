"""Rows of the config store as frozen values. Times are UNIX seconds by the controller's clock."""

from __future__ import annotations

from typing import Literal

from wireloom.model.base import Value
from wireloom.model.config_views import ConfigSource, StoredRevision
from wireloom.model.slice import StoredConfig

__all__ = ["ActiveConfig", "Added", "ConfigNode", "ConfigRevision", "NewConfig", "NodeKey"]


class NodeKey(Value):
    """A node by its id, with the names by which it is found when it is gone."""

    node_id: str
    lab_id: str
    lab: str
    node: str
    device: str


class ConfigNode(NodeKey):
    """What is stored of one node, whether it still exists or not.

    :ivar active: number of the active revision; ``None``: the configuration of its topology.
    :ivar origin: who decided that; ``chosen``: hash of the active revision's text, empty when none is active.
    :ivar choice: number of the user's last choice.
    :ivar last_number: the highest number ever given; numbers are not used again.
    :ivar extracted_at: of the last good extract.
    """

    active: int | None = None
    origin: Literal["", "user", "extract", "topology"] = ""
    chosen: str = ""
    choice: int = 0
    last_number: int = 0
    extracted_at: float | None = None


class ConfigRevision(StoredRevision):
    """A revision with the node that it is of."""

    node_id: str


class NewConfig(ConfigSource):
    """A configuration to be stored; ``choice`` is what its node was made with (see ``Extracted``)."""

    text: str
    choice: int = 0


class Added(Value):
    """``is_new`` is false when the newest revision had the same text; ``activated``: it is the active one since now.

    :ivar no_room: it would be the active one, but the lab's active revisions are too large together.
    """

    revision: ConfigRevision
    is_new: bool
    activated: bool
    no_room: bool = False


class ActiveConfig(Value):
    """What a node is made with next; ``by_user``: it was chosen by the user, ``choice`` being the number of that."""

    stored: StoredConfig | None = None
    by_user: bool = False
    choice: int = 0
