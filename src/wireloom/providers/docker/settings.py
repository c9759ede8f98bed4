"""What device files and topologies may say about a container beyond the neutral fields of a spec."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wireloom.errors import InvalidInput

__all__ = ["DockerSettings"]


class DockerSettings(BaseModel):
    """Settings of one container; unknown keys are refused.

    :ivar entrypoint: replaces the image's entrypoint (and drops its command, as the engine does).
    :ivar command: replaces the image's command.
    :ivar user: user (and group) of the first process, as ``name``, ``uid`` or ``uid:gid``.
    :ivar tty: the first process gets a terminal; ``open_stdin`` keeps its input open, so that a shell stays alive.
    :ivar cap_add: kernel capabilities beyond the engine's default set, e.g. ``NET_ADMIN``.
    :ivar privileged: run privileged; needs the consent of the user who deploys.
    :ivar sysctls: namespaced kernel settings, e.g. ``net.ipv4.ip_forward: 1``.
    :ivar devices: host devices, ``/dev/x`` or ``/dev/x:/dev/y:rwm``.
    :ivar tmpfs: mount point to options, e.g. ``/run: size=64m``.
    :ivar shm_size_mb: size of ``/dev/shm`` in MiB.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entrypoint: list[str] | None = None
    command: list[str] | None = None
    user: str | None = None
    tty: bool = True
    open_stdin: bool = True
    cap_add: list[str] = []
    privileged: bool = False
    sysctls: dict[str, str | int] = {}
    devices: list[str] = []
    tmpfs: dict[str, str] = {}
    shm_size_mb: int | None = Field(default=None, gt=0)

    @classmethod
    def parse(cls, settings: dict[str, Any]) -> DockerSettings:
        """:raises InvalidInput: naming each key that is wrong."""
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            problems = [
                f"{'.'.join(str(part) for part in item['loc'])}: {item['msg'].lower()}" for item in error.errors()
            ]
            raise InvalidInput(
                f"docker settings are wrong: {'; '.join(problems)}",
                hint=f"known settings: {', '.join(sorted(cls.model_fields))}",
                details={"problems": problems},
            ) from None

    @property
    def may_remount(self) -> bool:
        """Whether the guest could turn a read-only mount into a writable one."""
        strong = {"ALL", "SYS_ADMIN", "CAP_SYS_ADMIN"}
        return self.privileged or not strong.isdisjoint(name.upper() for name in self.cap_add)
