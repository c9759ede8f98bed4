"""The JSON Schema of topology files, for editors: made from the same model that reads them."""

from __future__ import annotations

from typing import Any, Final

from wireloom.planning.topology.fields import TopologyFields

__all__ = ["tidy", "topology_schema"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_NAME: Final = "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"
_LINK_END: Final = "^[^:]+:.+$"


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
    short = {"type": "array", "description": "both ends", **{k: v for k, v in ends.items() if k != "description"}}
    schema["properties"]["links"]["items"] = {"oneOf": [short, {"$ref": "#/$defs/LinkFields"}]}
    binds = {"oneOf": [{"type": "string", "pattern": "^/[^:]*:/[^:]*(:(ro|rw))?$"}, {"$ref": "#/$defs/BindFields"}]}
    for holder in ("NodeFields", "DefaultsFields"):
        definitions[holder]["properties"]["binds"]["items"] = binds
    return schema


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
