"""What the controller asks of its database about the images of the library."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from sqlalchemy import Delete, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from wireloom.controller.store import tables
from wireloom.controller.store.database import Database
from wireloom.errors import Conflict, NotFound
from wireloom.model.base import Value
from wireloom.model.images import ImagePin, ImageView, ServedDevice

__all__ = ["ImageStore", "Removal"]

#: Fields of a view that are kept elsewhere than in the image's own row, or nowhere.
_BESIDE = {"devices", "presence", "used_by"}


class Removal(Value):
    """An image that ``host`` is to drop and has not said that it has not.

    :ivar generation: of the first document that told the host.
    """

    host: str
    pin: ImagePin
    generation: int
    created_at: float


class ImageStore:
    """Images with the devices that they serve. Each method is one transaction; safe for concurrent use."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    # ---------------------------------------------------------------- images

    async def images(self) -> list[ImageView]:
        """Every image, by name, without presence and uses."""
        async with self._database.read() as connection:
            served = await _served(connection)
            rows = (await connection.execute(select(tables.images).order_by(tables.images.c.name))).mappings().all()
            return [ImageView.model_validate({**row, "devices": served.get(row["id"], ())}) for row in rows]

    async def add(self, image: ImageView) -> None:
        """:raises Conflict: its name is taken."""
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(tables.images).values(**_values(image)))
                await _serve(connection, image)
        except IntegrityError as error:
            raise Conflict(f"the name {image.name} is taken", hint="choose another name") from error

    async def put(self, images: Iterable[ImageView]) -> None:
        """Write what is known of images that are there; the last of them wins a default that several claim."""
        table = tables.images
        async with self._database.write() as connection:
            for image in images:
                await connection.execute(update(table).where(table.c.id == image.id).values(**_values(image)))
                await _serve(connection, image)

    # ---------------------------------------------------------------- removal

    async def removals(self) -> list[Removal]:
        """What hosts have still to confirm, oldest first."""
        table = tables.image_removals
        async with self._database.read() as connection:
            rows = await connection.execute(select(table).order_by(table.c.created_at))
            return [Removal.model_validate(dict(row)) for row in rows.mappings()]

    async def begin_removal(self, image: ImageView, hosts: Collection[str], generation: int) -> list[Removal]:
        """``image``, in its state of being deleted, and a reminder for each of ``hosts``."""
        pin, now = image.pin, self._clock()
        removals = [Removal(host=host, pin=pin, generation=generation, created_at=now) for host in sorted(hosts)]
        table = tables.images
        async with self._database.write() as connection:
            await connection.execute(update(table).where(table.c.id == image.id).values(**_values(image)))
            await connection.execute(delete(tables.image_wishes).where(tables.image_wishes.c.image_id == image.id))
            for removal in removals:
                await connection.execute(_without(removal))
                await connection.execute(insert(tables.image_removals).values(**_removal_values(removal)))
        return removals

    async def confirm(self, removals: Iterable[Removal]) -> None:
        """Hosts have said that they have these images no more."""
        async with self._database.write() as connection:
            for removal in removals:
                await connection.execute(_without(removal))

    async def forget(self, image_id: str) -> None:
        """An image is gone from everywhere: its name is free."""
        async with self._database.write() as connection:
            await connection.execute(delete(tables.images).where(tables.images.c.id == image_id))

    # ---------------------------------------------------------------- wishes and hosts

    async def wishes(self) -> dict[str, frozenset[str]]:
        """Hosts that are to have an image ahead of any need, by the image's id."""
        table = tables.image_wishes
        async with self._database.read() as connection:
            found: dict[str, set[str]] = {}
            for row in await connection.execute(select(table)):
                found.setdefault(row.image_id, set()).add(row.host)
            return {image_id: frozenset(hosts) for image_id, hosts in found.items()}

    async def wish(self, image_id: str, hosts: Collection[str]) -> None:
        """``hosts`` are to have the image from now on. :raises NotFound: it is gone."""
        table = tables.image_wishes
        try:
            async with self._database.write() as connection:
                known = set(await connection.scalars(select(table.c.host).where(table.c.image_id == image_id)))
                for host in sorted(set(hosts) - known):
                    await connection.execute(insert(table).values(image_id=image_id, host=host))
        except IntegrityError as error:
            raise NotFound("the image is gone") from error

    async def unwish(self, image_id: str, hosts: Collection[str]) -> None:
        """``hosts`` need not have the image from now on; idempotent."""
        table = tables.image_wishes
        async with self._database.write() as connection:
            await connection.execute(delete(table).where(table.c.image_id == image_id, table.c.host.in_(sorted(hosts))))

    async def forget_host(self, host: str) -> None:
        """``host`` is of the installation no more: nothing is expected of it."""
        async with self._database.write() as connection:
            for table in (tables.image_removals, tables.image_wishes):
                await connection.execute(delete(table).where(table.c.host == host))


def _values(image: ImageView) -> dict[str, Any]:
    return image.model_dump(mode="json", exclude=_BESIDE)


def _removal_values(removal: Removal) -> dict[str, Any]:
    pin = removal.pin
    return {
        "provider": pin.provider,
        "name": pin.name,
        "content": pin.content,
        **removal.model_dump(mode="json"),
    }


def _without(removal: Removal) -> Delete:
    table, pin = tables.image_removals, removal.pin
    return delete(table).where(
        table.c.host == removal.host,
        table.c.provider == pin.provider,
        table.c.name == pin.name,
        table.c.content == pin.content,
    )


async def _served(connection: AsyncConnection) -> dict[str, list[ServedDevice]]:
    """Devices by image, by name."""
    devices, defaults = tables.image_devices, tables.image_defaults
    chosen = {(row.image_id, row.device) for row in await connection.execute(select(defaults))}
    found: dict[str, list[ServedDevice]] = {}
    for row in await connection.execute(select(devices).order_by(devices.c.device)):
        served = ServedDevice(device=row.device, default=(row.image_id, row.device) in chosen)
        found.setdefault(row.image_id, []).append(served)
    return found


async def _serve(connection: AsyncConnection, image: ImageView) -> None:
    """Have exactly the devices of ``image`` stored; a default that it claims is taken from whoever had it."""
    devices, defaults = tables.image_devices, tables.image_defaults
    await connection.execute(delete(devices).where(devices.c.image_id == image.id))
    await connection.execute(delete(defaults).where(defaults.c.image_id == image.id))
    for served in image.devices:
        await connection.execute(insert(devices).values(image_id=image.id, device=served.device))
        if served.default:
            own = (defaults.c.device == served.device) & (defaults.c.provider == image.provider)
            await connection.execute(delete(defaults).where(own))
            await connection.execute(
                insert(defaults).values(device=served.device, provider=image.provider, image_id=image.id)
            )
