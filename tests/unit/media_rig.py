"""CDs for the tests of media: an emulated reference platform with definitions of our own, and ones that were spoilt."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import pycdlib

from wireloom.devices import DeviceCatalogue
from wireloom.devices.catalogue import refuse_problems
from wireloom.devices.sources import Sources, SourceText, builtin_sources, only
from wireloom.model.device import Device

SECTOR: Final = 2048

IOSV: Final = """\
id: iosv
schema_version: 0.0.1
general: {nature: router, description: A router, read_only: true}
boot:
  timeout: 180
  completed: ["%PLATFORM-5-SIGNATURE_VERIFIED:", "Would you like to enter the initial configuration dialog?"]
sim:
  linux_native:
    {libvirt_domain_driver: kvm, driver: iosv, ram: 512, cpus: 1, nic_driver: e1000, disk_driver: virtio}
device:
  interfaces:
    serial_ports: 2
    physical: [GigabitEthernet0/0, GigabitEthernet0/1, GigabitEthernet0/2, GigabitEthernet0/3]
    has_loopback_zero: true
configuration:
  provisioning:
    media_type: fat
    volume_name: disk
    files: [{name: ios_config.txt, editable: true, content: "hostname inserthostname-here\\n"}]
ui: {label: IOSv, icon: router, visible: true, group: Cisco, description: "**A router**"}
"""

#: A machine that we have no device for.
ACME: Final = """\
id: acme-router
general: {nature: router, description: Acme router}
boot: {timeout: 400, completed: ["ACME \\\\d+ ready", "login:"], uses_regex: true}
sim:
  linux_native:
    libvirt_domain_driver: kvm
    driver: server
    ram: 3072
    cpus: 2
    cpu_model: IvyBridge,+aes,-smep
    nic_driver: vmxnet3
    disk_driver: sata
    machine_type: q35
    efi_boot: true
    efi_vars: stateless
    data_volume: 16
    boot_disk_size: 20
    video: {model: cirrus, memory: 16}
    enable_rng: false
  parameters: {smbios.system.manufacturer: Acme, smbios.system.product: "R-1", cdrom.path: nowhere}
device:
  interfaces:
    serial_ports: 2
    default_console: 1
    physical: [mgmt0, donotuse1, donotuse2, Ethernet1/1, Ethernet1/2, Ethernet1/3, Ethernet1/4]
    management: [mgmt0]
    min_count: 5
configuration:
  generator: {driver: null}
  provisioning:
    media_type: iso
    volume_name: acmecfg
    files:
      - name: startup.cfg
        editable: true
        content: |
          hostname inserthostname-here
          # braces {{ of }} {% another %} language {inserthostname-here}
      - {name: license/key.txt, editable: false, content: "{{ not a template }}"}
ui: {label: Acme router, icon: router, group: Acme}
pyats: {os: ios, username: acme, password: secret, config_extract_command: show running-config}
"""

CAT9000V: Final = """\
id: cat9000v-uadp
general: {nature: switch}
sim:
  linux_native: {libvirt_domain_driver: kvm, ram: 18432, cpus: 4, nic_driver: e1000, disk_driver: ide}
configuration:
  provisioning:
    media_type: iso
    volume_name: disk
    files:
      - {name: iosxe_config.txt, editable: true, content: "hostname inserthostname-here\\n"}
      - {name: conf/vswitch.xml, editable: false, content: "<switch><board>made up</board></switch>\\n"}
ui: {label: Cat9000v UADP}
"""

FRR: Final = """\
id: frr
general: {nature: router}
boot: {timeout: 30, completed: [READY]}
sim:
  linux_native: {libvirt_domain_driver: docker, driver: server, ram: 256, cpus: 1}
device:
  interfaces:
    serial_ports: 2
    physical: [eth0, eth1, eth2, eth3]
configuration:
  provisioning:
    media_type: raw
    volume_name: cfg
    files:
      - {name: boot.sh, editable: true, content: "hostname inserthostname-here\\n"}
      - {name: protocols, editable: true, content: "zebra\\n"}
      - name: config.json
        editable: false
        content: |
          {"docker": {"image": "frr:10", "mounts": ["type=bind,source=cfg/boot.sh,target=/config/boot.sh",
           "type=bind,source=cfg/protocols,target=/config/protocols", "type=volume,source=x,target=/y"],
           "caps": ["NET_ADMIN", "SYS_ADMIN"], "env": ["MODE=lab", "BRACES={{x}}"], "misc_args": ["--privileged",
           "--cpus=4"]}, "shell": "/bin/bash -l", "day0cmd": ["/bin/bash", "/config/boot.sh"], "busybox": true}
ui: {label: FRR container, icon: router, group: Others}
"""

IOL: Final = """\
id: iol-xe
general: {nature: router}
sim: {linux_native: {libvirt_domain_driver: iol, driver: iol, ram: 1024, cpus: 1}}
ui: {label: IOL}
"""

CONNECTOR: Final = """\
id: external_connector
general: {nature: external_connector}
sim: {linux_native: {libvirt_domain_driver: none, driver: external_connector}}
ui: {label: External connector}
"""


def image_definition(name: str, node: str, *disks: str, **more: str) -> str:
    lines = [f"id: {name}", f"node_definition_id: {node}", f"label: Image {name}", "read_only: true"]
    keys = ["disk_image", "disk_image_2", "disk_image_3", "disk_image_4"]
    lines += [f"{key}: {disk}" for key, disk in zip(keys, disks, strict=False)]
    return "\n".join([*lines, *(f"{key}: {value!r}" for key, value in more.items())]) + "\n"


DISK: Final = bytes(range(256)) * 64
PLATFORM: Final[Mapping[str, bytes]] = {
    "node-definitions/iosv.yaml": IOSV.encode(),
    "node-definitions/acme-router.yaml": ACME.encode(),
    "node-definitions/cat9000v-uadp.yaml": CAT9000V.encode(),
    "node-definitions/frr.yaml": FRR.encode(),
    "node-definitions/iol-xe.yaml": IOL.encode(),
    "node-definitions/external_connector.yaml": CONNECTOR.encode(),
    "virl-base-images/iosv-159-3-m8/iosv-159-3-m8.yaml": image_definition(
        "iosv-159-3-m8", "iosv", "vios-adventerprisek9-m.spa.159-3.m8.qcow2"
    ).encode(),
    "virl-base-images/iosv-159-3-m8/vios-adventerprisek9-m.spa.159-3.m8.qcow2": DISK,
    "virl-base-images/acme-router-2-1/acme-router-2-1.yaml": image_definition(
        "acme-router-2-1", "acme-router", "acme.qcow2"
    ).encode(),
    "virl-base-images/acme-router-2-1/acme.qcow2": DISK[:5000],
    "virl-base-images/frr-10-0/frr-10-0.yaml": image_definition(
        "frr-10-0", "frr", "frr.tar.gz", docker_tag="frr:10-0", sha256="0" * 64
    ).encode(),
    "virl-base-images/frr-10-0/frr.tar.gz": b"not looked at here",
    "virl-base-images/iol-xe-17-12-01/iol-xe-17-12-01.yaml": image_definition(
        "iol-xe-17-12-01", "iol-xe", "x86_64_crb_linux-adventerprisek9-ms.iol"
    ).encode(),
    "virl-base-images/iol-xe-17-12-01/x86_64_crb_linux-adventerprisek9-ms.iol": b"\x7fELF of nobody",
}

#: Built-in devices that devices of these tests build upon.
_BASES: Final = ("cisco_iosv", "cat9000v-uadp")


def taken_in(text: str) -> Device:
    """The device of a file, beside some of the built-in ones. :raises InvalidInput: the file has mistakes."""
    builtin = only(builtin_sources(), _BASES)
    catalogue = DeviceCatalogue.of(builtin, [Sources(device=(SourceText("own.yaml", text),))])
    refuse_problems(catalogue.problems)
    return next(device for device in catalogue if catalogue.entry(device.name).file == "own.yaml")


Naming = Literal["rock-ridge", "joliet", "plain"]


def build_cd(
    files: Mapping[str, bytes],
    *,
    naming: Naming = "rock-ridge",
    links: Mapping[str, str] | None = None,
    label: str = "REFPLAT",
) -> bytes:
    """An image with ``files``; ``links`` are symbolic (Rock Ridge). Plain names are those of ISO 9660."""
    image = pycdlib.PyCdlib()
    image.new(
        interchange_level=4 if naming == "plain" else 3,
        vol_ident=label,
        rock_ridge="1.09" if naming == "rock-ridge" else None,
        joliet=3 if naming == "joliet" else None,
    )
    builder = _Builder(image, naming)
    for path, content in files.items():
        builder.add(path, content)
    for path, target in (links or {}).items():
        image.add_symlink(f"/{builder.plain(path)};1", rr_symlink_name=path, rr_path=target)
    out = io.BytesIO()
    image.write_fp(out)
    image.close()
    return out.getvalue()


class _Builder:
    def __init__(self, image: pycdlib.PyCdlib, naming: Naming) -> None:
        self._image = image
        self._naming = naming
        self._plain: dict[str, str] = {"": ""}

    def plain(self, path: str) -> str:
        """ISO 9660's own name: a number, where another one holds the real name."""
        if path not in self._plain:
            folder, _, name = path.rpartition("/")
            short = name if self._naming == "plain" else f"F{len(self._plain):06d}"
            self._plain[path] = f"{self.plain(folder)}/{short}".lstrip("/")
        return self._plain[path]

    def add(self, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        if folder and folder not in self._plain:
            self._folder(folder)
        plain = self.plain(path)
        ending = "" if self._naming == "plain" else ".;1"
        self._image.add_fp(io.BytesIO(content), len(content), f"/{plain}{ending}", **self._named(path, name))

    def _folder(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        if parent and parent not in self._plain:
            self._folder(parent)
        self._image.add_directory(f"/{self.plain(path)}", **self._named(path, name))

    def _named(self, path: str, name: str) -> dict[str, Any]:
        if self._naming == "rock-ridge":
            return {"rr_name": name}
        return {"joliet_path": f"/{path}"} if self._naming == "joliet" else {}


def write_cd(folder: Path, files: Mapping[str, bytes] = PLATFORM, *, naming: Naming = "rock-ridge") -> Path:
    path = folder / "refplat.iso"
    path.write_bytes(build_cd(files, naming=naming))
    return path


class Spoilt:
    """An image whose bytes are changed where a name of Rock Ridge stands."""

    def __init__(self, image: bytes) -> None:
        self.data = bytearray(image)

    def record(self, name: str) -> int:
        """Offset of the directory record that has ``name`` in Rock Ridge."""
        mark = b"NM" + bytes([5 + len(name), 1, 0]) + name.encode()
        return self.around(self.data.index(mark))

    def around(self, at: int) -> int:
        """Offset of the directory record that has the byte ``at`` in it."""
        start = at - at % SECTOR
        while True:
            length = self.data[start]
            if start <= at < start + length:
                return start
            start += length

    def joliet_record(self, name: str) -> int:
        """Offset of the directory record that has ``name`` in Joliet's tree."""
        mark = bytes([2 * len(name)]) + name.encode("utf-16-be")
        return self.data.index(mark, self.data.index(b"\x22\x00", 24 * SECTOR)) - 32

    def place(self, name: str) -> int:
        """Sector at which it begins."""
        return int(struct.unpack_from("<I", self.data, self.record(name) + 2)[0])

    def move(self, name: str, sector: int) -> None:
        struct.pack_into("<I", self.data, self.record(name) + 2, sector)
        struct.pack_into(">I", self.data, self.record(name) + 6, sector)

    def resize(self, name: str, size: int) -> None:
        struct.pack_into("<I", self.data, self.record(name) + 10, size)
        struct.pack_into(">I", self.data, self.record(name) + 14, size)

    def put(self, offset: int, data: bytes) -> None:
        self.data[offset : offset + len(data)] = data

    def field(self, name: str, sign: bytes) -> int:
        """Offset of a field of Rock Ridge in the record of ``name``."""
        start = self.record(name)
        return self.data.index(sign, start, start + self.data[start])

    def write(self, folder: Path) -> Path:
        path = folder / "spoilt.iso"
        path.write_bytes(self.data)
        return path
