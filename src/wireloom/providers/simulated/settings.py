"""What a topology may say about a simulated guest."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wireloom.errors import InvalidInput

__all__ = ["SimulatedSettings"]


class SimulatedSettings(BaseModel):
    """How the guest behaves; unknown keys are refused.

    :ivar boot_s: seconds from release until its last boot line.
    :ivar boot_lines: what it writes while booting; ``{hostname}`` is filled in.
    :ivar exit_after_s: it ends by itself that long after release, with ``exit_code``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    boot_s: float = Field(default=0, ge=0)
    boot_lines: list[str] = ["{hostname} boots", "{hostname} login:"]
    exit_after_s: float | None = Field(default=None, ge=0)
    exit_code: int = 0

    @classmethod
    def parse(cls, settings: dict[str, Any]) -> SimulatedSettings:
        """:raises InvalidInput: naming each key that is wrong."""
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg'].lower()}" for item in error.errors()]
            raise InvalidInput(
                f"simulated settings are wrong: {'; '.join(problems)}",
                hint=f"known settings: {', '.join(sorted(cls.model_fields))}",
                details={"problems": problems},
            ) from None
