"""An image's own health check, run by us: the engine would run it before the gate is open, and keeps no promise of
when its answer is fresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from wireloom.errors import DeadlineExceeded, NotFound
from wireloom.providers.contract import Health
from wireloom.providers.docker.commands import run_command
from wireloom.providers.docker.engine import Engine

__all__ = ["ContainerHealth", "ImageCheck"]

_CALL_S: Final = 20.0
_NANOSECONDS: Final = 1e9
_DEFAULT_S: Final = 30.0
_LONGEST_S: Final = 60.0


@dataclass(frozen=True)
class ImageCheck:
    """The command of an image's ``HEALTHCHECK``, and the seconds that it may take."""

    command: tuple[str, ...]
    timeout_s: float = _DEFAULT_S

    @classmethod
    def of(cls, config: dict[str, Any]) -> ImageCheck | None:
        """From an image's ``Config``; ``None`` when it has no check, or says that there is none."""
        told = config.get("Healthcheck") or {}
        kind, *words = told.get("Test") or ["NONE"]
        timeout_s = (told.get("Timeout") or 0) / _NANOSECONDS or _DEFAULT_S
        if kind == "CMD" and words:
            return cls(tuple(words), min(timeout_s, _LONGEST_S))
        if kind == "CMD-SHELL" and words:
            shell = config.get("Shell") or ["/bin/sh", "-c"]
            return cls((*shell, words[0]), min(timeout_s, _LONGEST_S))
        return None


class ContainerHealth:
    """A :class:`~wireloom.providers.contract.HealthCheck`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._checks: dict[str, ImageCheck | None] = {}  # by image id, whose content never changes

    async def health(self, runtime_id: str) -> Health:
        async with self._engine.calling("look at a container", _CALL_S) as docker:
            facts = (await docker.containers.container(runtime_id).show()) or {}
        check = await self._check(str(facts["Image"]))
        if check is None:
            return "unknown"
        try:
            result = await run_command(self._engine, runtime_id, check.command, timeout_s=check.timeout_s, stdin=b"")
        except DeadlineExceeded:
            return "unhealthy"
        return "healthy" if result.exit_code == 0 else "unhealthy"

    async def _check(self, image_id: str) -> ImageCheck | None:
        if image_id not in self._checks:
            try:
                async with self._engine.calling("look at an image", _CALL_S) as docker:
                    found = await docker.images.inspect(image_id)
            except NotFound:  # it was removed by force: what its check was is gone with it
                return None
            self._checks[image_id] = ImageCheck.of(found.get("Config") or {})
        return self._checks[image_id]
