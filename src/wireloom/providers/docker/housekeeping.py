"""What the engine holds beside our containers: those of other installations, and images that interrupted steps left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from wireloom.errors import Conflict
from wireloom.model.identity import LABEL_INSTALLATION, Identity
from wireloom.model.orphans import Leftover, OtherRuntime
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.inspection import query
from wireloom.providers.docker.names import CALL_S, ImageNames

__all__ = ["DockerHousekeeping"]

#: Another image had the name of one of the library's: it was given this one, and nothing may use it any more.
_KEPT: Final = "wireloom-kept/"


class DockerHousekeeping:
    """A :class:`~wireloom.providers.contract.Housekeeping`."""

    def __init__(self, engine: Engine, installation: str, names: ImageNames) -> None:
        self._engine = engine
        self._installation = installation
        self._names = names

    async def others(self) -> Sequence[OtherRuntime]:
        found = await self._ask("containers", "/containers/json", all=True, filters={"label": [LABEL_INSTALLATION]})
        runtimes = []
        for item in found:
            identity = Identity.from_labels(item["Labels"])
            if identity is not None and identity.installation != self._installation:
                name = item["Names"][0].removeprefix("/")
                running = item["State"] == "running"
                runtimes.append(OtherRuntime(runtime_id=item["Id"], name=name, identity=identity, running=running))
        return runtimes

    async def leftovers(self) -> Sequence[Leftover]:
        ours = {"dangling": ["true"], "label": [f"{LABEL_INSTALLATION}={self._installation}"]}
        nameless = await self._ask("images", "/images/json", filters=ours)
        named = [
            *await self._names.abandoned(),
            *(
                Leftover(id=tag, kind="image", name=tag, size=item["Size"], unused=True, detail="kept under this name")
                for item in await self._ask("images", "/images/json", filters={"reference": [f"{_KEPT}*"]})
                for tag in item.get("RepoTags") or ()
            ),
        ]
        unnamed = [
            Leftover(id=item["Id"], kind="image", name=item["Id"][:19], size=item["Size"], detail="has no name")
            for item in nameless
        ]
        return [leftover for leftover in (*named, *unnamed) if not await self._users(leftover.id)]

    async def discard(self, leftover: Leftover) -> None:
        users = await self._users(leftover.id)
        if users or self._names.is_busy(leftover.id):
            by = f" by {', '.join(users)}" if users else ""
            raise Conflict(f"image {leftover.name} is used{by}", hint="destroy these nodes first")
        await self._names.take(leftover.id)

    async def _users(self, reference: str) -> list[str]:
        found = await self._names.find(reference)
        return [] if found is None else await self._names.users(found["Id"])

    async def _ask(self, what: str, path: str, **parameters: Any) -> list[dict[str, Any]]:
        async with self._engine.request(
            f"list {what}", "GET", path, timeout_s=CALL_S, params=query(**parameters)
        ) as response:
            return list(await response.json())
