"""The simulated guest: a few commands over a file system that lives as long as the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from wireloom.model.runtime import ExecResult

__all__ = ["run_in_guest"]

_NOT_FOUND: Final = 127


async def run_in_guest(storage: dict[str, bytes], command: Sequence[str], stdin: bytes) -> ExecResult:
    """Run one command: ``true``, ``exit N``, ``echo …``, ``warn …`` (to stderr), ``cat`` (stdin to stdout),
    ``sleep S``, ``write PATH`` (from stdin), ``read PATH``."""
    name, *arguments = command
    text = " ".join(arguments)
    match name:
        case "true":
            return ExecResult(exit_code=0)
        case "exit":
            return ExecResult(exit_code=int(text))
        case "echo":
            return ExecResult(exit_code=0, stdout=f"{text}\n".encode())
        case "warn":
            return ExecResult(exit_code=0, stderr=f"{text}\n".encode())
        case "cat":
            return ExecResult(exit_code=0, stdout=stdin)
        case "sleep":
            await asyncio.sleep(float(text))
            return ExecResult(exit_code=0)
        case "write":
            storage[text] = stdin
            return ExecResult(exit_code=0)
        case "read" if text in storage:
            return ExecResult(exit_code=0, stdout=storage[text])
        case "read":
            return ExecResult(exit_code=1, stderr=f"no file {text}\n".encode())
    return ExecResult(exit_code=_NOT_FOUND, stderr=f"no command {name}\n".encode())
