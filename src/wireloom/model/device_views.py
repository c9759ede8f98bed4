"""What the HTTP API takes and gives about devices and about how nodes came by their settings.

=======  ============================================  ============================  =====================
method   path (below ``/api/v1``)                      body                          answer
=======  ============================================  ============================  =====================
GET      /devices                                                                    list[DeviceView]
POST     /devices                                      DeviceFileRequest             DeviceFileView
GET      /devices/{name}                                                             DeviceDetails
PUT      /devices/{name}/hidden                        HiddenRequest                 DeviceView
DELETE   /device-files/{kind}/{name}                                                 DeviceFileView
GET      /device-problems                                                            list[Diagnostic]
POST     /device-problems                              reads the files again         list[Diagnostic]
GET      /labs/{lab}/nodes/{node}                                                    NodeProfile
=======  ============================================  ============================  =====================
"""

from __future__ import annotations

from typing import Any, Literal

from wireloom.model.base import Value
from wireloom.model.provenance import Origin

__all__ = [
    "DeviceDetails",
    "DeviceFileRequest",
    "DeviceFileView",
    "DeviceView",
    "FileKind",
    "HiddenRequest",
    "NodeProfile",
    "PortView",
    "ValueView",
]

FileKind = Literal["device", "override", "cli"]


class DeviceView(Value):
    """A device in a list. Sizes are those on its default provider.

    :ivar images: default image by provider, the image library's before the device's own; a provider for which the user
        has to name one is left out.
    :ivar origin: whether it came with the program or is the user's own; ``overridden``: parts of it are.
    """

    name: str
    title: str
    vendor: str
    family: str = "router"
    icon: str = "router"
    aliases: tuple[str, ...] = ()
    hidden: bool = False
    origin: Literal["built-in", "own"] = "built-in"
    overridden: bool = False
    providers: tuple[str, ...]
    default_provider: str
    images: dict[str, str] = {}
    cpu: float
    memory_mb: float
    disk_gb: float = 0
    ports: int


class ValueView(Value):
    """A value by its place in the device's file (``providers.docker.settings.tty``) or its key in a topology."""

    path: str
    value: Any = None
    origin: Origin


class DeviceDetails(Value):
    """Everything that is known of a device, and from where.

    :ivar file: where it is written; ``override``: what was put over it.
    :ivar values: everything that its files say, and the sizes that they leave to defaults.
    :ivar purposes: provider → purpose → chain of channels, in words.
    :ivar ports: names of its ports, management first.
    :ivar machines: further machines that a node of it would be made of.
    """

    device: DeviceView
    file: str
    override: str = ""
    values: tuple[ValueView, ...] = ()
    purposes: dict[str, dict[str, str]] = {}
    needs: dict[str, tuple[str, ...]] = {}
    ports: tuple[str, ...] = ()
    cli: str = ""
    machines: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    notes: str = ""


class DeviceFileRequest(Value):
    """A file to be added, or only checked with ``dry_run``. ``source`` is its name for diagnostics."""

    text: str
    kind: FileKind = "device"
    source: str = "device.yaml"
    dry_run: bool = False


class DeviceFileView(Value):
    """``name`` is what the file describes; ``device`` is as it is now, where the file concerns one."""

    name: str
    kind: FileKind
    device: DeviceView | None = None


class HiddenRequest(Value):
    hidden: bool


class PortView(Value):
    """A port of a node. ``guest_name`` is its kernel name where we choose it; ``position`` where the guest finds it."""

    index: int
    name: str
    guest_name: str
    role: str
    mac: str
    position: int


class NodeProfile(Value):
    """What a node is made of when it is next deployed, and where each value comes from.

    :ivar pending: how that differs from what it was deployed with, because its device has changed since.
    """

    node: str
    device: str
    provider: str
    image: str
    host: str = ""
    values: tuple[ValueView, ...] = ()
    purposes: dict[str, str] = {}
    needs: tuple[str, ...] = ()
    ports: tuple[PortView, ...] = ()
    pending: tuple[str, ...] = ()
