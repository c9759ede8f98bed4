"""Pure reading of what the engine says of containers: identity, phase, the live run."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from wireloom.model.identity import LABEL_INCARNATION, LABEL_SPEC, Identity
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.state import RuntimePhase
from wireloom.providers.boots import BootMarks
from wireloom.providers.docker.gate import GATE_TARGET
from wireloom.providers.docker.process import InitProcess

__all__ = ["Run", "boot_marks", "engine_timestamp", "note_boot", "query", "status_of", "summary_status"]

_PHASES: Final = {
    "created": RuntimePhase.CREATED,
    "paused": RuntimePhase.SUSPENDED,
    "exited": RuntimePhase.EXITED,
    "dead": RuntimePhase.EXITED,
    "removing": RuntimePhase.EXITED,
}


@dataclass(frozen=True)
class Run:
    """One live run of a container: its first process, since when, and the host's side of its gate."""

    process: InitProcess
    started_at: float
    gate: Path | None

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Run | None:
        """The run in an inspection; ``None`` when nothing runs (any more)."""
        state = facts["State"]
        process = InitProcess.of(state["Pid"]) if state["Running"] and state["Pid"] else None
        if process is None:
            return None
        gate = next((m["Source"] for m in facts["Mounts"] if m["Destination"] == GATE_TARGET), None)
        return cls(process, engine_time(state["StartedAt"]) or 0.0, None if gate is None else Path(gate))

    @property
    def phase(self) -> RuntimePhase:
        return RuntimePhase.GATED if self.process.gated else RuntimePhase.RUNNING


def boot_marks(facts: dict[str, Any]) -> BootMarks:
    """When the inspected container was started, as far as we saw it; kept with the logs in the node's folder."""
    return BootMarks(_node_folder(facts) / "logs", facts["Id"])


def note_boot(facts: dict[str, Any]) -> None:
    """Remember the run of an inspected container, whoever started it. Without room for the mark only it is missing."""
    started = engine_time(facts["State"]["StartedAt"])
    if started is not None and _node_folder(facts).is_dir():
        with contextlib.suppress(OSError):
            boot_marks(facts).note(started)


def _node_folder(facts: dict[str, Any]) -> Path:
    gate = next((m["Source"] for m in facts["Mounts"] if m["Destination"] == GATE_TARGET), None)
    return Path("/nonexistent") if gate is None else Path(gate).parent


def status_of(facts: dict[str, Any], run: Run | None) -> RuntimeStatus | None:
    """The status in an inspection; ``None`` for a container without our labels."""
    state = facts["State"]
    phase = _phase(state["Status"], run)
    ended = phase is RuntimePhase.EXITED
    return _status(
        facts["Id"],
        facts["Name"],
        facts["Config"]["Labels"],
        phase,
        exit_code=state["ExitCode"] if ended else None,
        started_at=engine_time(state["StartedAt"]),
        detail=_detail(state),
    )


def summary_status(item: dict[str, Any], run: Run | None) -> RuntimeStatus | None:
    """The status in a line of a listing, where that says enough; else ``None``."""
    labels = item["Labels"]
    if item["State"] == "created":
        return _status(item["Id"], item["Names"][0], labels, RuntimePhase.CREATED)
    if item["State"] == "running" and run is not None and run.process.alive:
        return _status(item["Id"], item["Names"][0], labels, run.phase, started_at=run.started_at)
    return None


def engine_timestamp(text: str) -> str | None:
    """``seconds.nanoseconds`` of the engine's RFC 3339 time, as its queries take it; ``None`` for its zero (never)."""
    if text.startswith("0001-"):
        return None
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return f"{seconds}.{fraction or 0}"


def engine_time(text: str) -> float | None:
    """UNIX seconds of the engine's time, or ``None``."""
    stamp = engine_timestamp(text)
    return None if stamp is None else float(stamp)


def query(**params: Any) -> dict[str, str]:
    """Query parameters as the engine takes them: objects as JSON, truth as 1 and 0."""
    return {
        name: json.dumps(value)
        if isinstance(value, dict | list)
        else str(int(value) if isinstance(value, bool) else value)
        for name, value in params.items()
    }


def _phase(state: str, run: Run | None) -> RuntimePhase:
    if state == "running":
        # Its first process may have ended a moment before the engine says so.
        return run.phase if run is not None else RuntimePhase.UNKNOWN
    return _PHASES.get(state, RuntimePhase.UNKNOWN)


def _detail(state: dict[str, Any]) -> str:
    if state.get("OOMKilled"):
        return "killed: it used more memory than its limit"
    return str(state.get("Error") or ("" if state["Status"] not in {"dead", "removing"} else state["Status"]))


def _status(
    runtime_id: str,
    name: str,
    labels: dict[str, str],
    phase: RuntimePhase,
    *,
    exit_code: int | None = None,
    started_at: float | None = None,
    detail: str = "",
) -> RuntimeStatus | None:
    identity = Identity.from_labels(labels)
    if identity is None:
        return None
    return RuntimeStatus(
        runtime_id=runtime_id,
        name=name.removeprefix("/"),
        identity=identity,
        incarnation=int(labels.get(LABEL_INCARNATION, "0")),
        spec_hash=labels.get(LABEL_SPEC, ""),
        phase=phase,
        exit_code=exit_code,
        started_at=started_at,
        detail=detail,
    )
