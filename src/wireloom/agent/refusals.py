"""What the kernel refused: for whom, why, and when to try again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from wireloom.planning.failures import backoff_s

__all__ = ["Refusals"]


@dataclass(frozen=True)
class _Refusal:
    message: str
    times: int
    until: float


class Refusals:
    """By host device. What concerns a refused device is not tried again before its pause is over."""

    def __init__(self) -> None:
        self._refusals: dict[str, _Refusal] = {}

    @property
    def messages(self) -> Mapping[str, str]:
        """Why, by host device."""
        return {device: refusal.message for device, refusal in self._refusals.items()}

    def retry_at(self, now: float) -> float | None:
        """When the next pause is over, in UNIX seconds."""
        return min((refusal.until for refusal in self._refusals.values() if refusal.until > now), default=None)

    def pause(self, devices: Sequence[str], now: float) -> bool:
        """Whether one of ``devices`` is in its pause."""
        return any(device in self._refusals and self._refusals[device].until > now for device in devices)

    def note(self, devices: Sequence[str], message: str, now: float) -> None:
        """The kernel refused something that concerns ``devices``."""
        for device in devices:
            known = self._refusals.get(device)
            times = known.times + 1 if known else 1
            self._refusals[device] = _Refusal(message, times, now + backoff_s(times))

    def clear(self, devices: Sequence[str]) -> None:
        """It went well."""
        for device in devices:
            self._refusals.pop(device, None)

    def keep(self, devices: Collection[str]) -> None:
        """Forget all but ``devices``: the others are gone."""
        self._refusals = {device: refusal for device, refusal in self._refusals.items() if device in devices}
