"""Runs the host's own programs: argument lists, never shell strings, and never without a deadline."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass

from wireloom.errors import DeadlineExceeded, Unavailable

__all__ = ["Finished", "run", "run_blocking"]


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    output: str
    errors: str


async def run(*command: str, timeout_s: float = 15) -> Finished:
    """Run ``command`` to its end.

    :raises Unavailable: the program is not installed.
    :raises DeadlineExceeded: it did not end in time (and was killed).
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed", hint=f"install {command[0]}") from error
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate()
    except TimeoutError:
        raise DeadlineExceeded(f"{command[0]} did not end in {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Finished(
        process.returncode or 0, output.decode(errors="replace").strip(), errors.decode(errors="replace").strip()
    )


def run_blocking(*command: str, timeout_s: float = 15, stdin: str = "") -> Finished:
    """The same for worker threads, which have no event loop; ``stdin`` is what the command reads.

    :raises Unavailable: the program is not installed.
    :raises DeadlineExceeded: it did not end in time (and was killed).
    """
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed", hint=f"install {command[0]}") from error
    except subprocess.TimeoutExpired:
        raise DeadlineExceeded(f"{command[0]} did not end in {timeout_s:g} s") from None
    return Finished(done.returncode, done.stdout.strip(), done.stderr.strip())
