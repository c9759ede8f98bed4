"""The shape of a hook."""

from __future__ import annotations

from wireloom.agent.context import NodeContext

__all__ = ["Hook", "WithdrawnError"]


class WithdrawnError(Exception):
    """The node is not to be brought up any more, or not so: nothing has failed, and nothing more is to be done."""


class Hook:
    """Does nothing in any phase; a hook overrides the phases it has business in."""

    name = "hook"

    async def prepare(self, context: NodeContext) -> None:
        """The runtime does not exist yet, and the node has no turn yet: what takes long holds up nobody else here.

        It has no deadline but the hook's own. :raises WithdrawnError: the node is not to be brought up any more.
        """

    async def before_create(self, context: NodeContext) -> None:
        """The runtime does not exist yet. Fill ``context.files`` and ``context.media`` here."""

    async def before_start(self, context: NodeContext) -> None:
        """The runtime exists and is not running."""

    async def gated(self, context: NodeContext) -> None:
        """The runtime is started, but none of the guest's code has run."""

    async def released(self, context: NodeContext) -> None:
        """The guest's code runs since a moment ago."""

    async def before_stop(self, context: NodeContext) -> None:
        """The runtime is about to be stopped in an orderly way."""

    async def stopped(self, context: NodeContext) -> None:
        """The runtime has ended; its storage is kept."""

    async def destroyed(self, context: NodeContext) -> None:
        """The runtime is gone."""
