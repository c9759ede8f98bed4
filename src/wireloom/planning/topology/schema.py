"""The JSON Schema of topology files, for editors: made from the same model that reads them."""

from __future__ import annotations

from typing import Any, Final

from wireloom.model.presets import PRESETS
from wireloom.planning.topology.fields import TopologyFields

__all__ = ["tidy", "topology_schema"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_NAME: Final = "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"
_LINK_END: Final = "^[^:]+(:.+)?$"
#: Where the name of a preset may stand alone.
_PRESET_ALONE: Final = (
    ("LinkFields", "impairment", "ImpairmentFields"),
    ("ImpairmentFields", "forward", "DirectionFields"),
    ("ImpairmentFields", "backward", "DirectionFields"),
)

_QUANTITIES: Final = {
    "time": ("delay", "jitter"),
    "share": ("loss", "duplicate", "corrupt", "reorder"),
    "rate": ("rate",),
}


def topology_schema() -> dict[str, Any]:
    """What an editor needs: which keys there are, what each is for, and which values it takes.

    What needs the rest of the file (ports that exist, names that are there) is not in it.
    """
    schema = TopologyFields.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    tidy(schema)
    schema = {"$schema": _DIALECT, "title": "Wireloom topology", **{k: v for k, v in schema.items() if k != "title"}}
    schema["required"] = ["name", "nodes"]
    schema["properties"]["name"] |= {"type": "string", "pattern": _NAME}
    nodes = schema["properties"]["nodes"]
    nodes |= {
        "minProperties": 1,
        "propertyNames": {"pattern": _NAME},
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/NodeFields"}, {"type": "null"}]},
    }
    ends = definitions["LinkFields"]["properties"]["endpoints"]
    ends["items"] = {"type": "string", "pattern": _LINK_END}
    ends["contains"] = {"type": "string", "pattern": ":"}  # one end at least is a port
    short = {"type": "array", "description": "both ends", **{k: v for k, v in ends.items() if k != "description"}}
    schema["properties"]["links"]["items"] = {"oneOf": [short, {"$ref": "#/$defs/LinkFields"}]}
    _complete_segments(schema)
    binds = {"oneOf": [{"type": "string", "pattern": "^/[^:]*:/[^:]*(:(ro|rw))?$"}, {"$ref": "#/$defs/BindFields"}]}
    for holder in ("NodeFields", "DefaultsFields"):
        definitions[holder]["properties"]["binds"]["items"] = binds
    return schema


def _complete_segments(schema: dict[str, Any]) -> None:
    """What of segments and impairments the model's own schema does not say: names, and short forms."""
    definitions = schema["$defs"]
    schema["properties"]["segments"] |= {
        "propertyNames": {"pattern": _NAME},
        "additionalProperties": {"$ref": "#/$defs/SegmentFields"},
    }
    definitions["SegmentFields"]["required"] = ["kind"]
    preset = {"title": "name of a preset", "type": "string", "enum": sorted(PRESETS)}
    for holder, key, long_form in _PRESET_ALONE:
        value = definitions[holder]["properties"][key]
        choices = [preset, {"$ref": f"#/$defs/{long_form}"}]
        definitions[holder]["properties"][key] = {"description": value["description"], "oneOf": choices}
    for holder in ("DirectionFields", "ImpairmentFields"):
        properties = definitions[holder]["properties"]
        properties["preset"] |= preset
        for words, keys in _QUANTITIES.items():
            for key in keys:
                properties[key]["title"] = words
    trunk = definitions["LinkFields"]["properties"]["trunk"]
    trunk["title"] = "list of VLANs and ranges of them"


def tidy(schema: Any) -> None:
    """Drop generated titles, null defaults and the null alternative of optional keys: a key is given or left out."""
    if isinstance(schema, list):
        for item in schema:
            tidy(item)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("title"), str):
        del schema["title"]
    if "default" in schema and schema["default"] is None:
        del schema["default"]
    choices = schema.get("anyOf")
    if isinstance(choices, list):
        rest = [choice for choice in choices if choice != {"type": "null"}]
        if len(rest) == 1:
            del schema["anyOf"]
            schema |= {key: value for key, value in rest[0].items() if key not in schema}
        else:
            schema["anyOf"] = rest
    for value in list(schema.values()):
        tidy(value)
