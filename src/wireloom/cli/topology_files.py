"""Reading a topology file and the files that it names as startup configurations, within limits."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wireloom.errors import InvalidInput

if TYPE_CHECKING:
    from wireloom.model.views import DeployRequest
    from wireloom.yamlfile import Node

__all__ = ["MAX_FILE_BYTES", "named_files", "read_request", "read_text"]

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_TOTAL_BYTES: Final = 64 * 1024 * 1024

_KEY: Final = "startup-config"


def read_request(file: Path, *, allow_privileged: bool = False) -> DeployRequest:
    """The request that deploys ``file``. Named files that do not exist are left for the server's diagnostics.

    :raises InvalidInput: the topology or a file that it names cannot be read or is too large.
    """
    from wireloom.model.views import DeployRequest

    text = read_text(file)
    files: dict[str, str] = {}
    total = 0
    for name in named_files(text, source=str(file)):
        path = file.parent / Path(name).expanduser()
        if name in files or not path.exists():
            continue
        files[name] = read_text(path)
        total += len(files[name])
        if total > MAX_TOTAL_BYTES:
            raise InvalidInput(f"the files that {file} names are larger than {MAX_TOTAL_BYTES >> 20} MiB together")
    return DeployRequest(topology=text, files=files, source=str(file), allow_privileged=allow_privileged)


def read_text(path: Path) -> str:
    """The text of a regular file of moderate size. :raises InvalidInput:"""
    try:
        # A device or a pipe could block or never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidInput(f"{path} is not a regular file")
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise InvalidInput(f"no file {path}", hint="check the path") from None
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise InvalidInput(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB", hint="is it the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text", hint="is it the right file?") from error


def named_files(text: str, *, source: str) -> list[str]:
    """What a topology's ``startup-config`` keys name, as written; text of a block is a configuration, not a name."""
    from wireloom.yamlfile import read_yaml

    root = read_yaml(text, file=source).root
    return list(dict.fromkeys(_names(root))) if root is not None else []


def _names(root: Node) -> Iterator[str]:
    from wireloom.yamlfile import Mapping

    if not isinstance(root, Mapping):
        return
    nodes, defaults = root.get("nodes"), root.get("defaults")
    bodies = [entry.value for entry in nodes.entries.values()] if isinstance(nodes, Mapping) else []
    for body in (*bodies, defaults):
        if isinstance(body, Mapping):
            yield from _name_in(body.get(_KEY))


def _name_in(node: Node | None) -> Iterator[str]:
    from wireloom.yamlfile import Mapping, Scalar

    if isinstance(node, Mapping):
        node = node.get("file")
    if isinstance(node, Scalar) and node.style not in {"|", ">"} and node.text and "\n" not in node.text:
        yield node.text
