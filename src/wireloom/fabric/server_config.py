"""The configuration of a private nats-server, as text. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wireloom.fabric.subjects import Permissions

__all__ = ["CONTROLLER_USER", "ServerSettings", "User", "render"]

CONTROLLER_USER: Final = "controller"

#: A slice travels as one message; the server's own default of 1 MB is a lab of some hundred nodes on one host.
_MAX_PAYLOAD: Final = 8 * 1024 * 1024
_MAX_STORE: Final = 2 * 1024 * 1024 * 1024
_MAX_LOG: Final = 16 * 1024 * 1024
_RESPONSE_EXPIRY: Final = "10m"


@dataclass(frozen=True)
class User:
    """A login. Without permissions it may do everything (the controller); with them, that and answer questions."""

    name: str
    password: str = field(repr=False)
    permissions: Permissions | None = None


@dataclass(frozen=True)
class ServerSettings:
    """What the configuration depends on. ``port`` -1 lets the server choose and write it to a file in ``folder``."""

    name: str
    folder: Path
    port: int
    users: Sequence[User]


def render(settings: ServerSettings) -> str:
    """The configuration file. It holds passwords: write it with mode 0600."""
    folder = settings.folder
    lines = [
        f"server_name: {_text(settings.name)}",
        "host: 127.0.0.1",
        f"port: {settings.port}",
        f"max_payload: {_MAX_PAYLOAD}",
        f"pid_file: {_text(folder / 'nats-server.pid')}",
        f"ports_file_dir: {_text(folder)}",
        f"log_file: {_text(folder / 'nats-server.log')}",
        f"logfile_size_limit: {_MAX_LOG}",
        "jetstream {",
        f"  store_dir: {_text(folder / 'store')}",
        f"  max_file_store: {_MAX_STORE}",
        "  max_memory_store: 67108864",
        "}",
        "authorization {",
        "  timeout: 5",
        "  users = [",
        *(line for user in settings.users for line in _user(user)),
        "  ]",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _user(user: User) -> list[str]:
    head = f"    {{ user: {_text(user.name)}, password: {_text(user.password)}"
    if user.permissions is None:
        return [head + " }"]
    return [
        head + ", permissions: {",
        f"        publish: {{ allow: {_list(user.permissions.publish)} }}",
        f"        subscribe: {{ allow: {_list(user.permissions.subscribe)} }}",
        f'        allow_responses: {{ max: 1, expires: "{_RESPONSE_EXPIRY}" }}',
        "    } }",
    ]


def _list(subjects: Sequence[str]) -> str:
    return "[" + ", ".join(_text(subject) for subject in subjects) + "]"


def _text(value: str | Path) -> str:
    # Quoted strings of the server's configuration language know the escapes that JSON uses for what occurs in paths;
    # quotes also keep "$KV" from being taken for a variable.
    return json.dumps(str(value), ensure_ascii=False)
