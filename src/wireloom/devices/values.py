"""Kinds of value that device files are made of."""

from __future__ import annotations

import re
import shlex
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from wireloom.model.device import ARCHITECTURES, CPU_FLAGS, KERNEL_ABILITIES
from wireloom.yamlfile import did_you_mean
from wireloom.yamlfile.values import wrong

__all__ = ["Argv", "Name", "NeedWord", "Regex", "exactly_one_of", "ranged"]

_NEEDS = (
    "privileged",
    "kvm",
    "nested",
    *(f"cpu:{flag}" for flag in CPU_FLAGS),
    *(f"kernel:{name}" for name in KERNEL_ABILITIES),
    *(f"arch:{name}" for name in ARCHITECTURES),
)


@lru_cache(maxsize=4096)  # of what is shipped, and of as many again that users try
def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise wrong(f"{value!r} is not a regular expression: {error}") from error
    return value


def _name(value: str) -> str:
    if re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,62}", value) is None:
        raise wrong(f"{value!r} is not fit for a name", "use lower-case letters, digits, '-', '_' and '.'")
    return value


def _need(value: str) -> str:
    if value not in _NEEDS:
        raise wrong(f"{value!r} is nothing that hosts tell of themselves", did_you_mean(value, _NEEDS))
    return value


def _argv(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


def ranged(value: Any) -> Any:
    """``2`` for ``{default: 2}``."""
    return value if isinstance(value, dict) else {"default": value}


def exactly_one_of(*kinds: str) -> Any:
    """A validator for entries such as ``{log: …}``: exactly one of ``kinds`` is the key that says what it is."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value in kinds:
            return {value: None}
        if isinstance(value, dict) and len(set(value) & set(kinds)) != 1:
            raise wrong(f"exactly one of {', '.join(kinds)} is expected here")
        return value

    return BeforeValidator(check)


Regex = Annotated[str, AfterValidator(_regex)]
Name = Annotated[str, AfterValidator(_name)]
NeedWord = Annotated[str, AfterValidator(_need)]
Argv = Annotated[list[str], BeforeValidator(_argv)]
