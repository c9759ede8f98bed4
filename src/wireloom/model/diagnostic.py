"""One mistake in a file that a person wrote: where it is, what is wrong, what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from wireloom.model.base import Value

__all__ = ["Diagnostic", "format_diagnostics"]


class Diagnostic(Value):
    """A finding in a file.

    :ivar line: 1-based; ``column`` too.
    :ivar path: where in the document, e.g. ``nodes.r1.memory`` or ``links[3]``.
    :ivar suggestion: what to write or do instead; empty when there is nothing to say.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    suggestion: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """``file:line:column: message``, a form that editors and terminals turn into a link."""
        word = "" if self.severity == "error" else "warning: "
        return f"{self.file}:{self.line}:{self.column}: {word}{self.message}"


def format_diagnostics(diagnostics: Sequence[Diagnostic]) -> str:
    """Plain text for a terminal, one finding a line, its suggestion indented below."""
    lines: list[str] = []
    for item in diagnostics:
        lines.append(str(item))
        if item.suggestion:
            lines.append(f"    {item.suggestion}")
    return "\n".join(lines)
