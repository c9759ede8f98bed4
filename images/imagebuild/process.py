"""Run external tools: argument lists only, always with a deadline, failures as one error type."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["BuildError", "pipe", "run"]

_TAIL = 2000


class BuildError(Exception):
    """An image cannot be built; the text says which step failed and what the tool printed."""


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    seconds: float = 120,
    accept: frozenset[int] = frozenset({0}),
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command and return its standard output.

    :param seconds: deadline; the command is killed when it passes.
    :param accept: exit codes that are no failure.
    :param env: variables added to the environment (the locale is always C).
    :raises BuildError: missing tool, deadline passed, or another exit code.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise BuildError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{words[0]} took longer than {seconds:.0f} s") from error
    if done.returncode not in accept:
        said = (done.stderr.strip() or done.stdout.strip())[-_TAIL:]
        raise BuildError(f"{' '.join(words[:4])} … exited {done.returncode}: {said}")
    return done.stdout


def pipe(source: Sequence[str | Path], sink: Sequence[str | Path], *, seconds: float = 120) -> None:
    """Run ``source | sink`` and demand success of both.

    :raises BuildError: as :func:`run`.
    """
    words = [str(word) for word in source]
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as producer:
            consumer = subprocess.run(
                [str(word) for word in sink],
                stdin=producer.stdout,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
            if producer.stdout is not None:
                producer.stdout.close()
            produced = producer.wait(timeout=seconds)
    except FileNotFoundError as error:
        raise BuildError(f"{error.filename} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{words[0]} took longer than {seconds:.0f} s") from error
    if produced or consumer.returncode:
        raise BuildError(f"{' '.join(words[:3])} … failed: {consumer.stderr.strip()[-_TAIL:]}")
