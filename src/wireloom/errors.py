"""One tree of errors for every part of Wireloom.

::

    WireloomError
    ├── InvalidInput            the request or a file is wrong            (exit 1, HTTP 422)
    │   ├── TopologyInvalid     a topology with its list of diagnostics
    │   └── FileRefused         a file that must not come into the image library
    ├── NotFound                no such lab, node, link, image            (HTTP 404)
    ├── Conflict                it clashes with what is there             (HTTP 409)
    ├── NotPermitted            the caller may not do this                (HTTP 403)
    ├── Unauthenticated         no or wrong token                         (HTTP 401)
    ├── Unsupported             a declared capability says no             (HTTP 422)
    ├── CapacityExceeded        the host has no room                      (HTTP 409)
    ├── Unavailable             an engine, agent or fabric does not answer (HTTP 503, retryable)
    ├── DeadlineExceeded        an answer took too long                   (HTTP 504, retryable)
    ├── RuntimeFailed           an engine answered with a failure         (HTTP 502)
    │   ├── ImageMissing        the image is not on the host
    │   └── GuestFailed         the guest ended or refused a command
    ├── DataPlaneFailed         the kernel refused a networking request   (HTTP 502)
    └── InternalError           a defect of ours                          (HTTP 500)

Each error has a stable ``code`` (the wire form of its class), ``retryable``, a ``hint`` that
says what to do next, and optionally the ``node`` that it concerns. ``to_wire`` and
``from_wire`` carry it through the fabric and HTTP without loss.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "CapacityExceeded",
    "Conflict",
    "DataPlaneFailed",
    "DeadlineExceeded",
    "FileRefused",
    "GuestFailed",
    "ImageMissing",
    "InternalError",
    "InvalidInput",
    "NotFound",
    "NotPermitted",
    "RuntimeFailed",
    "TopologyInvalid",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "WireloomError",
    "from_wire",
]


class WireloomError(Exception):
    """Base of all errors that Wireloom raises on purpose.

    :param message: what happened, in one sentence.
    :param hint: what the user can do next; empty when there is nothing to say.
    :param node: display name of the node concerned, if any.
    :param details: JSON-compatible facts for machines (never secrets).
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False
    http_status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        node: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.node = node
        self.details = details or {}

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: ``{code, message, hint, node, retryable, details}``."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "node": self.node,
            "retryable": self.retryable,
            "details": self.details,
        }

    def __str__(self) -> str:
        prefix = f"{self.node}: " if self.node else ""
        suffix = f" ({self.hint})" if self.hint else ""
        return f"{prefix}{self.message}{suffix}"


class InvalidInput(WireloomError):
    code = "invalid-input"
    http_status = 422


class TopologyInvalid(InvalidInput):
    """A topology file with mistakes; ``details["diagnostics"]`` lists all of them."""

    code = "topology-invalid"


class FileRefused(InvalidInput):
    """A file that must not come into the image library; ``details["reason"]`` is a word for machines."""

    code = "image-refused"


class NotFound(WireloomError):
    code = "not-found"
    http_status = 404


class Conflict(WireloomError):
    code = "conflict"
    http_status = 409


class NotPermitted(WireloomError):
    code = "not-permitted"
    http_status = 403


class Unauthenticated(WireloomError):
    code = "unauthenticated"
    http_status = 401


class Unsupported(WireloomError):
    code = "unsupported"
    http_status = 422


class CapacityExceeded(WireloomError):
    code = "capacity-exceeded"
    http_status = 409


class Unavailable(WireloomError):
    code = "unavailable"
    retryable = True
    http_status = 503


class DeadlineExceeded(WireloomError):
    code = "deadline-exceeded"
    retryable = True
    http_status = 504


class RuntimeFailed(WireloomError):
    code = "runtime-failed"
    retryable = True
    http_status = 502


class ImageMissing(RuntimeFailed):
    code = "image-missing"
    retryable = False


class GuestFailed(RuntimeFailed):
    code = "guest-failed"


class DataPlaneFailed(WireloomError):
    code = "data-plane-failed"
    retryable = True
    http_status = 502


class InternalError(WireloomError):
    code = "internal"


def _tree(root: type[WireloomError]) -> dict[str, type[WireloomError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


_BY_CODE = _tree(WireloomError)


def from_wire(document: dict[str, Any]) -> WireloomError:
    """The error that :meth:`WireloomError.to_wire` described; an unknown code becomes ``InternalError``."""
    cls = _BY_CODE.get(str(document.get("code")), InternalError)
    return cls(
        str(document.get("message", "unknown error")),
        hint=str(document.get("hint") or ""),
        node=document.get("node"),
        details=document.get("details") or {},
    )
