"""Where Wireloom keeps its files on a host, and the environment variables that say otherwise.

============================  ====================  ==========================================================
variable                      default               what
============================  ====================  ==========================================================
``WIRELOOM_DATA_DIR``         ``/var/lib/wireloom``  database, token, what must survive a reboot
``WIRELOOM_RUN_DIR``          ``/run/wireloom``      address of the running controller, what must not survive
``WIRELOOM_URL``              (from the run folder)  the controller's address, for clients
``WIRELOOM_TOKEN``            (from the data folder) the token, for clients
============================  ====================  ==========================================================

Kept free of heavy imports: the command line reads it on every start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["DEFAULT_LISTEN", "DEFAULT_PORT", "ENV_DATA_DIR", "ENV_RUN_DIR", "ENV_TOKEN", "ENV_URL", "Paths"]

ENV_DATA_DIR: Final = "WIRELOOM_DATA_DIR"
ENV_RUN_DIR: Final = "WIRELOOM_RUN_DIR"
ENV_URL: Final = "WIRELOOM_URL"
ENV_TOKEN: Final = "WIRELOOM_TOKEN"  # noqa: S105 - the variable's name

DEFAULT_LISTEN: Final = "127.0.0.1"
DEFAULT_PORT: Final = 7430


@dataclass(frozen=True)
class Paths:
    """The two folders of an installation and the files in them that more than one process knows."""

    data_dir: Path = Path("/var/lib/wireloom")
    run_dir: Path = Path("/run/wireloom")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Paths:
        """The folders that ``environ`` names, else the defaults."""
        default = cls()
        return cls(
            data_dir=Path(environ.get(ENV_DATA_DIR) or default.data_dir),
            run_dir=Path(environ.get(ENV_RUN_DIR) or default.run_dir),
        )

    @property
    def token_file(self) -> Path:
        """The API token, mode 0600, made by the controller at its first start."""
        return self.data_dir / "token"

    @property
    def database_file(self) -> Path:
        return self.data_dir / "wireloom.sqlite"

    @property
    def controller_file(self) -> Path:
        """``{"url", "pid"}`` of the running controller."""
        return self.run_dir / "controller.json"
