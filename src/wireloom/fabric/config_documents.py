"""Questions about a node's configuration, and the table of them.

An agent reads configurations on request and before a stop. What it read before a stop it keeps in the node's folder and
says so in the node's status (``held_config``), until the controller has asked for it and released it.
"""

from __future__ import annotations

from typing import Final

from wireloom.fabric.methods import Method
from wireloom.model.base import Value

__all__ = [
    "EXTRACT",
    "HELD_CONFIG",
    "LOAD",
    "RELEASE_CONFIG",
    "Done",
    "ExtractQuestion",
    "Extracted",
    "HeldQuestion",
    "LoadAnswer",
    "LoadQuestion",
    "ReleaseQuestion",
]


class ExtractQuestion(Value):
    """Read the running configuration of a node. ``force``: also of one that is not ready.

    ``adopt``: the user wants what runs: it counts from now on as made with the user's last choice.
    """

    lab_id: str
    node_id: str
    timeout_s: float = 120
    force: bool = False
    adopt: bool = False


class Extracted(Value):
    """A configuration as it was read and found valid.

    :ivar channel: the one that gave it; ``tried`` says why each earlier one of the chain did not.
    :ivar taken_at: UNIX seconds by the agent's clock.
    :ivar choice: number of the user's last choice (``NodeIntent.config_choice``) when the node was made.
    """

    text: str
    sha256: str
    channel: str
    tried: dict[str, str] = {}
    taken_at: float
    choice: int = 0


class LoadQuestion(Value):
    """Load ``text`` into a running node, over its device's ``load`` chain."""

    lab_id: str
    node_id: str
    text: str
    timeout_s: float = 120


class LoadAnswer(Value):
    """``output`` is what the guest said to it, shortened."""

    channel: str
    tried: dict[str, str] = {}
    output: str = ""


class HeldQuestion(Value):
    """The configuration that the agent holds for the controller."""

    lab_id: str
    node_id: str


class ReleaseQuestion(Value):
    """The held configuration with this hash is stored, as revision ``revision``."""

    lab_id: str
    node_id: str
    sha256: str
    revision: int


class Done(Value):
    """It is done."""


EXTRACT: Final = Method("extract", ExtractQuestion, Extracted, deadline_s=150)
LOAD: Final = Method("load-config", LoadQuestion, LoadAnswer, deadline_s=150)
HELD_CONFIG: Final = Method("held-config", HeldQuestion, Extracted)
RELEASE_CONFIG: Final = Method("release-config", ReleaseQuestion, Done)
