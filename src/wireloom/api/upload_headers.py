"""Headers of the tus protocol, as the API's description has them. What they say is in ``uploads.py``."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["CONTINUE", "CREATE", "DELETE", "LOOK", "OPTIONS", "TUS_VERSION", "answers"]

TUS_VERSION: Final = "1.0.0"

_BYTES: Final = {"type": "integer", "format": "int64", "minimum": 0}
_TEXT: Final = {"type": "string"}

#: Name → what it says, and how it is written.
_HEADERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "Tus-Resumable": ("Version of the protocol.", {"type": "string", "const": TUS_VERSION}),
    "Tus-Version": ("Versions that are spoken here.", _TEXT),
    "Tus-Extension": ("Extensions of the protocol that are spoken here, separated by commas.", _TEXT),
    "Tus-Max-Size": ("Bytes that a file may have.", _BYTES),
    "Tus-Checksum-Algorithm": ("Algorithms for `Upload-Checksum`, separated by commas.", _TEXT),
    "Upload-Length": ("Bytes of the whole file.", _BYTES),
    "Upload-Defer-Length": ("`1`: the length is said later.", {"type": "string", "const": "1"}),
    "Upload-Offset": ("Bytes that have arrived, and so where the next ones go.", _BYTES),
    "Upload-Metadata": ("`key value` pairs separated by commas, values in Base64; `filename`, `sha256`.", _TEXT),
    "Upload-Checksum": ("Algorithm, a space, and the checksum of this request's bytes in Base64.", _TEXT),
    "Upload-Expires": ("When it is removed unless it is gone on with; a date of HTTP.", _TEXT),
    "Location": ("Where the upload is continued.", {"type": "string", "format": "uri-reference"}),
}


def _asked(*names: str, required: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """Headers of a request; the version comes with each."""
    needed = required | {"Tus-Resumable"}
    return [_parameter(name, needed=name in needed) for name in ("Tus-Resumable", *names)]


def _parameter(name: str, *, needed: bool) -> dict[str, Any]:
    description, schema = _HEADERS[name]
    return {"in": "header", "name": name, "description": description, "required": needed, "schema": schema}


def answers(status: int, *names: str) -> dict[int | str, dict[str, Any]]:
    """Headers of the answer with ``status``; the version comes with each."""
    described = {name: _HEADERS[name] for name in ("Tus-Resumable", *names)}
    headers = {name: {"description": text, "schema": schema} for name, (text, schema) in described.items()}
    return {status: {"headers": headers}}


OPTIONS: Final = answers(204, "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm")
CREATE: Final = {"parameters": _asked("Upload-Length", "Upload-Defer-Length", "Upload-Metadata")}
LOOK: Final = {"parameters": _asked()}
DELETE: Final = {"parameters": _asked()}
CONTINUE: Final = {
    "parameters": _asked("Upload-Offset", "Upload-Length", "Upload-Checksum", required=frozenset({"Upload-Offset"})),
    "requestBody": {
        "required": True,
        "content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
}
