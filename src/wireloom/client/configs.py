"""Configurations of nodes through the API: ``client.configs``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from wireloom.client.calls import Calls
from wireloom.model.config_views import (
    ActivateConfig,
    ConfigDiff,
    ConfigPolicy,
    ConfigRevisionView,
    ConfigText,
    ConfigUpload,
    ExtractRequest,
    MapConfigs,
    NodeConfigView,
    RestoreConfig,
)

if TYPE_CHECKING:
    from wireloom.client.transport import Query
    from wireloom.model.views import OperationView

__all__ = ["Configs"]

#: Reading a running configuration may take a slow guest that long.
READ_TIMEOUT_S = 600.0


class Configs(Calls):
    """Calls on configurations; errors as of :class:`~wireloom.client.client.Client`.

    ``which`` is a revision's number as text, or one of ``active``, ``latest``, ``startup``, ``running``.
    """

    async def everything(self) -> list[NodeConfigView]:
        """What is stored of every node, deleted ones included."""
        return await self._many(NodeConfigView, "GET", "/configs")

    async def of_lab(self, lab: str) -> list[NodeConfigView]:
        """What is stored of each node of a lab, deleted ones last."""
        return await self._many(NodeConfigView, "GET", f"/labs/{quote(lab, safe='')}/configs")

    async def extract(
        self, lab: str, nodes: Iterable[str] = (), *, note: str = "", force: bool = False
    ) -> OperationView:
        """Read the running configurations of the named nodes, or of all, and store what is new."""
        request = ExtractRequest(nodes=tuple(nodes), note=note, force=force)
        return await self._operation(f"/labs/{quote(lab, safe='')}/configs", request)

    async def archive(self, lab: str, which: Literal["active", "latest"] = "latest") -> bytes:
        """The configurations of a lab's nodes as a zip file."""
        path = f"/labs/{quote(lab, safe='')}/configs.zip"
        return await self._transport().request("GET", path, query={"which": which})

    async def policy(self, lab: str) -> ConfigPolicy:
        """What a lab does by itself."""
        return await self._one(ConfigPolicy, "GET", f"/labs/{quote(lab, safe='')}/config-policy")

    async def set_policy(self, lab: str, policy: ConfigPolicy) -> ConfigPolicy:
        """Change what a lab does by itself."""
        return await self._one(ConfigPolicy, "PUT", f"/labs/{quote(lab, safe='')}/config-policy", policy)

    async def revisions(self, lab: str, node: str) -> list[ConfigRevisionView]:
        """Revisions of a node, newest first."""
        return await self._many(ConfigRevisionView, "GET", _of(lab, node))

    async def text(self, lab: str, node: str, which: str = "latest") -> ConfigText:
        """A configuration."""
        path = f"{_of(lab, node)}/{quote(which, safe='')}"
        return await self._one(ConfigText, "GET", path, timeout_s=READ_TIMEOUT_S)

    async def diff(self, lab: str, node: str, before: str, after: str) -> ConfigDiff:
        """How one configuration of a node differs from another."""
        path = f"/labs/{quote(lab, safe='')}/nodes/{quote(node, safe='')}/config-diff"
        query: Query = {"before": before, "after": after}
        return await self._one(ConfigDiff, "GET", path, query=query, timeout_s=READ_TIMEOUT_S)

    async def upload(
        self, lab: str, node: str, text: str, *, note: str = "", activate: bool = True
    ) -> ConfigRevisionView:
        """Store ``text`` as the newest revision."""
        request = ConfigUpload(text=text, note=note, activate=activate)
        return await self._one(ConfigRevisionView, "POST", _of(lab, node), request)

    async def activate(self, lab: str, node: str, revision: int | None) -> NodeConfigView:
        """Choose what the node's next making begins with; ``None``: the configuration of its topology."""
        request = ActivateConfig(revision=revision)
        return await self._one(NodeConfigView, "POST", f"{_of(lab, node)}/activate", request)

    async def restore(self, lab: str, node: str, revision: str = "active", *, reboot: bool = False) -> OperationView:
        """Load a configuration into the running node, or with ``reboot`` make the node anew with it."""
        request = RestoreConfig(revision=revision, reboot=reboot)
        return await self._operation(f"{_of(lab, node)}/restore", request, timeout_s=READ_TIMEOUT_S)

    async def take_over(self, lab: str, node: str, request: MapConfigs) -> list[ConfigRevisionView]:
        """Give a node what another one has."""
        return await self._many(ConfigRevisionView, "POST", f"{_of(lab, node)}/map", request)

    async def delete(self, lab: str, node: str, revision: int) -> None:
        """Delete a revision that is not active."""
        await self._transport().request("DELETE", f"{_of(lab, node)}/{revision}")

    async def forget(self, lab: str, node: str) -> None:
        """Delete everything that is stored of a deleted node."""
        await self._transport().request("DELETE", _of(lab, node))


def _of(lab: str, node: str) -> str:
    return f"/labs/{quote(lab, safe='')}/nodes/{quote(node, safe='')}/configs"
