"""The controller as a process runs it: database, controller, HTTP, and the files by which clients find it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from starlette.types import ASGIApp

from wireloom.controller.api_tls import api_address, prepare_tls
from wireloom.controller.controller import Controller
from wireloom.controller.http import HttpServer
from wireloom.controller.library.library import LibraryOptions
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.store import Store
from wireloom.controller.token import ensure_token
from wireloom.devices import DeviceFolder
from wireloom.fabric.logins import SignedLogins
from wireloom.fabric.renewal import HostQuestions, serve_renewals
from wireloom.planning.placement import PlacementOptions
from wireloom.settings import Settings

__all__ = ["ControllerService", "MakeApp"]

log = structlog.get_logger(__name__)

#: Below which the API, and so the library's files, are found at an address of ours.
_API_PATH: Final = "/api/v1"


class MakeApp(Protocol):
    """:func:`wireloom.api.create_app`; given by the composition root, because the API stands above the controller."""

    def __call__(self, controller: Controller, *, token: str, listen_host: str) -> ASGIApp: ...


class ServiceFabric(ControllerFabric, HostQuestions, Protocol):
    """The controller's half of the fabric, and what hosts ask controllers."""


class ControllerService:
    """Start, serve, stop. The fabric is connected by the caller, who closes it after :meth:`stop`.

    After :meth:`start`, ``url`` is where it answers and ``installation`` its id.

    :param devices: the user's own devices; what is wrong with them is told and left out.
    :param settings_schemas: JSON Schema of each provider's settings, by the provider's name.
    :param logins: signs the logins of hosts; ``None`` with a fabric whose logins are passwords.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        fabric: ServiceFabric,
        make_app: MakeApp,
        devices: DeviceFolder,
        settings_schemas: Mapping[str, Mapping[str, Any]],
        logins: SignedLogins | None = None,
    ) -> None:
        self._settings = settings
        self._fabric = fabric
        self._make_app = make_app
        self._devices = devices
        self._settings_schemas = settings_schemas
        self._logins = logins
        self._undo = AsyncExitStack()
        self._server: HttpServer | None = None
        self.url = ""
        self.installation = ""

    async def start(self) -> Controller:
        """Come up completely, or not at all. :raises Unavailable: database or port cannot be had."""
        async with AsyncExitStack() as undo:
            token = ensure_token(self._settings.paths.token_file)
            store = await Store.open(self._settings.database)
            undo.push_async_callback(store.close)
            controller = await Controller.create(
                store=store,
                fabric=self._fabric,
                devices=await asyncio.to_thread(self._devices.catalogue),
                device_folder=self._devices,
                settings_schemas=self._settings_schemas,
                library=_library_options(self._settings),
                domain=self._settings.management_domain,
                encryption=self._settings.tunnel_encryption,
                privileged_permitted=self._settings.allow_privileged,
                config_keep=self._settings.config_keep,
                config_keep_days=self._settings.config_keep_days,
                orphan_grace_s=self._settings.orphan_grace_s,
                placement=PlacementOptions(self._settings.overcommit_memory, self._settings.overcommit_cpu),
                logins=self._logins,
            )
            if self._logins is not None:
                await self._logins.start(store.hosts)
                undo.push_async_callback(self._logins.stop)
                await serve_renewals(self._fabric, self._logins, store.hosts)
            await controller.start()
            undo.push_async_callback(controller.stop)
            host = self._settings.listen_host
            tls = await asyncio.to_thread(prepare_tls, self._settings)
            certificate = tls.certificate if tls is not None else None
            server = self._server = HttpServer(self._make_app(controller, token=token, listen_host=host), certificate)
            self.url = await server.start(host, self._settings.listen_port)
            undo.push_async_callback(server.stop)
            undo.callback(controller.moves.relay.close)
            address = api_address(self._settings, self.url, tls)
            controller.host_parts.joining.address = address
            controller.library.distribution.serve_at((self._settings.library_url or self.url).rstrip("/") + _API_PATH)
            _announce(self._settings.paths.controller_file, self.url, address.ca)
            undo.callback(_withdraw, self._settings.paths.controller_file)
            self._undo = undo.pop_all()
        self.installation = controller.installation
        log.info("controller is up", url=self.url, installation=self.installation)
        return controller

    async def serve(self) -> None:
        """Serve until cancelled; raises what made serving end by itself."""
        if self._server is not None:
            await self._server.wait()

    async def stop(self) -> None:
        """Come down in reverse; idempotent. Labs go on as they are."""
        await self._undo.aclose()


def _library_options(settings: Settings) -> LibraryOptions:
    return LibraryOptions(
        folder=settings.paths.library_folder,
        secrets=settings.paths.secret_folder,
        references=settings.data_dir / "images",
        own_host=settings.host,
        keep_days=settings.library_keep_days,
        verify_days=settings.image_verify_days,
    )


def _announce(file: Path, url: str, ca: str) -> None:
    """Tell local clients where we are; they see the whole file or none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(json.dumps({"url": url, "ca": ca, "pid": os.getpid()}), encoding="utf-8")
    draft.replace(file)


def _withdraw(file: Path) -> None:
    """Take the announcement back, unless another controller has made its own since."""
    try:
        if json.loads(file.read_text(encoding="utf-8")).get("pid") == os.getpid():
            file.unlink()
    except (OSError, ValueError):
        log.debug("no announcement to withdraw", file=str(file))
