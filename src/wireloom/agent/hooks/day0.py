"""Day-0 configuration: the startup configuration in the form that the guest reads at its first boot.

A device names its methods in order of preference; the first that the node's provider can do is used. ``serial``, the
last resort, delivers nothing here: :mod:`wireloom.agent.config_load` types the configuration after the boot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from wireloom.agent.context import NodeContext
from wireloom.agent.hooks.base import Hook
from wireloom.agent.shown_folder import ShownFolder
from wireloom.day0 import MediumImage, build_medium, render_day0, render_smbios, startup_text, template_values
from wireloom.errors import InvalidInput, RuntimeFailed, Unsupported
from wireloom.model.device import Day0
from wireloom.model.runtime import Capabilities, GuestFile, Medium
from wireloom.model.slice import Bind, NodeIntent

__all__ = ["Day0Hook", "day0_method"]

#: A medium holds passwords: root reads it, and the emulator's user, to whom libvirt gives it.
_MEDIUM_MODE = 0o600
_FOLDER = "media"


def day0_method(chain: Sequence[Day0], capabilities: Capabilities, *, can_load: bool) -> Day0 | None:
    """The first method of ``chain`` that a provider with ``capabilities`` can do.

    :param can_load: the device says how a configuration is loaded into a running node.
    """
    return next((item for item in chain if _possible(item, capabilities, can_load=can_load)), None)


def _possible(item: Day0, capabilities: Capabilities, *, can_load: bool) -> bool:
    possible: Mapping[str, bool] = {
        "file": capabilities.files,
        "bind": capabilities.binds,
        "iso": "iso" in capabilities.media,
        "nocloud": "iso" in capabilities.media,
        "configdrive": "iso" in capabilities.media,
        "fat": "fat" in capabilities.media,
        "smbios": "smbios" in capabilities.media,
        "serial": can_load,
    }
    return possible[item.method]


class Day0Hook(Hook):
    """Delivers the configuration by the first method of the device's chain that the provider can do.

    :param authorized_keys: public SSH keys of this installation, one a line.
    """

    name = "day0"

    def __init__(self, authorized_keys: str) -> None:
        self._authorized_keys = authorized_keys

    async def before_create(self, context: NodeContext) -> None:
        node = context.node
        if not node.day0:
            return
        method = day0_method(node.day0, context.capabilities, can_load=bool(node.load))
        if method is None:
            if _has_config(node):
                raise _impossible(context)
            return
        if method.method != "serial":
            # Hashing and packing take a while, and a large lab does it for many nodes at once.
            delivery = await asyncio.to_thread(_Delivery, context, method, self._authorized_keys)
            await delivery.deliver()

    async def destroyed(self, context: NodeContext) -> None:
        """A medium holds secrets, and nothing reads it any more."""
        await asyncio.to_thread(_remove_media, context.folder.path / _FOLDER)


def _has_config(node: NodeIntent) -> bool:
    return node.stored_config is not None or node.startup_config is not None or bool(node.startup_template)


def _impossible(context: NodeContext) -> Unsupported:
    return Unsupported(
        f"provider {context.provider.name} can deliver the configuration by none of: "
        + ", ".join(item.method for item in context.node.day0),
        node=context.node.name,
        hint="choose another provider for the node, or remove its startup-config",
    )


class _Delivery:
    """One configuration on its way to one node by one method. Making it renders every template."""

    def __init__(self, context: NodeContext, method: Day0, authorized_keys: str) -> None:
        self._context = context
        self._method = method
        node = context.node
        values: dict[str, Any] = template_values(context.lab, node, authorized_keys)
        config = startup_text(node, values)
        self._smbios: dict[str, str] = {}
        self._files: dict[str, bytes] = {}
        self._image: MediumImage | None = None
        try:
            if method.method == "smbios":
                self._smbios = render_smbios(method, values, config=config, device=node.device)
                return
            self._files = {**render_day0(method, values, config=config, device=node.device), **context.medium_files}
            if method.method not in {"file", "bind"}:
                self._image = build_medium(method, self._files)
        except InvalidInput as error:
            error.node = error.node or node.name
            raise

    async def deliver(self) -> None:
        context, method = self._context, self._method
        context.smbios.update(self._smbios)
        if self._image is not None:
            await self._deliver_medium(self._image)
        elif method.method == "file":
            context.files.extend(
                GuestFile(path=path, content=content, mode=method.mode) for path, content in self._files.items()
            )
        elif method.method == "bind":
            await self._deliver_bind()

    async def _deliver_medium(self, image: MediumImage) -> None:
        context, method = self._context, self._method
        kind = "fat" if method.method == "fat" else "iso"
        path = context.folder.path / _FOLDER / f"day0.{'img' if kind == 'fat' else 'iso'}"
        context.undo.add("day-0 medium", lambda: asyncio.to_thread(path.unlink, missing_ok=True))
        await asyncio.to_thread(_write_medium, path, image)
        context.media.append(Medium.model_validate({"kind": kind, "path": str(path), "attach": method.attach}))

    async def _deliver_bind(self) -> None:
        """The folder of the path is the node's own, kept over stops; what the guest wrote to it stays."""
        context, method = self._context, self._method
        target = PurePosixPath(method.path).parent
        if any(PurePosixPath(bind.target) == target for bind in context.node.binds):
            raise InvalidInput(
                f"the device keeps its configuration in {target}, and a bind of the node is there too",
                node=context.node.name,
                hint="bind something below it, or put the configuration into the folder that you bind",
            )
        files = {PurePosixPath(path): content for path, content in self._files.items()}
        folder = ShownFolder(context.folder.path / "storage", target)
        # What the user chose is written once; what the guest saves later is newer.
        await asyncio.to_thread(folder.put, files, method.mode, choice=context.node.config_choice)
        context.binds.append(Bind(source=str(folder.path), target=str(target)))


def _write_medium(path: Path, image: MediumImage) -> None:
    """:raises RuntimeFailed: the host's file system refuses."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.touch(_MEDIUM_MODE)
        with temporary.open("r+b") as stream:
            image.write(stream)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RuntimeFailed(f"cannot write the day-0 medium {path}: {error.strerror}") from error


def _remove_media(folder: Path) -> None:
    for medium in folder.glob("day0.*") if folder.is_dir() else ():
        medium.unlink(missing_ok=True)
