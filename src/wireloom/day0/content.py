"""What goes to a guest before its first boot: the startup configuration and the device's further files."""

from __future__ import annotations

import re
from typing import Final

from wireloom.errors import InvalidInput
from wireloom.model.device import Day0

__all__ = ["render_day0"]

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")


def render_day0(day0: Day0, *, hostname: str, config: str | None, authorized_keys: str = "") -> dict[str, bytes]:
    """The files of ``day0``, path to content.

    The configuration is taken as it is, with a line feed at its end. Templates of further files may use
    ``{hostname}`` and ``{authorized_keys}``; any other text in braces stays, since configurations are full of them.

    :param config: the startup configuration; ``None`` leaves its file out.
    :param authorized_keys: public keys as OpenSSH writes them, one a line.
    """
    values = {"hostname": hostname, "authorized_keys": _ended(authorized_keys)}
    files = {path: _fill(template, values).encode() for path, template in day0.extra.items()}
    if config is not None:
        if day0.path in files:
            raise InvalidInput(f"day-0 file {day0.path} is both the configuration and an extra file")
        files[day0.path] = _ended(config).encode()
    return files


def _fill(template: str, values: dict[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values.get(match.group(1), match.group(0)), template)


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
