"""Hold the size limits: modules of at most 500 lines, functions of at most 60.

A function's docstring and the comments before it do not count. Complexity is ruff's business.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES = 500
FUNCTION_LINES = 60
FOLDERS = ("src", "images", "scripts", "tests", "benchmarks")
REPOSITORY = Path(__file__).resolve().parent.parent

EXEMPT: frozenset[str] = frozenset()
"""Known violations as ``path`` or ``path:function``. This list may only shrink."""


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def violations(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """What is too long in one file, as (key for the exempt list, message)."""
    text = path.read_text(encoding="utf-8")
    if (lines := len(text.splitlines())) > MODULE_LINES:
        yield name, f"{name}: {lines} lines, at most {MODULE_LINES}"
    for node in ast.walk(ast.parse(text, filename=name)):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (lines := function_lines(node)) > FUNCTION_LINES
        ):
            yield (
                f"{name}:{node.name}",
                f"{name}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES}",
            )


def main() -> int:
    """Print what is too long and what is exempt without need; returns the exit code."""
    files = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
    found = {key: text for path in files for key, text in violations(path, str(path.relative_to(REPOSITORY)))}
    problems = [text for key, text in found.items() if key not in EXEMPT]
    problems += [f"{key}: no longer too long, take it off the exempt list" for key in EXEMPT - found.keys()]
    for problem in problems:
        print(problem)
    print(f"{len(files)} files, {len(problems)} beyond the limits, {len(EXEMPT)} exempt")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
