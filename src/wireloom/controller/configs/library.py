"""Use cases on stored configurations: look, compare, choose, upload, delete, take over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol

from wireloom.configs import ArchivedConfig, Keeper, normalised, suggest, unified_diff, zip_configs
from wireloom.controller.board import Board
from wireloom.controller.configs.lookup import Lookup, node_key
from wireloom.controller.journal import Journal
from wireloom.controller.store.config_records import ConfigNode, ConfigRevision, NewConfig, NodeKey
from wireloom.controller.store.configs import ConfigStore
from wireloom.errors import Conflict, GuestFailed, InvalidInput, NotFound
from wireloom.fabric.config_documents import Extracted
from wireloom.model.config_views import (
    ConfigDiff,
    ConfigPolicy,
    ConfigRevisionView,
    ConfigText,
    ConfigUpload,
    MapConfigs,
    NodeConfigView,
)

__all__ = ["ConfigLibrary", "ReadNow", "revision_view"]

SHORTEST_INTERVAL_S = 60.0


class ReadNow(Protocol):
    """Reads the running configuration of a node, and stores nothing."""

    def __call__(self, lab: str, node: str) -> Awaitable[Extracted]: ...


def revision_view(revision: ConfigRevision, *, active: int | None) -> ConfigRevisionView:
    """As the API shows it; ``active`` is the number of the node's active revision."""
    return ConfigRevisionView(**revision.model_dump(exclude={"node_id"}), active=revision.number == active)


class ConfigLibrary:
    """What users do with configurations that are stored.

    :param reload: a lab's active revisions changed: tell its hosts.
    """

    def __init__(
        self,
        *,
        store: ConfigStore,
        board: Board,
        lookup: Lookup,
        journal: Journal,
        read_now: ReadNow,
        reload: Callable[[str], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._board = board
        self._lookup = lookup
        self._journal = journal
        self._read_now = read_now
        self._reload = reload
        self._clock = clock

    # ---------------------------------------------------------------- looking

    async def of_lab(self, lab: str) -> list[NodeConfigView]:
        """What is stored of each node of a lab, deleted ones last. :raises NotFound: nobody knows the lab."""
        known = {node.node_id: node for node in await self._store.nodes(lab=lab)}
        views = await self._views(known, lab=lab)
        if not views and not any(item.lab == lab for item in self._board.views()):
            raise NotFound(f"no lab is called {lab}, and nothing is stored of one", hint="`wireloom labs` lists them")
        return views

    async def everything(self) -> list[NodeConfigView]:
        """What is stored of every node, there or deleted, by lab."""
        known = {node.node_id: node for node in await self._store.nodes()}
        return await self._views(known, lab=None)

    async def _views(self, known: Mapping[str, ConfigNode], *, lab: str | None) -> list[NodeConfigView]:
        latest = await self._store.latest(lab=lab)
        there = self._keys_there(lab)
        wanted = {**known, **{node_id: key for node_id, (key, _) in there.items()}}
        views = []
        for node_id, key in wanted.items():
            stored = known.get(node_id)
            newest, count = latest.get(node_id, (None, 0))
            active = stored.active if stored else None
            views.append(
                NodeConfigView(
                    **key.model_dump(include={"node_id", "lab", "node", "device"}),
                    exists=node_id in there,
                    active=active,
                    chosen_by=stored.origin if stored else "",
                    revisions=count,
                    latest=revision_view(newest, active=active) if newest else None,
                    extracted_at=stored.extracted_at if stored else None,
                    extractable=node_id in there and there[node_id][1],
                )
            )
        views = [view for view in views if view.exists or view.revisions]
        return sorted(_with_suggestions(views), key=lambda view: (view.lab, not view.exists, view.node))

    def _keys_there(self, lab: str | None) -> dict[str, tuple[NodeKey, bool]]:
        """Nodes of deployed labs by id, and whether their configuration can be read."""
        found: dict[str, tuple[NodeKey, bool]] = {}
        for lab_id in self._board.lab_ids:
            picture = self._board.picture(lab_id)
            if lab in {None, picture.snapshot.lab.name}:
                for node in picture.nodes.values():
                    found[node.intent.id] = node_key(picture, node), bool(node.intent.extract.steps)
        return found

    async def revisions(self, lab: str, node: str) -> list[ConfigRevisionView]:
        """Revisions of a node, newest first. :raises NotFound: there is no such node, there or deleted."""
        key = await self._lookup.key(lab, node)
        stored = await self._store.node(key.node_id)
        active = stored.active if stored else None
        return [revision_view(revision, active=active) for revision in await self._store.revisions(key.node_id)]

    async def text(self, lab: str, node: str, which: str) -> ConfigText:
        """A configuration: of a revision by number, ``active``, ``latest``, ``startup`` or ``running``.

        :raises NotFound: there is none such. :raises InvalidInput: ``which`` is none of these.
        """
        if which == "running":
            extracted = await self._read_now(lab, node)
            return ConfigText(name=f"{node} running", text=extracted.text)
        if which == "startup":
            return self._startup(lab, node)
        stored = await self._lookup.stored(lab, node)
        revision, text = await self._store.text(stored.node_id, await self.number(stored, which))
        return ConfigText(
            name=f"{stored.node} revision {revision.number}",
            text=text,
            revision=revision_view(revision, active=stored.active),
        )

    def _startup(self, lab: str, node: str) -> ConfigText:
        _, place = self._lookup.there(lab, node)
        intent = place.intent
        text = intent.startup_template + (intent.startup_config or "")
        if not text:
            raise NotFound("the topology gives it no configuration", node=node)
        return ConfigText(name=f"{node} startup-config", text=text if text.endswith("\n") else f"{text}\n")

    async def number(self, stored: ConfigNode, which: str) -> int:
        """The revision that ``which`` means: a number, ``active`` or ``latest``.

        :raises NotFound: there is none such. :raises InvalidInput: it is none of these words.
        """
        if which.isdecimal():
            return int(which)
        if which == "active":
            if stored.active is None:
                raise NotFound(
                    "no revision is active; the configuration of the topology is",
                    node=stored.node,
                    hint="`startup` names the topology's; `wireloom configs activate` makes a revision active",
                )
            return stored.active
        if which == "latest":
            revisions = await self._store.revisions(stored.node_id)
            if revisions:
                return revisions[0].number
            raise NotFound("nothing is stored of it", node=stored.node, hint="`wireloom configs extract` reads it")
        raise InvalidInput(
            f"{which!r} names no revision",
            hint="revisions are numbers, `active` and `latest`; to look at, there are `startup` and `running` too",
            node=stored.node,
        )

    async def diff(self, lab: str, node: str, before: str, after: str) -> ConfigDiff:
        """How ``after`` differs from ``before``, each as in :meth:`text`."""
        one, other = await self.text(lab, node, before), await self.text(lab, node, after)
        diff = await asyncio.to_thread(unified_diff, one.text, other.text, before_name=one.name, after_name=other.name)
        return ConfigDiff(before=one.name, after=other.name, diff=diff)

    async def archive(self, lab: str, which: Literal["active", "latest"]) -> bytes:
        """The configurations of a lab's nodes as a zip file; nodes without one are not in it.

        :raises NotFound: no node has one.
        """
        views = [view for view in await self.of_lab(lab) if view.exists or not self._is_there(lab)]
        configs = []
        for view in views:
            number = view.active if which == "active" else view.latest.number if view.latest else None
            if number is not None:
                revision, text = await self._store.text(view.node_id, number)
                configs.append(ArchivedConfig(view.node, view.device, number, revision.taken_at, revision.sha256, text))
        if not configs:
            raise NotFound(f"no configuration is stored of lab {lab}", hint="`wireloom configs extract` reads them")
        return await asyncio.to_thread(zip_configs, lab, configs)

    def _is_there(self, lab: str) -> bool:
        return any(item.lab == lab for item in self._board.views())

    # ---------------------------------------------------------------- choosing

    async def activate(self, lab: str, node: str, revision: int | None) -> NodeConfigView:
        """What the node's next making begins with; nothing happens to a running one.

        :param revision: ``None``: the configuration of the topology. :raises NotFound: no such node or revision.
        """
        picture, place = self._lookup.there(lab, node)
        key = node_key(picture, place)
        await self._store.choose(key, revision)
        await self._reload(key.lab_id)
        what = "its topology's configuration" if revision is None else f"revision {revision}"
        self._journal.tell("config.activated", f"{key.node}: {what} is active", lab=lab)
        return next(view for view in await self.of_lab(lab) if view.node_id == key.node_id)

    async def upload(self, lab: str, node: str, request: ConfigUpload) -> ConfigRevisionView:
        """Store a text of the user's. :raises InvalidInput: it is no text, empty or too large."""
        picture, place = self._lookup.there(lab, node)
        key = node_key(picture, place)
        try:
            text = normalised(request.text)
        except GuestFailed as error:
            raise InvalidInput(error.message, node=node, details=error.details) from error
        config = NewConfig(text=text, origin="upload", who="user", note=request.note, taken_at=self._clock())
        revision = await self._store.upload(key, config, activate=request.activate)
        if request.activate:
            await self._reload(key.lab_id)
        self._journal.tell("config.uploaded", f"{key.node}: revision {revision.number} uploaded", lab=lab)
        return revision_view(revision, active=revision.number if request.activate else None)

    async def delete(self, lab: str, node: str, revision: int) -> None:
        """:raises NotFound: :raises Conflict: it is the active one."""
        stored = await self._lookup.stored(lab, node)
        if not self._lookup.exists(stored.node_id) and stored.active == revision:
            await self._store.choose(stored, None)  # of a node that is gone, nothing is active
        await self._store.delete(stored.node_id, [revision])
        self._journal.tell("config.deleted", f"{stored.node}: revision {revision} deleted", lab=lab)

    async def forget(self, lab: str, node: str) -> None:
        """Delete everything that is stored of a deleted node. :raises Conflict: the node is there."""
        stored = await self._lookup.stored(lab, node)
        if self._lookup.exists(stored.node_id):
            raise Conflict("the node is there", node=node, hint="delete single revisions of it")
        await self._store.forget(stored.node_id)
        self._journal.tell("config.deleted", f"{stored.node}: all its revisions deleted", lab=lab)

    async def take_over(self, lab: str, node: str, request: MapConfigs) -> list[ConfigRevisionView]:
        """Give a node what another has, oldest first, as new revisions. The other keeps what it has.

        :raises NotFound: :raises InvalidInput: it is the same node. :raises Conflict: it is of another device.
        """
        picture, place = self._lookup.there(lab, node)
        key = node_key(picture, place)
        source = await self._source(key, request)
        if source.device != key.device and not request.force:
            raise Conflict(
                f"{source.lab}/{source.node} was a {source.device}, and this is a {key.device}",
                node=node,
                hint="take its configurations over all the same with `--force`",
            )
        numbers = [item.number for item in reversed(await self._store.revisions(source.node_id))]
        if request.revision is not None:
            numbers = [number for number in numbers if number == request.revision]
        if not numbers:
            raise NotFound(f"{source.lab}/{source.node} has no such revision")
        taken = [await self._copy(key, source, number) for number in numbers]
        if request.activate:
            await self._store.choose(key, taken[-1].number)
            await self._reload(key.lab_id)
        self._journal.tell(
            "config.mapped", f"{key.node}: {len(taken)} revisions of {source.lab}/{source.node} taken over", lab=lab
        )
        active = taken[-1].number if request.activate else None
        return [revision_view(revision, active=active) for revision in taken]

    async def _source(self, key: NodeKey, request: MapConfigs) -> ConfigNode:
        source_lab = request.source_lab or key.lab
        others = [
            node
            for node in await self._store.nodes(lab=source_lab)
            if request.source_node in {node.node, node.node_id} and node.node_id != key.node_id
        ]
        # A deleted namesake before one that is there: it is what nobody else can give back.
        others.sort(key=lambda node: (not self._lookup.exists(node.node_id), node.extracted_at or 0.0))
        if not others:
            raise NotFound(
                f"no other node {source_lab}/{request.source_node} has stored configurations",
                hint="`wireloom configs list --all` shows those of deleted nodes",
            )
        return others[-1]

    async def _copy(self, key: NodeKey, source: ConfigNode, number: int) -> ConfigRevision:
        revision, text = await self._store.text(source.node_id, number)
        config = NewConfig(
            text=text,
            origin="map",
            who=f"{source.lab}/{source.node} revision {number}",
            channel=revision.channel,
            note=revision.note,
            taken_at=revision.taken_at,
        )
        return await self._store.upload(key, config, activate=False)

    # ---------------------------------------------------------------- policies

    async def policy(self, lab: str) -> ConfigPolicy:
        """What the lab does by itself. :raises NotFound:"""
        lab_id = self._board.named(lab).snapshot.lab.id
        return (await self._store.policies()).get(lab_id, ConfigPolicy())

    async def set_policy(self, lab: str, policy: ConfigPolicy) -> ConfigPolicy:
        """:raises NotFound: :raises InvalidInput: a number that makes no sense."""
        lab_id = self._board.named(lab).snapshot.lab.id
        every = policy.extract_every_s
        if every is not None and every != 0 and every < SHORTEST_INTERVAL_S:
            raise InvalidInput(f"an interval must be 0 (never) or at least {SHORTEST_INTERVAL_S:g} s")
        if any(value is not None and value < 0 for value in (policy.keep, policy.keep_days)):
            raise InvalidInput("retention is counted from 0")
        await self._store.set_policy(lab_id, policy)
        self._journal.tell("config.policy", "extraction and retention changed", lab=lab)
        return policy


def _with_suggestions(views: list[NodeConfigView]) -> list[NodeConfigView]:
    """``views``, with a node named for each deleted one that could take over what it has."""
    result: list[NodeConfigView] = []
    for lab in dict.fromkeys(view.lab for view in views):
        mine = [view for view in views if view.lab == lab]
        gone = [Keeper(view.node, view.device) for view in mine if not view.exists]
        there = [Keeper(view.node, view.device) for view in mine if view.exists and not view.revisions]
        found = {item.source: item.target for item in suggest(gone, there)}
        for view in mine:
            target = "" if view.exists else found.get(view.node, "")
            result.append(view.model_copy(update={"suggested_for": f"{lab}/{target}"}) if target else view)
    return result
