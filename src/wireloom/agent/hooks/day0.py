"""Day-0 configuration: the startup configuration in the form that the guest reads at its first boot."""

from __future__ import annotations

import asyncio
from pathlib import Path

from wireloom.agent.context import NodeContext
from wireloom.agent.hooks.base import Hook
from wireloom.day0 import build_iso, render_day0
from wireloom.errors import Unsupported
from wireloom.model.device import Day0
from wireloom.model.runtime import GuestFile, Medium

__all__ = ["Day0Hook"]


class Day0Hook(Hook):
    """Delivers the configuration by the first method of the device's chain that the provider can do."""

    name = "day0"

    def __init__(self, authorized_keys: str) -> None:
        self._authorized_keys = authorized_keys

    async def before_create(self, context: NodeContext) -> None:
        chain = context.node.day0
        if not chain:
            return
        method = next((item for item in chain if self._possible(item, context)), None)
        if method is None:
            if context.node.startup_config is None:
                return
            raise Unsupported(
                f"provider {context.provider.name} can deliver the configuration by none of: "
                + ", ".join(item.method for item in chain),
                node=context.node.name,
                hint="choose another provider for the node, or remove its startup-config",
            )
        files = render_day0(
            method,
            hostname=context.node.name,
            config=context.node.startup_config,
            authorized_keys=self._authorized_keys,
        )
        if method.method == "file":
            context.files.extend(GuestFile(path=path, content=content) for path, content in files.items())
            return
        path = context.folder.path / "media" / "day0.iso"
        content = await asyncio.to_thread(build_iso, method.label, files)
        context.undo.add("day-0 medium", lambda: asyncio.to_thread(path.unlink, missing_ok=True))
        await asyncio.to_thread(_write_medium, path, content)
        context.media.append(Medium(kind="iso", path=str(path)))

    @staticmethod
    def _possible(item: Day0, context: NodeContext) -> bool:
        if item.method == "file":
            return context.capabilities.files
        return item.method in context.capabilities.media


def _write_medium(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    temporary.chmod(0o644)
    temporary.replace(path)
