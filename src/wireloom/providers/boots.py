"""When a runtime was started, kept beside its logs: engines remember the last time only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wireloom.errors import NotFound
from wireloom.model.runtime import Boot

__all__ = ["KEPT_BOOTS", "BootMarks", "check_boot"]

#: Boots before the present one whose logs are kept.
KEPT_BOOTS: Final = 3


class BootMarks:
    """Start times of one runtime in the ``logs`` folder of its node; UNIX seconds."""

    def __init__(self, logs: Path, runtime_id: str) -> None:
        self._file = logs / "boots.json"
        self._runtime_id = runtime_id

    def times(self) -> tuple[float, ...]:
        """Newest first; empty for a runtime that was never started."""
        try:
            known = json.loads(self._file.read_text())
            if known["runtime"] != self._runtime_id:  # made anew: its log is another one
                return ()
            return tuple(float(time) for time in known["started"])
        except (OSError, ValueError, KeyError, TypeError):
            return ()

    def note(self, started_at: float, *, instead: bool = False) -> None:
        """The runtime was started; ``instead`` of the last time, which left no log. Noting a time twice is fine.

        :raises OSError: the file system refuses.
        """
        times = self.times()
        if started_at in times:
            return
        started = (started_at, *times[1 if instead else 0 :])[: KEPT_BOOTS + 1]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps({"runtime": self._runtime_id, "started": started}))
        temporary.replace(self._file)

    def boots(self) -> tuple[Boot, ...]:
        """Newest first."""
        return tuple(Boot(number=number, started_at=time) for number, time in enumerate(self.times()))


def check_boot(boot: int, kept: Sequence[object]) -> None:
    """:raises NotFound: of that boot nothing is kept. The present one always is, if only as an empty log."""
    if boot != 0 and not 0 < boot < len(kept):
        raise NotFound(
            f"no log is kept of boot -{boot}" if boot > 0 else "boots are counted back from 0",
            hint=_kept(len(kept)) if kept else "the node was never started",
        )


def _kept(boots: int) -> str:
    return (
        "there is a log of the present or last boot only"
        if boots == 1
        else f"there are logs of boots 0 to -{boots - 1}"
    )
