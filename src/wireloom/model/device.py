"""What a device is: the schema of ``devices/*.yaml``. Knowledge is data; there is no code per device."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from wireloom.model.base import Value
from wireloom.model.ports import PortNaming

__all__ = [
    "Access",
    "Console",
    "Day0",
    "Device",
    "Hardware",
    "Probe",
    "ProviderRule",
    "ProviderSupport",
    "Range",
    "Readiness",
    "Step",
]


class Range(Value):
    """A default and the smallest value a device works with; unit is the field's (cpus, MiB)."""

    default: float
    minimum: float = 0


class Hardware(Value):
    """CPU in cores, memory in MiB, spare NICs that a VM gets up front so that links can be added live."""

    cpu: Range = Range(default=1)
    memory_mb: Range = Range(default=256)
    spare_ports: int = 4


class Access(Value):
    """How one logs in to the guest: user and password of a fresh image, and the SSH port."""

    username: str = "root"
    password: str = ""
    ssh_port: int = 22


class Step(Value):
    """One way to run a command: over which channel, and the command as the channel takes it.

    ``exec`` takes an argument list through ``/bin/sh -c``; ``ssh`` takes a command line.
    ``{command}`` in ``run`` is replaced by what the user asked for.
    """

    channel: Literal["exec", "ssh", "serial"]
    run: str = "{command}"


class Probe(Value):
    """One readiness test.

    Exactly one kind applies: ``running`` (the engine says so), ``log`` (regex in the boot log since power-on),
    ``exec``/``ssh`` (command whose output must match ``expect``), ``tcp`` (port on the management address).
    """

    kind: Literal["running", "log", "exec", "ssh", "tcp"]
    pattern: str = ""  # log: the regex
    command: str = ""  # exec, ssh: the command line
    expect: str = ""  # exec, ssh: regex that the output must contain
    port: int = 0  # tcp


class Readiness(Value):
    """When a node counts as ready: a chain of probes (the first that the provider's channels allow is used),
    and the time it may take in seconds on native speed; emulated guests get ``slow_factor`` times as long.
    """

    probes: tuple[Probe, ...] = ()
    timeout_s: float = 120
    slow_factor: float = 4
    interval_s: float = 1


class Day0(Value):
    """How the startup configuration reaches the guest.

    ``file``: copied to ``path`` in the guest's file system before its first start (providers that have files).
    ``iso``: a CD labelled ``label`` with the configuration as ``path`` (providers that have media). ``extra`` are
    further files, path to template text; templates may use ``{hostname}`` and ``{authorized_keys}``.
    """

    method: Literal["file", "iso"]
    path: str
    label: str = "CIDATA"
    extra: dict[str, str] = {}


class Console(Value):
    """What ``wireloom console`` opens: a command run in the guest, or serial line ``line``."""

    kind: Literal["exec", "serial"]
    command: tuple[str, ...] = ()
    line: int = 0


class ProviderSupport(Value):
    """A device on one provider: its default image and the provider's own settings (validated by the provider).

    :ivar image: default image; empty when the user has to name one.
    :ivar hardware: where it differs from the device's on other providers.
    """

    image: str
    settings: dict[str, Any] = {}
    hardware: Hardware | None = None
    console: tuple[Console, ...] = ()
    ready: Readiness | None = None
    day0: tuple[Day0, ...] = ()
    run: tuple[Step, ...] = ()


class ProviderRule(Value):
    """What the catalogue knows of a provider, whatever the device.

    :ivar image_pattern: regex that the name of an image for it matches in full.
    :ivar image_example: said to a user whose image does not match.
    :ivar every_device: image by which every device can run on it (nothing of the device's own is booted).
    """

    name: str
    title: str = ""
    image_pattern: str = ""
    image_example: str = ""
    every_device: str = ""


class Device(Value):
    """One kind of node. Merge order for every setting: device → topology defaults → node; explicit wins.

    :ivar default_config: startup configuration of a node without one; ``{hostname}`` is its name.
    :ivar notes: what a user should know of it, in Markdown.
    """

    name: str
    title: str = ""
    vendor: str = ""
    aliases: tuple[str, ...] = ()
    icon: str = "router"
    ports: PortNaming = PortNaming()
    hardware: Hardware = Hardware()
    providers: dict[str, ProviderSupport] = Field(default_factory=dict)
    default_provider: str = ""
    access: Access = Access()
    default_config: str = ""
    notes: str = ""
    stop_grace_s: float = 5

    def hardware_on(self, provider: str) -> Hardware:
        """CPU, memory and ports of this device on ``provider``."""
        support = self.providers.get(provider)
        return self.hardware if support is None or support.hardware is None else support.hardware
