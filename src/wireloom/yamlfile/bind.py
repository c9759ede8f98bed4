"""Fill a model from a tree, and say with positions everything that does not fit.

What does not fit is left out and the rest is read again, so that later checks see as much of the file as
possible and one run reports all mistakes. ``Bound.flagged`` tells them where a mistake was already reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from wireloom.model.diagnostic import Diagnostic
from wireloom.yamlfile.locate import Path, Place, locate, path_text
from wireloom.yamlfile.suggest import did_you_mean, listing, nearest
from wireloom.yamlfile.tree import Document, Mapping, Node, Scalar, Sequence

__all__ = ["Bound", "FileModel", "bind"]

#: Each round removes what did not fit, so nested mistakes need as many rounds as they are deep.
_ROUNDS = 8


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class FileModel(BaseModel):
    """Base of what people write in files: strict types, kebab-case keys, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=_kebab, populate_by_name=False)


ModelT = TypeVar("ModelT", bound=FileModel)


@dataclass(slots=True)
class Bound(Generic[ModelT]):
    """The model with what fitted, the tree it came from, and what did not fit."""

    document: Document
    root: Node | None
    value: ModelT | None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    _flagged: set[Path] = field(default_factory=set)

    def flagged(self, *path: str | int) -> bool:
        """Whether a mistake at ``path`` or above it was already reported."""
        return any(path[: len(known)] == known for known in self._flagged)

    def place(self, *path: str | int) -> Place | None:
        return None if self.root is None else locate(self.root, path)

    def report(
        self, path: Path, message: str, suggestion: str = "", *, at_key: bool = False, warning: bool = False
    ) -> None:
        """Add a diagnostic at ``path`` (its key with ``at_key``; the nearest parent when it is not in the file)."""
        place = self.place(*path)
        line = column = 1
        if place is not None:
            mark = place.key.start if at_key and place.key is not None else place.mark
            line, column = mark.line, mark.column
        self._flagged.add(path)
        self.diagnostics.append(
            Diagnostic(
                file=self.document.file,
                line=line,
                column=column,
                path=path_text(path),
                message=message,
                suggestion=suggestion,
                severity="warning" if warning else "error",
            )
        )

    def sorted_diagnostics(self) -> tuple[Diagnostic, ...]:
        """All diagnostics in the order of the file, each once."""
        unique = {str(item): item for item in self.diagnostics}
        return tuple(sorted(unique.values(), key=lambda item: (item.line, item.column)))

    def flag(self, path: Path) -> None:
        """Keep later checks from reporting what follows from a mistake already reported at ``path``."""
        self._flagged.add(path)


def bind(model: type[ModelT], document: Document, *, what: str) -> Bound[ModelT]:
    """Read ``document`` as ``model``; ``what`` names the kind of file in messages (``a topology``)."""
    bound: Bound[ModelT] = Bound(document, document.root, None, list(document.diagnostics))
    if document.root is None:
        if not document.diagnostics:
            bound.report((), f"the file is empty, where {what} was expected")
        return bound
    if not isinstance(document.root, Mapping):
        bound.report((), f"{what} is a mapping of keys to values", "begin with `name: my-lab`")
        return bound
    for _ in range(_ROUNDS):
        assert bound.root is not None  # noqa: S101 - narrowed above; pruning keeps the root
        try:
            bound.value = model.model_validate(bound.root.data())
        except ValidationError as error:
            for item in error.errors(include_url=False):
                _take_error(bound, model, item)
        else:
            return bound
    return bound


def _take_error(bound: Bound[Any], model: type[FileModel], error: ErrorDetails) -> None:
    assert bound.root is not None  # noqa: S101 - only called while a tree is there
    wanted = error["loc"]
    place = locate(bound.root, wanted)
    if error["type"] == "extra_forbidden":
        word = str(wanted[-1])
        known = _known_keys(model, wanted[:-1])
        bound.report(place.path, f"unknown key {word!r}", did_you_mean(word, known), at_key=True)
        meant = nearest(word, known)
        if meant is not None:
            bound.flag((*place.path[:-1], meant))
    elif error["type"] == "missing":
        bound.report((*place.path, str(wanted[-1])), f"{wanted[-1]!r} is missing", f"add `{wanted[-1]}: …`")
        if place.path:
            bound.flag(place.path)
    elif not bound.flagged(*place.path):
        bound.report(place.path, *_phrase(error))
    bound.root = _without(bound.root, place.path, drop=error["type"] == "extra_forbidden")


def _phrase(error: ErrorDetails) -> tuple[str, str]:
    """Message and suggestion for one error of pydantic."""
    kind, given = error["type"], error["input"]
    if kind == "literal_error":
        expected = str(error.get("ctx", {}).get("expected", ""))
        choices = [choice.strip(" '") for choice in expected.replace(" or ", ",").split(",")]
        return f"{_shown(given)} is not one of: {listing(choices)}", did_you_mean(str(given), choices)
    phrase = _PHRASES.get(kind)
    if phrase is None:
        context = error.get("ctx", {})
        return error["msg"][:1].lower() + error["msg"][1:], str(context.get("suggestion", ""))
    hint = "put quotes around it" if kind == "string_type" and isinstance(given, int | float) else ""
    context = {name: _shown(value) for name, value in error.get("ctx", {}).items()}
    return f"{phrase.format(**context)}, not {_shown(given)}", hint


_PHRASES = {
    "string_type": "text is expected here",
    "int_type": "a whole number is expected here",
    "int_from_float": "a whole number is expected here",
    "float_type": "a number is expected here",
    "finite_number": "a finite number is expected here",
    "bool_type": "true or false is expected here",
    "list_type": "a list is expected here",
    "dict_type": "a mapping of keys to values is expected here",
    "model_type": "a mapping of keys to values is expected here",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:56]}…"


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Keys of the model that ``path`` leads to, found through lists, dictionaries and options."""
    current: type[BaseModel] | None = model
    for step in path:
        if current is None:
            return []
        fields = {info.alias or name: info.annotation for name, info in current.model_fields.items()}
        if step in fields:
            current = _model_in(fields[str(step)])
    return [] if current is None else [info.alias or name for name, info in current.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments: tuple[object, ...] = getattr(annotation, "__args__", ())
    return next((found for found in map(_model_in, arguments) if found is not None), None)


def _without(node: Node, path: Path, *, drop: bool) -> Node:
    """A copy without the value at ``path``: empty at first, gone when that did not fit either or with ``drop``."""
    if not path:
        return node
    step, rest = path[0], path[1:]
    if isinstance(node, Mapping) and str(step) in node.entries:
        entry = node.entries[str(step)]
        entries = dict(node.entries)
        if rest:
            entries[str(step)] = replace(entry, value=_without(entry.value, rest, drop=drop))
        elif drop or _is_nothing(entry.value):
            del entries[str(step)]
        else:
            entries[str(step)] = replace(entry, value=_nothing(entry.value))
        return replace(node, entries=entries)
    if isinstance(node, Sequence) and isinstance(step, int):
        items = list(node.items)
        if rest:
            items[step] = _without(items[step], rest, drop=drop)
        elif _is_nothing(items[step]):
            del items[step]
        else:
            items[step] = _nothing(items[step])
        return replace(node, items=tuple(items))
    return node


def _is_nothing(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _nothing(node: Node) -> Scalar:
    return Scalar(start=node.start, end=node.end, text="~", style="", value=None)
