"""How errors are shown, and the exit codes.

=====  ============================================================================================
code   meaning
=====  ============================================================================================
0      done; for ``plan``: nothing to change
1      failed: the message and, where there is one, a hint are on stderr
2      wrong usage; for ``plan``: there are changes
130    interrupted by Ctrl-C
=====  ============================================================================================

``exec`` passes the exit code of the command in the node through.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wireloom.cli.output import Output
    from wireloom.errors import WireloomError

__all__ = ["CHANGES", "FAILED", "INTERRUPTED", "OK", "USAGE", "diagnostic_lines", "error_lines", "report"]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CHANGES: Final = 2
INTERRUPTED: Final = 130


def report(error: WireloomError, output: Output, *, sources: Mapping[str, str] | None = None) -> None:
    """Print ``error`` for people on stderr, and with ``--json`` its wire form on stdout as ``{"error": …}``.

    :param sources: file name to text, so that a diagnostic can show the line that it is about.
    """
    if output.json:
        output.data({"error": error.to_wire()})
    for line in error_lines(error.to_wire(), sources=sources or {}):
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def error_lines(document: Mapping[str, Any], *, sources: Mapping[str, str]) -> list[str]:
    """The wire form of an error as lines: what, where, and what to do."""
    details = document.get("details") or {}
    diagnostics = details.get("diagnostics") or ()
    if diagnostics:
        lines = [line for item in diagnostics for line in diagnostic_lines(item, sources)]
        return [*lines, f"error: {len(diagnostics)} {'mistake' if len(diagnostics) == 1 else 'mistakes'}"]
    lines = []
    node = f"{document['node']}: " if document.get("node") else ""
    lines.append(f"error: {node}{document.get('message') or document.get('code')}")
    for problem in details.get("problems") or ():
        lines += [f"  {line}" for line in _problem_lines(problem)]
    if document.get("hint"):
        lines.append(f"hint: {document['hint']}")
    return lines


def diagnostic_lines(diagnostic: Mapping[str, Any], sources: Mapping[str, str]) -> list[str]:
    """``file:line:col: message``, the source line with a caret, and the suggestion."""
    file = str(diagnostic.get("file") or diagnostic.get("source") or "topology")
    line, column = int(diagnostic.get("line") or 0), int(diagnostic.get("column") or 0)
    severity = str(diagnostic.get("severity") or "error")
    mark = "" if severity == "error" else f"{severity}: "
    lines = [f"{file}:{line}:{column}: {mark}{diagnostic.get('message', '')}"]
    lines += _excerpt(sources.get(file, ""), line, column)
    suggestion = diagnostic.get("suggestion") or diagnostic.get("hint")
    if suggestion:
        lines.append(f"    = {suggestion}")
    return lines


def _excerpt(text: str, line: int, column: int) -> Sequence[str]:
    rows = text.splitlines()
    if not 1 <= line <= len(rows):
        return ()
    row = rows[line - 1]
    # Tabs are kept in the margin, so that the caret stands under its column whatever their width.
    margin = "".join("\t" if char == "\t" else " " for char in row[: max(column - 1, 0)])
    number = f"{line:>5} | "
    return (f"{number}{row}", f"{' ' * (len(number) - 2)}| {margin}^")


def _problem_lines(problem: Mapping[str, Any] | str) -> list[str]:
    if isinstance(problem, str):
        return [problem]
    node = f"{problem['node']}: " if problem.get("node") else ""
    lines = [f"{node}{problem.get('message') or problem.get('code')}"]
    if problem.get("hint"):
        lines.append(f"  hint: {problem['hint']}")
    return lines
