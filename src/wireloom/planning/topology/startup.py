"""What a node's ``startup-config`` means: text, or a template, and alone or after the device's own.

The name of a file tells: ``*.j2`` is a template, ``*.partial`` or ``*.partial.*`` comes after the device's default.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from wireloom.day0.templates import check, is_template
from wireloom.day0.values import CONFIG_VARIABLES

__all__ = ["StartupText", "startup_of"]


@dataclass(frozen=True)
class StartupText:
    """A template that is filled in on the node's host, and text that is taken as it is and comes after it."""

    template: str = ""
    text: str | None = None


def startup_of(name: str, content: str, default: str) -> StartupText:
    """The startup configuration that the file ``name`` with ``content`` gives.

    :param default: the device's own template.
    :raises InvalidInput: a template with a mistake.
    """
    template = is_template(name)
    if template:
        check(content, CONFIG_VARIABLES, what=name)
    if not _is_partial(name):
        return StartupText(template=content) if template else StartupText(text=content)
    if default and not default.endswith("\n"):
        default += "\n"
    return StartupText(template=default + content) if template else StartupText(template=default, text=content)


def _is_partial(name: str) -> bool:
    return "partial" in PurePath(name).name.split(".")[1:]
