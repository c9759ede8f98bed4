"""Things that images come out of, for tests through real engines: a reference platform's CD, a wrapped machine, IOL."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from media_rig import CONNECTOR, IOSV, image_definition

from wireloom.library.archives import write_archive

#: A machine that we have no device for, with what the reference disk reads of its CD.
HOST: Final = """\
id: acme-host
general: {nature: server}
boot: {timeout: 90, completed: ["login:"]}
sim:
  linux_native: {libvirt_domain_driver: kvm, ram: 256, cpus: 1, nic_driver: virtio, disk_driver: virtio}
device:
  interfaces: {serial_ports: 1, physical: [eth0, eth1, eth2], management: [eth0]}
configuration:
  provisioning:
    media_type: iso
    volume_name: CIDATA
    files:
      - {name: setup.sh, editable: true, content: "ip address add 10.1.1.1/24 dev eth1\\n"}
      - {name: hostname, editable: false, content: "inserthostname-here\\n"}
ui: {label: Acme host, icon: host, group: Acme}
pyats: {os: linux, username: root, password: frr}
"""

#: A container that is called like a device of ours, and is not the same.
ROUTER: Final = """\
id: frr
general: {nature: router}
boot: {timeout: 60, completed: [frr ready]}
sim: {linux_native: {libvirt_domain_driver: docker, driver: server, ram: 256, cpus: 1}}
device:
  interfaces: {serial_ports: 1, physical: [eth0, eth1, eth2, eth3]}
configuration:
  provisioning:
    media_type: raw
    volume_name: cfg
    files:
      - name: frr.conf
        editable: true
        content: |
          frr defaults traditional
          hostname inserthostname-here
          interface eth0
           ip address 10.1.1.2/24
      - {name: daemons, editable: false, content: "zebra=yes\\n"}
      - name: config.json
        editable: false
        content: |
          {"docker": {"image": "frr:1", "mounts": ["type=bind,source=cfg/frr.conf,target=/etc/frr/frr.conf",
           "type=bind,source=cfg/daemons,target=/etc/frr/daemons"], "caps": ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]},
           "shell": "vtysh", "day0cmd": ["/bin/sh", "-c", "echo begun > /root/begun"], "busybox": true}
ui: {label: FRR container, icon: router, group: Others}
"""

#: Boots the disk that IOSv boots.
TWIN: Final = """\
id: acme-twin
general: {nature: router}
sim: {linux_native: {libvirt_domain_driver: kvm, ram: 512, cpus: 1, nic_driver: e1000, disk_driver: virtio}}
device: {interfaces: {serial_ports: 1, physical: [Ethernet0, Ethernet1]}}
ui: {label: Acme twin}
"""

_IMAGES: Final = "virl-base-images"


def platform(disk: Path, container: Path, small: Path) -> Mapping[str, bytes]:
    """Files of a CD: a machine and a container that run, and a small disk for two kinds of router."""
    nodes = {"acme-host": HOST, "frr": ROUTER, "iosv": IOSV, "acme-twin": TWIN, "external_connector": CONNECTOR}
    files = {f"node-definitions/{name}.yaml": text.encode() for name, text in nodes.items()}
    packed = gzip.compress(container.read_bytes(), 1)
    images = (
        ("acme-host-1-0", "acme-host", "acme-host.qcow2", disk.read_bytes()),
        ("frr-10-0", "frr", "frr.tar.gz", packed),
        ("iosv-159-3-m8", "iosv", "vios-adventerprisek9-m.spa.159-3.m8.qcow2", small.read_bytes()),
        ("acme-twin-2", "acme-twin", "twin.qcow2", small.read_bytes()),
    )
    for name, node, file, content in images:
        files[f"{_IMAGES}/{name}/{name}.yaml"] = image_definition(name, node, file).encode()
        files[f"{_IMAGES}/{name}/{file}"] = content
    return files


def one_machine(disk: Path) -> Mapping[str, bytes]:
    """Files of a CD that has one machine, whose disk is of any form."""
    definition = image_definition("acme-host-1-0", "acme-host", disk.name)
    return {
        "node-definitions/acme-host.yaml": HOST.encode(),
        f"{_IMAGES}/acme-host-1-0/acme-host-1-0.yaml": definition.encode(),
        f"{_IMAGES}/acme-host-1-0/{disk.name}": disk.read_bytes(),
    }


def wrapped(folder: Path, disk: Path, name: str, *, tag: str) -> Path:
    """A container's image as vrnetlab makes them: a launcher, and ``disk`` under the file name ``name`` in a layer."""
    layer, archive = folder / "layer.tar", folder / "wrapped.tar"
    with tarfile.open(layer, "w") as files:
        for launcher in ("launch.py", "vrnetlab.py"):
            member = tarfile.TarInfo(launcher)
            member.size, member.mode = 2, 0o755
            files.addfile(member, io.BytesIO(b"#\n"))
        files.add(disk.resolve(), name)
    config = {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/launch.py"]}}
    write_archive(archive, config=config, layers=[layer], tags=[tag])
    layer.unlink()
    return archive
