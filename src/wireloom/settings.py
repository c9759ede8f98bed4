"""Settings: one frozen value that every process of an installation is built from.

Sources, later ones win::

    defaults  <  /etc/wireloom/wireloom.toml  <  WIRELOOM_* environment  <  command-line flags

The file is flat TOML, one key a field (``data_dir = "/srv/wireloom"``); the environment uses the same names in upper
case (``WIRELOOM_DATA_DIR``). ``WIRELOOM_CONFIG`` names another file. All mistakes are reported at once, as
:class:`~wireloom.errors.InvalidInput`. Clients that only need the folders use :mod:`wireloom.paths`, which is lighter.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from wireloom.errors import InvalidInput
from wireloom.paths import (
    CONFIG_FILE,
    DEFAULT_LISTEN,
    DEFAULT_PORT,
    ENV_CONFIG,
    ENV_DATA_DIR,
    ENV_RUN_DIR,
    ENV_TOKEN,
    ENV_URL,
    ENVIRONMENT_PREFIX,
    Paths,
    read_config,
)

__all__ = [
    "CONFIG_FILE",
    "DEFAULT_LISTEN",
    "DEFAULT_PORT",
    "ENVIRONMENT_PREFIX",
    "ENV_CONFIG",
    "ENV_DATA_DIR",
    "ENV_RUN_DIR",
    "ENV_TOKEN",
    "ENV_URL",
    "Paths",
    "Settings",
    "load_settings",
]

#: A host's name is a key and a subject token on the fabric, so it holds no dots and no spaces.
_HOST_PATTERN: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _own_host_name() -> str:
    """This machine's short name, made fit for the fabric."""
    name = re.sub(r"[^a-z0-9-]+", "-", platform.node().split(".")[0].lower()).strip("-")
    return name[:63].rstrip("-") or "localhost"


class Settings(BaseModel):
    """How this installation runs on this host. Durations end in ``_s`` and are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    data_dir: Path = Field(
        default=Paths().data_dir,
        description="What must survive a reboot: database, images, disks, token, the fabric's storage.",
    )
    run_dir: Path = Field(default=Paths().run_dir, description="Sockets and pid files; a reboot empties it.")
    log_dir: Path = Field(default=Paths().log_dir, description="Log files of a detached `wireloom up`.")
    host: str = Field(
        default_factory=_own_host_name,
        description="This host's name in labs and on the fabric (a DNS label); the machine's short name by default.",
    )
    listen_host: str = Field(default=DEFAULT_LISTEN, description="Address of the controller's API.")
    listen_port: int = Field(default=DEFAULT_PORT, ge=0, le=65535, description="TCP port of the API; 0 takes any.")
    tls: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether the API is served by TLS; `auto`: when it listens beyond loopback. `off` there is for a"
        " proxy on the same machine that does TLS itself.",
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="The API's certificate with what it is signed by (PEM); empty: one of the installation's own"
        " authority.",
    )
    tls_key: Path | None = Field(default=None, description="Private key (PEM) of `tls_certificate`.")
    api_names: str = Field(
        default="",
        description="Further names or addresses for the API's own certificate, separated by commas; this machine's are"
        " in it anyhow.",
    )
    api_url: str = Field(
        default="", description="Where users and hosts elsewhere reach the API; empty: by this machine's own name."
    )
    database_url: str = Field(
        default="", description="SQLAlchemy URL of the database; a SQLite file in `data_dir` when empty."
    )
    database_password_file: Path | None = Field(
        default=None,
        description="File with the password for `database_url`, which then has a user and no password in it.",
    )
    fabric_url: str = Field(
        default="",
        description="An existing NATS deployment: its servers, separated by commas; empty starts a private server.",
    )
    fabric_user: str = Field(default="", description="User on the existing NATS deployment.")
    fabric_password: SecretStr = Field(default=SecretStr(""), description="Password on the existing NATS deployment.")
    fabric_keys: Path | None = Field(
        default=None,
        description="File with the keys that sign logins on the fabric; `fabric/keys.json` in `data_dir` when empty."
        " Controllers of one installation have copies of the same one.",
    )
    fabric_ca: Path | None = Field(
        default=None, description="Certificates (PEM) by which the existing NATS deployment is known; empty: no TLS."
    )
    fabric_listen: str = Field(
        default="127.0.0.1",
        description="Address on which the private NATS server listens; beyond loopback it asks for TLS.",
    )
    fabric_port: int = Field(
        default=0, ge=0, le=65535, description="TCP port of the private NATS server; 0: a free one, kept from then on."
    )
    fabric_names: str = Field(
        default="",
        description="Names or addresses at which hosts reach the private NATS server, separated by commas; empty: where"
        " they reached the controller.",
    )
    fabric_login_days: float = Field(
        default=90,
        gt=0,
        le=365,
        description="Days that a host's login on the fabric is good for; hosts renew it after a third of them.",
    )
    management_subnet: str = Field(
        default="172.30.128.0/20", description="Network of the nodes' management addresses on this host."
    )
    management_domain: str = Field(
        default="wl", description="DNS domain of nodes, whose names are `<node>.<lab>.<domain>`."
    )
    dataplane: Literal["kernel", "ovs"] = Field(
        default="kernel",
        description="What joins the ports of nodes on this host: the kernel alone, or Open vSwitch. Running labs are"
        " wired anew when it changes.",
    )
    underlay_address: str = Field(
        default="",
        description="Address at which other hosts reach this one for links between hosts; empty: the one that its route"
        " to the fabric begins at.",
    )
    underlay_interface: str = Field(
        default="", description="Interface whose first IPv4 address that is, where `underlay_address` is empty."
    )
    underlay_probe_port: int = Field(
        default=47890,
        ge=0,
        le=65535,
        description="UDP port on which hosts that share links measure the way between them; 0: nothing is measured.",
    )
    tunnel_encryption: Literal["none", "wireguard"] = Field(
        default="none",
        description="What hides the frames of links between hosts; a setting of the controller. `wireguard` takes hosts"
        " whose kernel has it.",
    )
    wireguard_port: int = Field(
        default=51871, ge=1, le=65535, description="UDP port on which this host takes WireGuard's packets."
    )
    acceleration: Literal["auto", "kvm", "tcg"] = Field(
        default="auto", description="How virtual machines run; `auto` uses KVM only where it truly works."
    )
    allow_privileged: bool = Field(
        default=False, description="Whether a deployment may ask for privileged nodes at all."
    )
    overcommit_memory: float = Field(
        default=2.0,
        gt=0,
        description="Nodes of a host may be promised its memory times this; what is there is promised first.",
    )
    overcommit_cpu: float = Field(
        default=0, ge=0, description="Nodes of a host may be promised its cores times this; 0: without limit."
    )
    config_keep: int = Field(
        default=100,
        ge=0,
        description="Revisions of a node's configuration that are kept whatever their age; 0 keeps all.",
    )
    config_keep_days: float = Field(
        default=0, ge=0, description="Days after which revisions beyond `config_keep` go; 0 lets them go at once."
    )
    orphan_grace_s: float = Field(
        default=0,
        ge=0,
        description="Seconds after which what hosts have of labs that do not exist is removed by itself; 0: only by "
        "`wireloom prune`.",
    )
    captures_at_once: int = Field(
        default=64, ge=0, description="Captures of frames that may run on this host at the same time."
    )
    library_url: str = Field(
        default="", description="Where agents reach the controller's images by HTTP; empty: the API's own address."
    )
    library_keep_days: float = Field(
        default=7, ge=0, description="Days that unfinished uploads and files that no image needs stay in the library."
    )
    image_policy: Literal["on-demand", "everywhere"] = Field(
        default="on-demand",
        description="Whether this host gets an image when a node needs it, or every image of the library ahead.",
    )
    image_keep_days: float = Field(
        default=-1, description="Days after which files of images that nothing uses leave this host; negative: never."
    )
    image_fetches: int = Field(default=2, ge=1, description="Images that this host fetches at the same time.")
    image_serve: str = Field(
        default="", description="Address and port on which this host serves its images to other hosts; empty: nowhere."
    )
    image_verify_days: float = Field(
        default=7, ge=0, description="Days after which a stored image is read again and compared; 0: never."
    )
    resync_s: float = Field(default=60, gt=0, description="Full observation, the safety net behind events.")
    heartbeat_s: float = Field(default=2, gt=0, description="Pace of an agent's sign of life.")
    docker_url: str = Field(default="", description="Docker's socket as a URL; the engine's default when empty.")
    libvirt_uri: str = Field(default="qemu:///system", description="libvirt's connection URI.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto` writes key=value to a terminal and JSON elsewhere."
    )

    @field_validator("host")
    @classmethod
    def _host_is_a_label(cls, value: str) -> str:
        if not _HOST_PATTERN.fullmatch(value):
            raise ValueError("a host name is a DNS label: lower-case letters, digits and hyphens, at most 63")
        return value

    @field_validator("management_subnet")
    @classmethod
    def _subnet_has_room(cls, value: str) -> str:
        network = ipaddress.IPv4Network(value)
        if network.prefixlen > 29:
            raise ValueError("the management subnet needs room for nodes: /29 or larger")
        return str(network)

    @field_validator("underlay_address")
    @classmethod
    def _underlay_is_an_address(cls, value: str) -> str:
        return str(ipaddress.ip_address(value)) if value else ""

    @field_validator(
        "data_dir",
        "run_dir",
        "log_dir",
        "fabric_keys",
        "fabric_ca",
        "tls_certificate",
        "tls_key",
        "database_password_file",
    )
    @classmethod
    def _folders_are_absolute(cls, value: Path | None) -> Path | None:
        # Daemons change their working directory, so a relative folder would move.
        return None if value is None else Path(os.path.abspath(value.expanduser()))

    @property
    def paths(self) -> Paths:
        """The folders, and the files in them that more than one process knows."""
        return Paths(data_dir=self.data_dir, run_dir=self.run_dir, log_dir=self.log_dir)

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in use, with the password. :raises InvalidInput: its file cannot be read."""
        if not self.database_url:
            return f"sqlite+aiosqlite:///{self.paths.database_file}"
        if self.database_password_file is None:
            return self.database_url
        return _with_password(self.database_url, self.database_password_file)

    @property
    def fabric_key_file(self) -> Path:
        """Where the keys are that sign logins on the fabric."""
        return self.fabric_keys or self.data_dir / "fabric" / "keys.json"

    @property
    def authority_folder(self) -> Path:
        """Where the installation's own authority is, which signs the certificates of API and fabric."""
        return self.data_dir / "fabric" / "tls"

    @property
    def serves_tls(self) -> bool:
        """Whether the API is served by TLS."""
        return self.tls == "on" or (self.tls == "auto" and not _is_loopback(self.listen_host))

    @property
    def private_fabric(self) -> bool:
        """Whether the controller starts its own ``nats-server``."""
        return not self.fabric_url

    @property
    def management_gateway(self) -> str:
        """The host's own address in the management subnet (its first one)."""
        return str(next(ipaddress.IPv4Network(self.management_subnet).hosts()))

    def to_environment(self) -> dict[str, str]:
        """Every setting as a ``WIRELOOM_*`` variable, so that a child has the same whatever its own file says."""
        plain = self.model_dump(exclude={"fabric_password"}, exclude_none=True, mode="json")
        plain["fabric_password"] = self.fabric_password.get_secret_value()
        texts = {f"{ENVIRONMENT_PREFIX}{name.upper()}": _as_text(value) for name, value in plain.items()}
        return {name: text for name, text in texts.items() if text}


def _with_password(url: str, file: Path) -> str:
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", hint="see database_password_file") from error
    scheme, _, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if not at or not user or ":" in user:
        raise InvalidInput(
            "database_url names no user, or a password beside database_password_file",
            hint="for example postgresql+asyncpg://wireloom@db.example.net/wireloom",
        )
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def load_settings(
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings from file, environment and flags (``overrides``; ``None`` values count as not given).

    :param config: the file to read; it must exist. Without it ``WIRELOOM_CONFIG``, then the default file if present.
    :raises InvalidInput: a file that cannot be read, unknown keys, values that do not fit: all of them at once.
    """
    env = os.environ if environment is None else environment
    file, from_file = read_config(env, config)
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, values in (
        (str(file), from_file),
        ("the environment", _from_environment(env)),
        ("the command line", {k: v for k, v in (overrides or {}).items() if v is not None}),
    ):
        merged |= values
        sources |= dict.fromkeys(values, source)
    try:
        return Settings(**merged)
    except ValidationError as error:
        problems = [_problem(item["loc"], item["msg"], sources) for item in error.errors()]
        raise InvalidInput(
            "settings are wrong: " + "; ".join(problems),
            hint="docs/reference/settings.md lists every setting",
            details={"problems": problems},
        ) from None


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """Variables that name a setting; an empty one counts as unset, and foreign ones are none of our business."""
    found = {name: env.get(f"{ENVIRONMENT_PREFIX}{name.upper()}", "") for name in Settings.model_fields}
    return {name: value for name, value in found.items() if value}


def _problem(location: tuple[int | str, ...], message: str, sources: Mapping[str, str]) -> str:
    name = str(location[0]) if location else "?"
    text = message.removeprefix("Value error, ")
    if name not in Settings.model_fields:
        near = difflib.get_close_matches(name, Settings.model_fields, n=1)
        text = "no such setting" + (f", did you mean {near[0]}?" if near else "")
    return f"{name} (from {sources.get(name, 'defaults')}): {text}"


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
