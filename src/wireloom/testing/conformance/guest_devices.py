"""Devices of the catalogue whose image, size and provider are those of an emulated guest; everything else is shipped.

What is tested are the shipped chains, media, readiness patterns and command lines: a device file of the user's own
``extends`` the shipped one and changes only what an emulation on a small host cannot have. See
``docs/explanation/emulated-guests.md``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from wireloom.devices import DeviceCatalogue
from wireloom.model.device import Day0, Device

__all__ = ["DAY0_FILE", "DAY0_MARK", "GUESTS", "MARK", "TECHNOLOGIES", "Guest", "Technology", "device_file"]

Technology = Literal["docker", "libvirt"]
TECHNOLOGIES: Final[tuple[Technology, ...]] = ("docker", "libvirt")

#: For variants whose medium and channels other machines show: without KVM each machine costs half a minute and more.
_CONTAINER_ONLY: Final[tuple[Technology, ...]] = ("docker",)

#: Host name in the first configuration of every guest.
MARK: Final = "dayzero"
#: A file that the cloud guest's startup configuration writes, and what it says.
DAY0_FILE: Final = "/srv/day0"
DAY0_MARK: Final = "written by the startup configuration"
#: Folder of a container that stands for the medium that a machine has.
_MEDIUM: Final = "/medium/"
_FOR_DOCKER: Final = {"privileged": False, "cap_add": ["NET_ADMIN"], "entrypoint": None, "command": None}


@dataclass(frozen=True)
class Guest:
    """One emulated guest of the suite.

    :ivar name: of the node; ``device`` is the shipped device, ``persona`` what the emulation plays.
    :ivar config: startup configuration with the host name ``MARK``; empty: the device's own.
    :ivar version: a command that every such device knows; ``edit``: a configuration to be loaded into the running
        guest, after which ``edited`` is in what is extracted; empty: the device has no way to load one.
    :ivar changes: keys of the device file that this guest is about (chains of one channel).
    :ivar nonsense: a command that is refused.
    :ivar run, extract, load: channels that must answer, by technology or for both.
    :ivar technologies: that the device is tested on.
    """

    name: str
    device: str
    persona: str
    config: str = ""
    version: str = "show version"
    expected: str = "emulation for tests"
    nonsense: str = "wireloom nonsense"
    edit: str = ""
    edited: str = ""
    shown: str = f"hostname {MARK}"
    run: str = "ssh"
    extract: str = "ssh"
    load: str = "ssh"
    changes: dict[str, Any] = field(default_factory=dict)
    technologies: tuple[Technology, ...] = TECHNOLOGIES

    @property
    def device_name(self) -> str:
        """Name of the device file that :func:`device_file` makes."""
        return f"emulated-{self.name}"


_SET_IOS: Final = "interface Loopback7\n description edited\n"
_JUNOS_EDIT: Final = """system {
    host-name dayzero;
    root-authentication { plain-text-password-value admin@123; }
    login { user admin { class super-user; authentication { plain-text-password-value admin@123; } } }
}
interfaces { lo0 { unit 7 { description edited; } } }
"""
_PANOS_CONFIG: Final = (
    '<config version="10.1.0"><mgt-config><users><entry name="admin"><phash>Admin@123</phash></entry></users>'
    '</mgt-config><devices><entry name="localhost.localdomain"><deviceconfig><system><hostname>dayzero</hostname>'
    "</system></deviceconfig></entry></devices></config>\n"
)
_CLOUD_CONFIG: Final = f"""#cloud-config
hostname: {MARK}
users:
  - name: clab
    plain_text_passwd: clab@123
    lock_passwd: false
ssh_pwauth: true
write_files:
  - path: {DAY0_FILE}
    content: |
      {DAY0_MARK}
"""
_SERIAL_ONLY: Final[dict[str, Any]] = {
    "run": ["serial"],
    "extract": {"steps": [{"serial": "show running-config", "timeout": 60}]},
    "load": [{"serial": None, "prompt": "configure", "finish": ["commit"]}],
    "ready": {"timeout": 300, "chain": ["serial"]},
}

GUESTS: Final = (
    Guest(
        "ios",
        "cisco_iosv",
        "ios",
        edit=_SET_IOS,
        edited="description edited",
        run="serial",
        extract="serial",
        load="serial",
    ),
    Guest(
        "iosxe",
        "cisco_csr1000v",
        "iosxe",
        edit=_SET_IOS,
        edited="description edited",
        run="serial",
        extract="serial",
        load="serial",
    ),
    Guest(
        "nxos", "cisco_n9kv", "nxos", edit="interface loopback7\n  description edited\n", edited="description edited"
    ),
    Guest("iosxr", "cisco_iosxr", "iosxr", edit=_SET_IOS, edited="description edited"),
    Guest(
        "iosxr-serial",
        "cisco_iosxr",
        "iosxr",
        edit=_SET_IOS,
        edited="description edited",
        run="serial",
        extract="serial",
        load="serial",
        changes=_SERIAL_ONLY,
        technologies=_CONTAINER_ONLY,
    ),
    Guest(
        "asa",
        "cisco_asav",
        "asa",
        edit="interface GigabitEthernet0/1\n description edited\n",
        edited="description edited",
    ),
    Guest(
        "veos",
        "veos",
        "eos",
        edit="interface Loopback7\n   description edited\n",
        edited="description edited",
        technologies=_CONTAINER_ONLY,
    ),
    Guest(
        "junos",
        "juniper_vjunosswitch",
        "junos",
        nonsense="wireloom",
        edit=_JUNOS_EDIT,
        edited="description edited",
        shown=f"host-name {MARK}",
    ),
    Guest(
        "junos-netconf",
        "juniper_vjunosswitch",
        "junos",
        nonsense="wireloom",
        shown=f"host-name {MARK}",
        extract="netconf",
        changes={
            "extract": {"steps": ["netconf"], "begins": "^<", "ends": ">$"},
            "ready": {"timeout": 300, "chain": [{"ssh": "show version", "expect": "Junos"}]},
        },
    ),
    Guest(
        "panos",
        "paloalto_vmseries",
        "panos",
        config=_PANOS_CONFIG,
        version="show system info",
        shown=f"<hostname>{MARK}</hostname>",
    ),
    Guest(
        "cloud",
        "ubuntu",
        "linux",
        config=_CLOUD_CONFIG,
        version="echo emulation for tests",
        nonsense="exit 3",
        shown="",
    ),
    Guest(
        "nxos-fresh",
        "cisco_n9kv",
        "nxos",
        run="serial",
        extract="serial",
        load="serial",
        edit="interface loopback7\n  description edited\n",
        edited="description edited",
        changes={
            "day0": [{"serial": None}],
            "run": ["serial"],
            "extract": {"steps": [{"serial": "show running-config"}]},
            "load": [{"serial": None, "prompt": "configure", "finish": ["copy running-config startup-config"]}],
            "ready": {"timeout": 300, "chain": [{"log": "Power On Auto Provisioning"}]},
        },
        config=f"hostname {MARK}\ninterface loopback1\n  description first\n",
        technologies=_CONTAINER_ONLY,
    ),
    Guest(
        "ceos",
        "ceos",
        "eos",
        run="exec",
        extract="exec",
        load="exec",
        edit="hostname dayzero\ninterface Loopback7\n   description edited\n",
        edited="description edited",
        version="FastCli -p 15 -c 'show version'",
        nonsense="exit 3",
        technologies=("docker",),
    ),
)


def device_file(guest: Guest, catalogue: DeviceCatalogue) -> str:
    """The device file of ``guest`` (JSON, which is YAML)."""
    shipped = catalogue.get(guest.device)
    document = {
        "name": guest.device_name,
        "extends": guest.device,
        "title": f"{shipped.title} (emulated, for tests)",
        "aliases": [],
        "hidden": True,
        "hardware": {
            "cpu": {"default": 1, "minimum": 0},
            "memory": {"default": 256, "minimum": 64},
            "disk": 0,
            "spare-ports": 0,
        },
        "default-provider": guest.technologies[-1],
        **guest.changes,
        "providers": {technology: _provider(guest, shipped, technology) for technology in guest.technologies},
    }
    return json.dumps(document, indent=1)


def _provider(guest: Guest, shipped: Device, technology: Technology) -> dict[str, Any]:
    own: dict[str, Any] = {"needs": [], "hardware": None, "console": None, "ready": None, "run": None, "day0": None}
    if technology == "libvirt":
        asset = {"smbios": {"chassis": {"asset": f"wireloom-emulated:{guest.persona}"}}}
        return {**own, "image": "emulated.qcow2", "settings": asset}
    return {
        **own,
        "image": "wireloom/emulated:latest",
        "env": {"WIRELOOM_EMULATED": guest.persona},
        "settings": _FOR_DOCKER,
        "day0": _in_container(shipped.day0) if "day0" not in guest.changes else None,
    }


def _in_container(methods: tuple[Day0, ...]) -> list[dict[str, Any]] | None:
    """The shipped media as files of a folder; what a container takes by itself stays."""
    first = methods[0]
    if first.method not in {"iso", "fat", "nocloud", "configdrive"}:
        return None
    path = first.path.rpartition("/")[2] if first.archive else first.path
    extra = {f"{_MEDIUM}{name}": text for name, text in first.extra.items() if not name.endswith("/.keep")}
    return [{"file": f"{_MEDIUM}{path}", "template": first.template, "extra": extra}]
