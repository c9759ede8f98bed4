"""Where Wireloom keeps its files on a host, and what says otherwise.

============================  =====================  =========================================================
variable                      default                what
============================  =====================  =========================================================
``WIRELOOM_CONFIG``           (see ``CONFIG_FILE``)  the settings file; its ``data_dir`` and ``run_dir`` count
``WIRELOOM_DATA_DIR``         ``/var/lib/wireloom``  database, token, what must survive a reboot
``WIRELOOM_RUN_DIR``          ``/run/wireloom``      address of the running controller, what must not survive
``WIRELOOM_URL``              (from the run folder)  the controller's address, for clients
``WIRELOOM_TOKEN``            (from the data folder) the token, for clients
``WIRELOOM_CA``               (from the run folder)  file with the certificates (PEM) by which it is known
============================  =====================  =========================================================

Kept free of heavy imports: the command line reads it on every start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wireloom.errors import InvalidInput

__all__ = [
    "CONFIG_FILE",
    "DEFAULT_LISTEN",
    "DEFAULT_PORT",
    "ENVIRONMENT_PREFIX",
    "ENV_CA",
    "ENV_CONFIG",
    "ENV_DATA_DIR",
    "ENV_LOG_DIR",
    "ENV_RUN_DIR",
    "ENV_TOKEN",
    "ENV_URL",
    "Paths",
    "read_config",
]

CONFIG_FILE: Final = Path("/etc/wireloom/wireloom.toml")

ENVIRONMENT_PREFIX: Final = "WIRELOOM_"
ENV_CONFIG: Final = "WIRELOOM_CONFIG"
ENV_DATA_DIR: Final = "WIRELOOM_DATA_DIR"
ENV_RUN_DIR: Final = "WIRELOOM_RUN_DIR"
ENV_LOG_DIR: Final = "WIRELOOM_LOG_DIR"
ENV_URL: Final = "WIRELOOM_URL"
ENV_CA: Final = "WIRELOOM_CA"
ENV_TOKEN: Final = "WIRELOOM_TOKEN"  # noqa: S105 - the variable's name

DEFAULT_LISTEN: Final = "127.0.0.1"
DEFAULT_PORT: Final = 7430


@dataclass(frozen=True)
class Paths:
    """The folders of an installation and the files in them that more than one process knows."""

    data_dir: Path = Path("/var/lib/wireloom")
    run_dir: Path = Path("/run/wireloom")
    log_dir: Path = Path("/var/log/wireloom")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Paths:
        """The folders that ``environ`` names, else the settings file, else the defaults.

        :raises InvalidInput: the settings file cannot be read.
        """
        _, file = read_config(environ)
        default = cls()
        return cls(
            data_dir=Path(environ.get(ENV_DATA_DIR) or file.get("data_dir") or default.data_dir),
            run_dir=Path(environ.get(ENV_RUN_DIR) or file.get("run_dir") or default.run_dir),
            log_dir=Path(environ.get(ENV_LOG_DIR) or file.get("log_dir") or default.log_dir),
        )

    @property
    def token_file(self) -> Path:
        """The API token, mode 0600, made by the controller at its first start."""
        return self.data_dir / "token"

    @property
    def database_file(self) -> Path:
        return self.data_dir / "wireloom.sqlite"

    @property
    def device_folder(self) -> Path:
        """The user's own devices, overrides and command lines."""
        return self.data_dir / "devices"

    @property
    def library_folder(self) -> Path:
        """The controller's image library: stored files, uploads, jobs, and the secret of its tokens."""
        return self.data_dir / "library"

    @property
    def secret_folder(self) -> Path:
        """Licences and the like that nodes are given, each a file of mode 0600."""
        return self.data_dir / "secrets"

    @property
    def controller_file(self) -> Path:
        """``{"url", "ca", "pid"}`` of the running controller."""
        return self.run_dir / "controller.json"

    @property
    def lease_file(self) -> Path:
        """What this host's agent holds of leases; of one life of the host."""
        return self.data_dir / "agent" / "leases.json"

    @property
    def guard_lock(self) -> Path:
        """Held by the process that stops nodes whose lease ran out while no agent is there."""
        return self.run_dir / "fence-guard.lock"

    @property
    def supervisor_file(self) -> Path:
        """The locked record of a running ``wireloom up`` and its children."""
        return self.run_dir / "up.json"


def read_config(environ: Mapping[str, str], named: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """The settings file in force and its content, empty when there is none.

    :param named: a file that must exist; without it ``WIRELOOM_CONFIG`` (must exist too), then ``CONFIG_FILE``.
    :raises InvalidInput: the file is missing or cannot be read.
    """
    chosen = named or (Path(environ[ENV_CONFIG]) if environ.get(ENV_CONFIG) else None)
    path = chosen or CONFIG_FILE
    if chosen is None and not path.exists():
        return path, {}
    import tomllib  # only where there is a file: most machines have none

    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"no settings file {path}", hint=f"check --config and {ENV_CONFIG}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"cannot read settings from {path}: {error}") from error
