"""Jinja2 templates of day-0 files: a sandbox in which a template can neither reach the program nor use it up.

What a template may say is a subset of Jinja2, checked before it is compiled: text, ``{{ … }}``, ``if``, ``for`` and
``set``, comparisons, arithmetic, the filters of :data:`FILTERS`, and ``range``. There are no method calls, macros,
includes and lists made of variables. Therefore every way to use much time or memory goes through a bound:

* a template is at most :data:`MAX_TEMPLATE` characters, and what comes out at most :data:`MAX_OUTPUT`;
* its loops together take at most :data:`MAX_STEPS` steps, and its filters handle :data:`MAX_WORK` characters;
* a text that it puts together is at most :data:`MAX_OUTPUT` characters long, a number at most 2⁶³.

Undefined variables are errors, never empty text. See :mod:`wireloom.day0.values` for the variables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final
from xml.sax.saxutils import escape

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError, nodes, pass_context
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from wireloom.day0.crypt import sha512_crypt
from wireloom.errors import InvalidInput

__all__ = [
    "FILTERS",
    "MAX_OUTPUT",
    "MAX_STEPS",
    "MAX_TEMPLATE",
    "MAX_WORK",
    "check",
    "is_template",
    "render",
    "undeclared",
]

MAX_TEMPLATE: Final = 4 * 1024 * 1024
MAX_OUTPUT: Final = 8 * 1024 * 1024
MAX_STEPS: Final = 100_000
MAX_WORK: Final = 64 * 1024 * 1024
_HASH_STEPS: Final = 1_000  # a hash takes about 10 ms
_MAX_PASSWORD: Final = 128
_MAX_NUMBER: Final = 2**63
_CACHED: Final = 256
_CACHED_LENGTH: Final = 64 * 1024

#: Name under which a rendering's bounds travel; no template can say it, since names that begin with ``_`` are refused.
_BOUNDS: Final = "_bounds"

_STATEMENTS: Final = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Assign)
_EXPRESSIONS: Final = (
    nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.CondExpr, nodes.Concat, nodes.Add, nodes.Sub, nodes.Mul,
    nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos, nodes.Call, nodes.Keyword, nodes.Tuple, nodes.List,
)  # fmt: skip
_ALLOWED: Final = _STATEMENTS + _EXPRESSIONS


class _Bounds:
    """What one rendering has used, and its salt."""

    def __init__(self, salt: str) -> None:
        self.salt = salt
        self._steps = 0
        self._output = 0
        self._work = 0

    def step(self, count: int = 1) -> None:
        self._steps += count
        if self._steps > MAX_STEPS:
            raise _TooMuch(f"its loops take more than {MAX_STEPS} steps")

    def work(self, length: int) -> None:
        self._work += length
        if self._work > MAX_WORK:
            raise _TooMuch(f"its filters handle more than {MAX_WORK} characters")

    def put_out(self, text: str) -> None:
        self._output += len(text)
        if self._output > MAX_OUTPUT:
            raise _TooMuch(f"what comes out is longer than {MAX_OUTPUT} characters")


class _TooMuch(TemplateError):
    """A bound was passed."""


# ------------------------------------------------------------------ filters


def _text(value: Any) -> str:
    """``value`` as it is put out: numbers and texts only, since anything else is a mistake in a configuration."""
    if isinstance(value, StrictUndefined):
        return str(value)  # raises
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TemplateError(f"a {type(value).__name__} cannot be written; name one of its parts")
    return str(value)


def _bounded(length: int) -> None:
    if length > MAX_OUTPUT:
        raise _TooMuch(f"a text longer than {MAX_OUTPUT} characters")


def _joined(parts: Any, between: str = "") -> str:
    texts = [_text(part) for part in parts]
    _bounded(sum(map(len, texts)) + len(between) * len(texts))
    return _text(between).join(texts)


def _indented(text: Any, width: int = 4) -> str:
    """Every line after the first begins with ``width`` spaces, so that a block fits into YAML."""
    lines = _text(text).split("\n")
    if not 0 <= width <= 64:
        raise TemplateError("indent takes 0 to 64 spaces")
    _bounded(sum(map(len, lines)) + len(lines) * (width + 1))
    return lines[0] + "".join(f"\n{' ' * width}{line}" if line else "\n" for line in lines[1:])


def _replaced(text: Any, old: str, new: str) -> str:
    source = _text(text)
    if not old:
        raise TemplateError("replace needs a text to replace")
    _bounded(len(source) + source.count(old) * len(new))
    return source.replace(old, new)


def _default(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None or value == "" else value


def _size(value: Any) -> int:
    return len(value)


def _quoted(value: Any) -> str:
    """A text in double quotes, as YAML and JSON read it."""
    return json.dumps(_text(value))


def _xml(value: Any) -> str:
    return escape(_text(value), {'"': "&quot;"})


@pass_context
def _hashed(context: Context, password: Any) -> str:
    bounds: _Bounds = context[_BOUNDS]
    bounds.step(_HASH_STEPS)
    text = _text(password)
    if len(text) > _MAX_PASSWORD:
        raise TemplateError(f"a password is at most {_MAX_PASSWORD} characters long")
    return sha512_crypt(text, bounds.salt)


def _charged(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as a filter whose work counts."""

    @pass_context
    def charged(context: Context, value: Any, *arguments: Any, **options: Any) -> Any:
        result = function(value, *arguments, **options)
        context[_BOUNDS].work(sum(len(item) for item in (value, result) if isinstance(item, str | list)))
        return result

    return charged


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "default": _default,  # the second when the first is empty
    "indent": _indented,
    "join": _joined,
    "length": _size,
    "lines": lambda text: [line for line in _text(text).split("\n") if line],
    "lower": lambda text: _text(text).lower(),
    "quote": _quoted,
    "replace": _replaced,
    "sha512_crypt": _hashed,  # a password as /etc/shadow and Junos hold it; equal for equal node and password
    "trim": lambda text: _text(text).strip(),
    "upper": lambda text: _text(text).upper(),
    "xml": _xml,
}


@pass_context
def _counted(context: Context, items: Any) -> Iterator[Any]:
    bounds: _Bounds = context[_BOUNDS]
    for item in items:
        bounds.step()
        yield item


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_STEPS:
        raise _TooMuch(f"its loops take more than {MAX_STEPS} steps")
    return numbers


# ------------------------------------------------------------------ the sandbox


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2 with bounded operators."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            _bounded(len(left) + len(right))
        elif isinstance(left, bool) or isinstance(right, bool) or not _are_numbers(left, right):
            raise TemplateError(f"{operator} takes two numbers")
        elif operator in {"%", "//", "/"} and right == 0:
            raise TemplateError("division by zero")
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and abs(result) > _MAX_NUMBER:
            raise _TooMuch("a number above 2^63")
        return result

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # Parts of mappings are items; of other attributes only those of a loop are anyone's business.
        return not attr.startswith("_") and not callable(value) and super().is_safe_attribute(obj, attr, value)


def _are_numbers(left: Any, right: Any) -> bool:
    return isinstance(left, int | float) and isinstance(right, int | float)


class _Bounding(NodeTransformer):
    """Refuses what is not allowed, and puts bounds into what is."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if not isinstance(node, _ALLOWED):
            _refuse(node, f"a template cannot use {_spoken(node)}")
        return super().generic_visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            _refuse(node, "a template cannot use recursive loops")
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "join", [], [], None, None, lineno=node.lineno)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        if node.name not in FILTERS:
            _refuse(node, f"there is no filter {node.name!r}; there are {', '.join(sorted(FILTERS))}")
        return self.generic_visit(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        if not isinstance(node.node, nodes.Name) or node.node.name != "range":
            _refuse(node, "a template can call nothing but range(); use filters")
        return self.generic_visit(node)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        if node.name.startswith("_"):
            _refuse(node, f"{node.name!r} is no variable of a template")
        return node

    def visit_List(self, node: nodes.List | nodes.Tuple) -> nodes.Node:
        # A list that holds itself twice, twenty times over, would be a million texts when it is written.
        if any(not isinstance(item, nodes.Const) for item in node.items):
            _refuse(node, "a list in a template holds plain texts and numbers only")
        return node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        if node.ctx != "load":  # for a, b in …
            return self.generic_visit(node)
        return self.visit_List(node)


def _spoken(node: nodes.Node) -> str:
    return f"{{% {type(node).__name__.lower()} %}}" if isinstance(node, nodes.Stmt) else type(node).__name__


def _refuse(node: nodes.Node, message: str) -> None:
    raise TemplateSyntaxError(message, node.lineno)


def _environment() -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined,
        finalize=_text,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        cache_size=0,
    )
    environment.filters = {name: item if item is _hashed else _charged(item) for name, item in FILTERS.items()}
    environment.filters["_counted"] = _counted
    environment.globals = {"range": _range}
    return environment


_ENVIRONMENT: Final = _environment()


# ------------------------------------------------------------------ what others use


def is_template(name: str) -> bool:
    """Whether the name of a file says that it is a template: ``spine.cfg.j2``, ``r1.partial.j2``."""
    return name.endswith(".j2")


def render(text: str, values: Mapping[str, Any], *, what: str = "the template", salt: str = "") -> str:
    """``text`` with ``values`` filled in.

    :param values: the variables; nothing else is defined.
    :param what: what the template is, for errors: ``frr: frr.conf``.
    :param salt: makes password hashes of one node differ from those of another.
    :raises InvalidInput: the template is wrong, uses an undefined variable, or passes a bound.
    """
    if "{" not in text:  # most configurations
        return text
    bounds = _Bounds(salt)
    pieces: list[str] = []
    try:
        for piece in _template(text).generate({**values, _BOUNDS: bounds}):
            bounds.put_out(piece)
            pieces.append(piece)
    except UndefinedError as error:
        raise _wrong(what, str(error.message), hint=f"variables are: {', '.join(sorted(values))}") from error
    except TemplateError as error:
        raise _wrong(what, _message(error)) from error
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise _wrong(what, str(error)) from error
    return "".join(pieces)


def check(text: str, known: frozenset[str], *, what: str = "the template") -> None:
    """Look at a template without rendering it. :raises InvalidInput: as :func:`render` does."""
    unknown = sorted(undeclared(text, what=what) - known)
    if unknown:
        raise _wrong(what, f"{unknown[0]!r} is undefined", hint=f"variables are: {', '.join(sorted(known))}")


def undeclared(text: str, *, what: str = "the template") -> frozenset[str]:
    """Names of the variables that a template uses. :raises InvalidInput: it is no template."""
    try:
        return frozenset(find_undeclared_variables(_parsed(text))) - {"range"}
    except TemplateError as error:
        raise _wrong(what, _message(error)) from error
    except RecursionError as error:
        raise _wrong(what, "it is nested too deeply") from error


def _parsed(text: str) -> nodes.Template:
    if len(text) > MAX_TEMPLATE:
        raise _TooMuch(f"it is longer than {MAX_TEMPLATE} characters")
    parsed = _ENVIRONMENT.parse(text)
    bounded = _Bounding().visit(parsed)
    if not isinstance(bounded, nodes.Template):
        raise TemplateError("it is no template")
    return bounded


def _template(text: str) -> Template:
    return _kept(text) if len(text) <= _CACHED_LENGTH else _compiled(text)


def _compiled(text: str) -> Template:
    return _ENVIRONMENT.from_string(_parsed(text))


#: Nodes of one device share their templates.
_kept: Final = lru_cache(maxsize=_CACHED)(_compiled)


def _message(error: TemplateError) -> str:
    line = f"line {error.lineno}: " if isinstance(error, TemplateSyntaxError) else ""
    return f"{line}{error.message or error}"


def _wrong(what: str, message: str, *, hint: str = "") -> InvalidInput:
    return InvalidInput(f"{what}: {message}", hint=hint or "docs/how-to/startup-configs.md says what templates can do")
