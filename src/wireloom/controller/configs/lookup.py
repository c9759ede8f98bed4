"""Finding nodes, there or deleted, by what users call them."""

from __future__ import annotations

from wireloom.controller.board import Board
from wireloom.controller.picture import LabPicture, NodePicture
from wireloom.controller.store.config_records import ConfigNode, NodeKey
from wireloom.controller.store.configs import ConfigStore
from wireloom.errors import NotFound, Unavailable

__all__ = ["Lookup", "node_key"]


def node_key(picture: LabPicture, node: NodePicture) -> NodeKey:
    """The node under which its configurations are stored."""
    lab, intent = picture.snapshot.lab, node.intent
    return NodeKey(node_id=intent.id, lab_id=lab.id, lab=lab.name, node=intent.name, device=intent.device)


class Lookup:
    """A name means the node that is there; where none is, the last one that was called so."""

    def __init__(self, board: Board, store: ConfigStore) -> None:
        self._board = board
        self._store = store

    def there(self, lab: str, name: str) -> tuple[LabPicture, NodePicture]:
        """A node of a deployed lab. :raises NotFound:"""
        picture = self._board.named(lab)
        node = next((node for node in picture.nodes.values() if name in {node.intent.name, node.intent.id}), None)
        if node is None:
            raise NotFound(f"lab {lab} has no node {name}", hint=f"`wireloom inspect {lab}` lists them")
        return picture, node

    def reachable(self, lab: str, name: str) -> tuple[LabPicture, NodePicture]:
        """A node of a deployed lab whose host answers. :raises NotFound: :raises Unavailable:"""
        picture, node = self.there(lab, name)
        if not node.alive:
            raise Unavailable(f"host {node.host} does not answer", hint="look at `wireloom status`", node=name)
        return picture, node

    def exists(self, node_id: str) -> bool:
        """Whether the node is in a lab now."""
        return any(
            snapshot is not None and any(node.id == node_id for node in snapshot.nodes)
            for snapshot in (self._board.snapshot(lab_id) for lab_id in self._board.lab_ids)
        )

    async def key(self, lab: str, name: str) -> NodeKey:
        """A node, there or deleted, that configurations can be stored of. :raises NotFound:"""
        try:
            picture, node = self.there(lab, name)
        except NotFound:
            return await self.stored(lab, name)
        return node_key(picture, node)

    async def stored(self, lab: str, name: str) -> ConfigNode:
        """A node that something is stored of, by name or id. :raises NotFound: no such node, or nothing of it."""
        known = await self._store.nodes(lab=lab)
        found = [node for node in known if name in {node.node, node.node_id}]
        # Of several namesakes the one that is there; else the one that was read last.
        found.sort(key=lambda node: (self.exists(node.node_id), node.extracted_at or 0.0, node.node_id))
        if found:
            return found[-1]
        nothing = f"no configuration is stored of {lab}/{name}"
        if known and not any(view.lab == lab for view in self._board.views()):
            raise NotFound(nothing, hint=f"`wireloom configs list {lab} --all` shows what is left of the lab")
        self.there(lab, name)  # refuses a name that nobody has
        raise NotFound(nothing, hint=f"`wireloom configs extract {lab} {name}` reads it")
