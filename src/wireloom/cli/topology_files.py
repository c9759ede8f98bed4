"""Reading a topology file and the files that it names as startup configurations, within limits."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wireloom.errors import InvalidInput

if TYPE_CHECKING:
    from wireloom.model.views import DeployRequest

__all__ = ["MAX_FILE_BYTES", "read_request", "read_text"]

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_TOTAL_BYTES: Final = 64 * 1024 * 1024


def read_request(file: Path, *, allow_privileged: bool = False) -> DeployRequest:
    """The request that deploys ``file``. Named files that do not exist are left for the server's diagnostics.

    :raises InvalidInput: the topology or a file that it names cannot be read or is too large.
    """
    from wireloom.model.views import DeployRequest
    from wireloom.planning.topology import startup_config_paths

    text = read_text(file)
    files: dict[str, str] = {}
    total = 0
    for name in startup_config_paths(text, source=str(file)):
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
