"""Impairments of links in a topology file: presets filled in, each direction on its own."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.presets import PRESETS
from wireloom.planning.topology.fields import TopologyFields
from wireloom.planning.topology.link_fields import DirectionFields, ImpairmentFields
from wireloom.yamlfile import Bound, Path, did_you_mean

__all__ = ["read_impairment"]

#: Word in the file → part of an :class:`Impairment`.
_PARTS: Final = {
    "delay": "delay_ms",
    "jitter": "jitter_ms",
    "loss": "loss",
    "duplicate": "duplicate",
    "corrupt": "corrupt",
    "reorder": "reorder",
    "rate": "rate_kbit",
    "limit": "limit",
}


def read_impairment(bound: Bound[TopologyFields], path: Path, fields: ImpairmentFields | None) -> LinkImpairment:
    """What ``fields`` at ``path`` say; a direction with a mistake is whole."""
    if fields is None:
        return LinkImpairment()
    own = fields.forward is not None or fields.backward is not None
    if not own:
        forward = _direction(bound, path, fields, "forward")
        # A mistake in both directions is one mistake.
        return LinkImpairment(
            forward=forward, backward=None if bound.flagged(*path) else _direction(bound, path, fields, "backward")
        )
    if _said(fields) or fields.preset is not None:
        message = "an impairment is the same in both directions, or each direction has its own"
        bound.report(path, message, "put everything under `forward` and `backward`")
    return LinkImpairment(
        forward=_direction(bound, (*path, "forward"), fields.forward, "forward"),
        backward=_direction(bound, (*path, "backward"), fields.backward, "backward"),
    )


def _direction(
    bound: Bound[TopologyFields], path: Path, fields: DirectionFields | None, which: str
) -> Impairment | None:
    if fields is None:
        return None
    values = _said(fields)
    if fields.preset is not None:
        preset = PRESETS.get(fields.preset)
        if preset is None:
            message = f"there is no preset {fields.preset!r}"
            bound.report((*path, "preset"), message, did_you_mean(fields.preset, PRESETS))
            bound.flag(path)
            return None
        base = preset.forward if which == "forward" else preset.backward
        values = {**(base or Impairment()).model_dump(), **values}
    try:
        return Impairment(**values).or_none()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        bound.report(path, str(first.get("ctx", {}).get("error", first["msg"])), "add `delay`, e.g. `delay: 50ms`")
        return None


def _said(fields: DirectionFields) -> dict[str, Any]:
    """Parts that the file names, in the units of the model."""
    given = {part: getattr(fields, word) for word, part in _PARTS.items()}
    values = {part: value for part, value in given.items() if value is not None}
    if "rate_kbit" in values:
        values["rate_kbit"] = round(values["rate_kbit"])
    return values
