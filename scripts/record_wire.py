"""Record what travels between processes: one JSON file for each document of this version, with every field filled.

    python scripts/record_wire.py tests/unit/golden/wire/0.1

Run once before a release. The tests read what every earlier version recorded; a record is never changed afterwards.
"""

from __future__ import annotations

import json
import sys
import types
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from wireloom.fabric import (
    capture_documents,
    config_documents,
    documents,
    image_documents,
    link_documents,
    methods,
    move_documents,
    underlay_documents,
)
from wireloom.model.host_views import JoinAnswer, JoinRequest
from wireloom.model.slice import Slice
from wireloom.model.state import SliceStatus

__all__ = ["DOCUMENTS", "record", "sample"]

_MODULES = (
    documents,
    capture_documents,
    config_documents,
    image_documents,
    link_documents,
    move_documents,
    underlay_documents,
)
#: Values of fields that have rules of their own, tried in this order after the plain ones.
_TEXTS = ("text", "10.0.0.1", "10.0.0.0/24", "02:00:00:00:00:01", "ab" * 32, "sha256:" + "ab" * 32, "eth1", "1.5")
_DEEPEST = 8


def _documents() -> dict[str, type[BaseModel]]:
    apart = (Slice, SliceStatus, JoinRequest, JoinAnswer)
    found: dict[str, type[BaseModel]] = {each.__name__: each for each in apart}
    for module in _MODULES:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == module.__name__:
                found[value.__name__] = value
    for method in vars(methods).values():
        for part in ("question", "answer"):
            value = getattr(method, part, None)
            if isinstance(value, type) and issubclass(value, BaseModel):
                found[value.__name__] = value
    return dict(sorted(found.items()))


#: Everything that is a document of its own on the fabric, by name.
DOCUMENTS = _documents()


def sample(model: type[BaseModel], depth: int = 0) -> dict[str, Any]:
    """A JSON form of ``model`` with every field filled that can be."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if depth < _DEEPEST or field.is_required():
            fields[field.alias or name] = _value(field.annotation, depth + 1)
    return _accepted(model, fields)


def _accepted(model: type[BaseModel], fields: dict[str, Any]) -> dict[str, Any]:
    """``fields`` with other texts, or without some, where the model has rules of its own."""
    model.model_rebuild()
    for _ in range(len(fields) * (len(_TEXTS) + 1) + 1):
        try:
            read = model.model_validate(fields)
        except ValidationError as error:
            wrong = error.errors()[0]["loc"]
            if not wrong:
                break
            name = str(wrong[0])
            texts = _TEXTS.index(fields[name]) + 1 if fields.get(name) in _TEXTS else len(_TEXTS)
            if texts < len(_TEXTS):
                fields[name] = _TEXTS[texts]
            else:
                fields.pop(name, None)
        else:
            return json.loads(read.model_dump_json(by_alias=True))  # type: ignore[no-any-return]
    return _required(model)


def _required(model: type[BaseModel]) -> dict[str, Any]:
    fields = {
        name: _value(field.annotation, _DEEPEST) for name, field in model.model_fields.items() if field.is_required()
    }
    return json.loads(model.model_validate(fields).model_dump_json(by_alias=True))  # type: ignore[no-any-return]


def _value(kind: Any, depth: int) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _value(arguments[0], depth)
    if origin is Literal:
        return arguments[-1]
    if origin in (Union, types.UnionType):
        return _value(next(each for each in arguments if each is not type(None)), depth)
    if origin in (tuple, list, frozenset, set):
        return [_value(each, depth) for each in arguments if each is not Ellipsis]
    if origin is not None:  # a mapping
        return {_value(arguments[0], depth): _value(arguments[1], depth)} if len(arguments) == 2 else {}
    return _plain(kind, depth)


def _plain(kind: Any, depth: int) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return sample(kind, depth)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return list(kind)[-1].value
    return {bool: True, int: 7, float: 1.5, bytes: "Ynl0ZXM="}.get(kind, _TEXTS[0])


def record(folder: Path) -> None:
    """Write every document of this version."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in DOCUMENTS.items():
        text = json.dumps(sample(model), indent=1, sort_keys=True, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
