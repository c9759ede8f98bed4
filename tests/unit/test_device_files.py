"""The built-in devices against what is known of them: rows written from the facts, not from the files."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest

from wireloom.devices import DeviceCatalogue
from wireloom.model.device import Device
from wireloom.providers.docker.settings import DockerSettings
from wireloom.providers.libvirt.settings import parse_settings

CATALOGUE = DeviceCatalogue.load()


class Row(NamedTuple):
    """``first``: name of data port 1; ``management``: ``None`` for none. ``memory`` and ``cpu`` 0: no fact is known."""

    name: str
    providers: str
    memory: int
    cpu: float
    first: str
    limit: int
    management: str | None
    login: str
    aliases: str = ""
    hidden: bool = False


V, C, CV = "libvirt", "docker", "docker libvirt"

#: The registry of a public lab platform. Where this table differs from it, ``DIFFERENT`` says why.
ROWS = (
    Row("vyos", CV, 1024, 1, "eth1", 8, "eth0", "vyos/vyos"),
    Row("cisco_iosxr", V, 20480, 4, "GigabitEthernet0/0/0/0", 8, "MgmtEth0/RP0/CPU0/0", "admin/cisco",
        "iosxrv9000 iosxr xrv9k"),
    Row("cisco_xrd", C, 0, 1, "GigabitEthernet0/0/0/0", 8, "MgmtEth0/RP0/CPU0/0", "cisco/cisco"),
    Row("cisco_iosv", V, 2048, 1, "GigabitEthernet0/0", 8, None, "", "iosv"),
    Row("iosvl2", V, 1024, 1, "GigabitEthernet0/0", 16, None, "", "iosv-l2"),
    Row("iol-xe", C, 1024, 1, "Ethernet0/0", 32, None, "", "iol iol-xe-serial-4eth"),
    Row("iol-l2", C, 1024, 1, "Ethernet0/0", 32, None, "", "ioll2-xe"),
    Row("cisco_csr1000v", V, 4096, 2, "GigabitEthernet1", 8, None, "", "csr csr1000v"),
    Row("juniper_crpd", C, 1024, 1, "eth1", 8, "eth0", "root/"),
    Row("juniper_vsrx3", CV, 4096, 2, "ge-0/0/0", 8, "fxp0", "admin/admin@123"),
    Row("juniper_vjunosrouter", CV, 5120, 4, "ge-0/0/0", 12, "fxp0", "admin/admin@123", "vjunos vjunos-router"),
    Row("juniper_vjunosevolved", CV, 8192, 4, "et-0/0/0", 12, "re0:mgmt-0", "admin/admin@123", "vjunos-evolved"),
    Row("juniper_cjunos", C, 8192, 4, "et-0/0/0", 12, "re0:mgmt-0", "root/", "cjunos cjunos-evolved cjunosevolved"),
    Row("ceos", C, 2048, 2, "Ethernet1", 12, "Management0", "admin/", "eos arista_eos arista_ceos"),
    Row("nokia_srlinux", C, 4096, 2, "ethernet-1/1", 12, "mgmt0", "admin/NokiaSrl1!"),
    Row("cvx", C, 1024, 1, "swp1", 12, "eth0", ""),
    Row("sonic-vs", V, 4096, 2, "Ethernet0", 12, "eth0", "admin/YourPaSsWoRd"),
    Row("juniper_vjunosswitch", CV, 5120, 4, "ge-0/0/0", 12, "fxp0", "admin/admin@123", "vjunos-switch"),
    Row("cisco_n9kv", V, 12288, 2, "Ethernet1/1", 12, "mgmt0", "admin/cisco", "nxos nxosv9000 n9kv", True),
    Row("f5_bigip", V, 4096, 2, "1.1", 8, "mgmt", ""),
    Row("haproxy", C, 0, 1, "eth1", 8, "eth0", ""),
    Row("citrix_adc", V, 2048, 2, "0/1", 8, None, "", "", True),
    Row("cisco_asav", V, 2048, 1, "GigabitEthernet0/0", 10, "Management0/0", ""),
    Row("fortinet_fortigate", V, 2048, 1, "port1", 10, None, "", "", True),
    Row("paloalto_vmseries", V, 6144, 2, "ethernet1/1", 10, "management", "", "", True),
    Row("linux", CV, 0, 1, "eth1", 32, "eth0", "root/frr"),
    Row("alpine", CV, 512, 1, "eth1", 8, "eth0", ""),
    Row("tcl", V, 256, 1, "eth1", 4, "eth0", ""),
    Row("frr", CV, 0, 1, "eth1", 32, "eth0", "root/frr"),
    Row("windows", V, 4096, 2, "Ethernet0", 4, None, "", "", True),
    Row("c8000v", V, 5120, 2, "GigabitEthernet1", 12, None, "", "cisco_c8000v cat8000v cat-sdwan-edge"),
    Row("cat-sdwan-controller", V, 4096, 2, "eth1", 4, "eth0", ""),
    Row("cat-sdwan-manager", V, 32768, 8, "eth1", 4, "eth0", ""),
    Row("cat-sdwan-validator", V, 4096, 2, "eth1", 4, "eth0", ""),
    Row("cat-sdwan-vedge", V, 2048, 2, "ge0/0", 8, "eth0", ""),
    Row("ftdv", V, 8192, 4, "GigabitEthernet0/0", 10, "Management0/0", "", "cisco_ftdv"),
    Row("fmcv", V, 32768, 4, "eth1", 2, "eth0", ""),
    Row("cat9800", V, 18432, 4, "GigabitEthernet1", 4, None, "", "cisco_cat9800"),
    Row("cat9000v-q200", V, 18432, 4, "GigabitEthernet1/0/1", 24, "GigabitEthernet0/0", "admin/admin",
        "cisco_cat9000v_q200 cat9kv cisco_cat9kv"),
    Row("cat9000v-uadp", V, 18432, 4, "GigabitEthernet1/0/1", 24, "GigabitEthernet0/0", "admin/admin",
        "cisco_cat9000v_uadp"),
)  # fmt: skip

#: Where the table above leaves the registry on purpose.
DIFFERENT = {
    "eth1": "the registry writes eth0 for what the kernel calls eth1; eth0 is on the management network",
    "fxp0 re0:mgmt-0 mgmt management Management0/0 eth0": "the guest's first NIC is for management, declared or not",
    "et-0/0/0": "the registry reuses the other model's names",
    "ethernet-1/1": "what the vendor writes; e1-1 is the kernel's name",
    "admin/admin@123": "the registry shows one login and extracts with another",
    "32": "containers and machines of Linux have no such limit",
}


#: What only launcher scripts know: the same columns.
LAUNCHED = (
    Row("cisco_vios", V, 512, 1, "GigabitEthernet0/1", 15, "GigabitEthernet0/0", "admin/admin", "vios"),
    Row("cisco_viosl2", V, 768, 1, "GigabitEthernet0/1", 15, "GigabitEthernet0/0", "admin/admin", "viosl2"),
    Row("cisco_csr1000v-managed", V, 4096, 2, "GigabitEthernet2", 8, "GigabitEthernet1", "admin/admin"),
    Row("c8000v-managed", V, 5120, 2, "GigabitEthernet2", 9, "GigabitEthernet1", "admin/admin"),
    Row("fortinet_fortigate-managed", V, 2048, 1, "port2", 12, "port1", ""),
    Row("cisco_titanium", V, 4096, 2, "Ethernet2/1", 32, "mgmt0", "admin/admin", "titanium nxosv"),
    Row("cisco_iosxrv", V, 4096, 1, "GigabitEthernet0/0/0/0", 128, "MgmtEth0/0/CPU0/0", "", "xrv"),
    Row("cisco_xrd_vrouter", V, 10240, 4, "TenGigE0/0/0/0", 8, "MgmtEth0/RP0/CPU0/0", "clab/clab@123"),
    Row("juniper_vmx", V, 2048, 1, "ge-0/0/0", 96, "fxp0", "admin/admin@123", "vmx"),
    Row("juniper_vqfx", V, 2048, 1, "xe-0/0/0", 12, "em0", "admin/admin@123", "vqfx"),
    Row("juniper_csrx", C, 0, 2, "ge-0/0/0", 15, "fxp0", "", "csrx"),
    Row("juniper_apstra", V, 16384, 1, "", 0, "eth0", ""),
    Row("veos", V, 2048, 2, "Ethernet1", 20, "Management1", "admin/admin"),
    Row("aruba_aoscx", V, 8192, 4, "1/1/1", 20, "mgmt", "admin/admin", "aoscx"),
    Row("mikrotik_ros", V, 256, 1, "ether2", 31, "ether1", "admin/admin", "routeros"),
    Row("huawei_ne40e", V, 2048, 2, "Ethernet1/0/0", 14, "GigabitEthernet0/0/0", "admin/admin", "huawei_vrp"),
    Row("huawei_ce12800", V, 4096, 2, "GE1/0/0", 14, "MEth0/0/0", "admin/admin"),
    Row("ipinfusion_ocnos", V, 4096, 2, "eth1", 62, "eth0", "ocnos/ocnos", "ocnos"),
    Row("dell_os10", V, 4096, 4, "ethernet1/1/1", 56, "mgmt1/1/1", "admin/admin", "ftosv"),
    Row("dell_sonic", V, 4096, 2, "Ethernet0", 10, "eth0", "admin/YourPaSsWoRd"),
    Row("plvision_sonic", V, 4096, 2, "Ethernet0", 96, "eth0", "admin/YourPaSsWoRd"),
    Row("cumulus", V, 4096, 1, "swp1", 16, "eth0", "cumulus/Clab123!"),
    Row("extreme_exos", V, 512, 1, "1", 13, "Mgmt", "admin/", "exos"),
    Row("extreme_voss", V, 2048, 1, "1/1", 33, "mgmt", "", "voss"),
    Row("hpe_vsr", V, 1024, 1, "GigabitEthernet2/0", 15, "GigabitEthernet1/0", "", "vsr1000"),
    Row("spirent_vstc", V, 4096, 1, "port1", 8, "mgmt", "admin/spt_admin"),
    Row("opnsense", V, 2048, 1, "vtnet1", 16, "vtnet0", "root/opnsense"),
    Row("openwrt", V, 0, 1, "eth1", 16, "eth0", "root/VR-netlab9"),
    Row("arrcus_arcos", V, 16384, 4, "swp1", 16, "ma1", "", "arcos"),
    Row("ciena_saos", V, 8196, 2, "1", 16, "mgmt", "diag/ciena123"),
    Row("checkpoint", V, 0, 4, "eth1", 8, "eth0", "admin/admin"),
    Row("genuscreen", V, 4096, 2, "eth1", 8, "eth0", "root/VR-netlab9"),
    Row("truenas", V, 8192, 4, "eth1", 8, "eth0", ""),
    Row("talos", V, 4192, 1, "eth1", 8, "eth0", ""),
    Row("cmglinux", V, 6144, 4, "eth1", 16, "eth0", ""),
    Row("ubuntu", V, 0, 1, "eth1", 16, "eth0", "clab/clab@123"),
    Row("debian", V, 0, 1, "eth1", 16, "eth0", "clab/clab@123"),
    Row("alma", V, 0, 1, "eth1", 16, "eth0", "clab/clab@123"),
    Row("rocky", V, 0, 1, "eth1", 16, "eth0", "clab/clab@123"),
    Row("cloud", V, 0, 1, "eth1", 16, "eth0", "clab/clab@123", "generic_vm"),
    Row("freebsd", V, 0, 1, "vtnet1", 16, "vtnet0", "admin/admin"),
    Row("openbsd", V, 0, 1, "vio1", 16, "vio0", "admin/admin"),
)

#: SR OS: chassis → GB of the control plane, GB of the line card (0: in one machine), data ports.
CHASSIS = {
    "sr-1": (5, 0, 12), "sr-1s": (6, 0, 36), "sr-1s-macsec": (6, 0, 20), "sr-1e": (4, 4, 40), "sr-1e-sec": (4, 4, 12),
    "sr-a4": (4, 4, 10), "sr-1-24d": (4, 4, 48), "sr-1-48d": (4, 4, 48), "sr-1x-48d": (4, 4, 48),
    "sr-1-46s": (4, 4, 48), "sr-1-92s": (4, 4, 48), "sr-1x-92s": (4, 4, 48), "sr-2s": (3, 4, 10),
    "sr-2se": (4, 8, 36), "sr-7s": (4, 6, 36), "sr-7s-fp4": (4, 6, 36), "sr-14s": (4, 6, 36), "sr-7-secgw": (4, 6, 16),
    "vsr-i": (8, 0, 20), "ixr-r6": (6, 0, 7), "ixr-ec": (4, 0, 30), "ixr-e2": (4, 0, 30), "ixr-e2c": (4, 0, 30),
    "ixr-s": (3, 4, 54), "ixr-xs": (3, 4, 54), "ixr-x1": (3, 4, 36), "ixr-x3": (4, 5, 36), "ixr-e-big": (3, 4, 34),
    "ixr-e-small": (3, 4, 18),
}  # fmt: skip


@pytest.mark.parametrize("row", [*ROWS, *LAUNCHED], ids=[row.name for row in [*ROWS, *LAUNCHED]])
def test_a_device_is_what_is_known_of_it(row: Row) -> None:
    device = CATALOGUE.get(row.name)
    assert set(device.providers) - {"simulated"} == set(row.providers.split())
    assert device.hardware.memory_mb.default == row.memory or not row.memory
    assert device.hardware.cpu.default == row.cpu
    assert (device.ports.display(1) if row.limit else "") == row.first
    assert (device.ports.limit, device.ports.management) == (row.limit, row.management)
    assert device.hidden == row.hidden
    if row.login:
        assert f"{device.access.username}/{device.access.password}" == row.login
    assert [CATALOGUE.get(alias).name for alias in row.aliases.split()] == [row.name] * len(row.aliases.split())


@pytest.mark.parametrize("name", CHASSIS)
def test_a_chassis_is_of_the_size_that_is_known_of_it(name: str) -> None:
    device = CATALOGUE.get(f"nokia_sros_{name}")
    control, line_card, ports = CHASSIS[name]
    assert device.hardware.memory_mb.minimum == control * 1024
    assert [member.hardware.memory_mb.minimum for member in device.members] == [line_card * 1024] * bool(line_card)
    assert device.ports.limit == ports


def test_there_are_forty_kinds_in_the_table() -> None:
    assert len(ROWS) == len({row.name for row in ROWS}) == 40


#: Device → settings of its machine.
MACHINES: dict[str, dict[str, Any]] = {
    "cisco_iosxr": {
        "machine": "pc", "disk_bus": "virtio", "nic_model": "virtio", "firmware": "uefi", "uefi_nvram": False,
        "smm": False, "serials": 4, "video": "none",
        "smbios": {"system": {"manufacturer": "cisco", "product": "Cisco IOS XRv 9000"}},
    },
    "cisco_n9kv": {
        "machine": "pc-i440fx-6.2", "disk_bus": "sata", "nic_model": "e1000", "firmware": "uefi", "uefi_nvram": False,
        "serials": 2, "cpu_features": dict.fromkeys(("smep", "smap", "pku", "umip"), "disable"),
    },
    "cat9000v-q200": {
        "machine": "pc-i440fx-6.2", "disk_bus": "ide", "nic_model": "e1000", "firmware": "bios",
        "cpu_features": dict.fromkeys(("smep", "smap", "pku", "umip"), "disable"),
    },
    "cat9000v-uadp": {
        "machine": "pc-i440fx-6.2", "disk_bus": "ide", "nic_model": "e1000",
        "cpu_features": dict.fromkeys(("smep", "smap", "pku", "umip"), "disable"),
    },
    "cat9800": {"machine": "pc-i440fx-6.2", "disk_bus": "ide", "nic_model": "e1000", "cpu_features": {}},
    "cisco_iosv": {"machine": "pc-i440fx-6.2", "disk_bus": "ide", "nic_model": "e1000"},
    "iosvl2": {"machine": "pc-i440fx-6.2", "disk_bus": "ide", "nic_model": "e1000"},
    "cisco_asav": {"machine": "pc-i440fx-6.2", "disk_bus": "virtio", "nic_model": "e1000"},
    "extreme_exos": {"nic_model": "rtl8139", "cpu_model": "core2duo", "disk_bus": "ide"},
    "f5_bigip": {"nic_model": "virtio", "mgmt_nic_model": "e1000"},
    "dell_os10": {"disk_bus": "sata", "nic_model": "e1000"},
    "juniper_vjunosrouter": {"smbios": {"system": {"product": "VM-VMX", "family": "lab"}}},
    "juniper_vjunosswitch": {"smbios": {"system": {"product": "VM-VEX", "family": "lab"}}},
    "ftdv": {"disk_bus": "sata", "nic_model": "virtio"},
    "cisco_csr1000v": {"nic_model": "vmxnet3"},
    "c8000v": {"nic_model": "vmxnet3"},
    "veos": {"disk_bus": "ide", "nic_model": "e1000"},
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_has_the_hardware_that_its_guest_wants(name: str) -> None:
    settings = parse_settings(CATALOGUE.get(name).providers["libvirt"].settings)
    assert {key: getattr(settings, key) for key in MACHINES[name]} == MACHINES[name]


#: Device → (least memory, least cores, ports that are made in any case, dead NICs, sizes of further disks).
LEAST: dict[str, tuple[int, int, int, int, tuple[float, ...]]] = {
    "cisco_iosxr": (16384, 2, 0, 2, ()),
    "cisco_n9kv": (8192, 2, 0, 0, ()),
    "cat9000v-q200": (18432, 4, 8, 0, ()),
    "cat9000v-uadp": (18432, 4, 8, 0, ()),
    "cat9800": (16384, 4, 4, 0, ()),
    "cat-sdwan-manager": (16384, 4, 0, 0, (256,)),
    "fmcv": (28672, 4, 0, 0, (256,)),
    "ftdv": (8192, 4, 2, 1, ()),
    "fortinet_fortigate": (2048, 1, 0, 0, (30,)),
    "huawei_ne40e": (2048, 2, 0, 1, ()),
    "juniper_vqfx": (2048, 1, 0, 2, ()),
    "truenas": (8192, 4, 0, 0, (50, 50, 50, 50)),
}


@pytest.mark.parametrize("name", LEAST)
def test_a_machine_has_at_least_what_its_guest_needs(name: str) -> None:
    device = CATALOGUE.get(name)
    hardware = device.hardware_on("libvirt")
    disks = parse_settings(device.providers["libvirt"].settings).extra_disks
    assert (
        hardware.memory_mb.minimum,
        hardware.cpu.minimum,
        hardware.min_ports,
        hardware.reserved_ports,
        tuple(disk.size_gb for disk in disks),
    ) == LEAST[name]


#: Device → (method, path, label, attach) of its first medium.
MEDIA = {
    "cisco_iosxr": ("iso", "iosxr_config.txt", "config", "cdrom"),
    "cisco_iosv": ("fat", "ios_config.txt", "disk", "disk"),
    "iosvl2": ("fat", "ios_config.txt", "disk", "disk"),
    "iol-xe": ("bind", "/iol/data/config.txt", "", ""),
    "cisco_csr1000v": ("iso", "iosxe_config.txt", "config", "cdrom"),
    "c8000v": ("iso", "iosxe_config.txt", "config", "cdrom"),
    "c8000v-sdwan": ("iso", "ciscosdwan_cloud_init.cfg", "disk", "cdrom"),
    "cat9800": ("iso", "iosxe_config.txt", "CDROM", "cdrom"),
    "cat9000v-q200": ("iso", "iosxe_config.txt", "config", "cdrom"),
    "cisco_n9kv": ("iso", "nxos_config.txt", "disk", "cdrom"),
    "cisco_asav": ("iso", "day0-config", "CIDATA", "cdrom"),
    "ftdv": ("iso", "day0-config", "day0", "cdrom"),
    "juniper_vjunosrouter": ("fat", "config/juniper.conf", "vmm-data", "usb"),
    "juniper_vjunosevolved": ("fat", "config/juniper.conf", "vmm-data", "usb"),
    "juniper_vsrx3": ("iso", "juniper.conf", "config", "cdrom"),
    "juniper_cjunos": ("bind", "/config/startup-config.cfg", "", ""),
    "ceos": ("bind", "/mnt/flash/startup-config", "", ""),
    "cisco_iosxrv": ("iso", "iosxr_config.txt", "cidata", "cdrom"),
    "veos": ("iso", "veos_usr.dat", "ARISTA_CONFIG_DRIVE", "cdrom"),
    "paloalto_vmseries": ("iso", "config/bootstrap.xml", "bootstrap", "cdrom"),
    "cat-sdwan-manager": ("nocloud", "user-data", "cidata", "cdrom"),
    "fortinet_fortigate": ("configdrive", "openstack/latest/user_data", "config-2", "cdrom"),
    "cmglinux": ("configdrive", "openstack/latest/user_data", "config-2", "cdrom"),
    "f5_bigip": ("nocloud", "user-data", "cidata", "cdrom"),
    "alpine": ("iso", "node.cfg", "cfg", "cdrom"),
    "tcl": ("iso", "iosxe_config.txt", "cfg", "cdrom"),
    "hpe_vsr": ("iso", "config.txt", "cfg", "cdrom"),
    "ubuntu": ("nocloud", "user-data", "cidata", "cdrom"),
    "freebsd": ("nocloud", "user-data", "cidata", "cdrom"),
}


@pytest.mark.parametrize("name", MEDIA)
def test_the_startup_configuration_is_where_the_guest_looks_for_it(name: str) -> None:
    method, path, label, attach = MEDIA[name]
    first = CATALOGUE.get(name).day0[0]
    assert (first.method, first.path) == (method, path)
    if label:
        assert (first.label, first.attach) == (label, attach)


#: What the console shows, device → text by which it is ready.
READY = {
    "cisco_iosv": ("\nPress RETURN to get started!\n", "\nr1>", "\nr1#", "*Mar 1: %CVAC-4-CONFIG_DONE: done"),
    "iosvl2": (
        "Would you like to enter the initial configuration dialog? [yes/no]: ", "\nsw1>", "Press RETURN to get started",
    ),
    "iol-xe": ("Press RETURN to get started!",),
    "c8000v": ("Press RETURN to get started!", "%CVAC-4-CONFIG_DONE"),
    "cisco_n9kv": ("\nswitch login: ", "User Access Verification", "\nn9k login: "),
    "cisco_asav": ("\nciscoasa> ", "\nfw1# "),
    "cisco_iosxr": ("\nRP/0/RP0/CPU0:r1#", "%MGBL-CVAC-4-CONFIG_DONE"),
    "juniper_vjunosrouter": ("\nlogin: ", "\nr1 login: "),
    "juniper_cjunos": ("EVO FLAVORS",),
    "sonic-vs": ("\nsonic login: ",),
    "ceos": ("%SYS-5-CONFIG_I: Configured", "System ready", "%ZTP-6-CANCEL"),
    "nokia_srlinux": ("System is ready",),
    "alpine": ("Welcome to Alpine Linux 3.19",),
    "tcl": ("###### BOOT CONFIG DONE ######",),
    "cat-sdwan-controller": ("Mon: System Ready", "\nvsmart login: "),
    "fortinet_fortigate": ("\nFortiGate-VM64-KVM login: ",),
    "paloalto_vmseries": ("\nPA-VM login: ",),
    "citrix_adc": ("\n Done\n",),
    "ubuntu": ("[  OK  ] Reached target Cloud-init target.", "\nubuntu login: "),
    "extreme_exos": ("The node is now available for login.",),
    "arrcus_arcos": ("Starting Zero Touch Provisioning",),
}  # fmt: skip


def _log_pattern(device: Device) -> str:
    return next(probe.pattern for probe in device.ready.probes if probe.kind == "log")


@pytest.mark.parametrize("name", READY)
def test_a_guest_is_ready_by_what_its_console_shows(name: str) -> None:
    pattern = _log_pattern(CATALOGUE.get(name))
    for text in READY[name]:
        assert re.search(pattern, text), text
    assert re.search(pattern, "Booting from Hard Disk...\nLinux version 5.10 (gcc)\n") is None


def test_an_early_login_is_not_taken_for_a_ready_firewall() -> None:
    pattern = _log_pattern(CATALOGUE.get("paloalto_vmseries"))
    assert re.search(pattern, "\nPA-HDF login: ") is None
    assert re.search(pattern, "\nvm login: ") is None


TIMEOUTS = {
    "cisco_iosv": 180, "iosvl2": 300, "iol-xe": 120, "cisco_csr1000v": 300, "c8000v": 250, "cat9800": 300,
    "cat9000v-q200": 600, "cisco_n9kv": 600, "cisco_asav": 180, "juniper_vjunosrouter": 300, "juniper_cjunos": 600,
    "juniper_vsrx3": 300, "ceos": 300, "nokia_srlinux": 120, "sonic-vs": 300, "alpine": 120, "tcl": 60,
    "citrix_adc": 180, "fortinet_fortigate": 180, "paloalto_vmseries": 600, "cat-sdwan-manager": 600, "windows": 600,
}  # fmt: skip


@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_guest_gets_the_time_that_it_needs(name: str) -> None:
    assert CATALOGUE.get(name).ready.timeout_s == TIMEOUTS[name]


EOS_ENVIRONMENT = {
    "CEOS": "1", "EOS_PLATFORM": "ceoslab", "container": "docker", "ETBA": "1",
    "SKIP_ZEROTOUCH_BARRIER_IN_SYSDBINIT": "1", "INTFTYPE": "eth", "MGMT_INTF": "eth0", "CEOS_NOZEROTOUCH": "1",
}  # fmt: skip

#: Device → (privileged, capabilities, environment).
CONTAINERS: dict[str, tuple[bool, set[str], dict[str, str]]] = {
    "ceos": (True, {"NET_ADMIN", "SYS_ADMIN", "NET_RAW"}, EOS_ENVIRONMENT),
    "nokia_srlinux": (True, {"NET_ADMIN", "SYS_ADMIN", "NET_RAW"}, {"SRLINUX": "1"}),
    "juniper_cjunos": (
        True, {"NET_ADMIN", "SYS_ADMIN", "NET_RAW"},
        {"CPTX_COSIM": "BT", "CLAB_LABEL_CLAB_NODE_KIND": "juniper_cjunos"},
    ),
    "vyos": (True, {"NET_ADMIN", "SYS_ADMIN"}, {}),
    "iol-xe": (False, {"NET_ADMIN"}, {"IOL_PID": "{{ number }}"}),
    "iol-l2": (False, {"NET_ADMIN"}, {"IOL_PID": "{{ number }}"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_runs_as_its_image_wants(name: str) -> None:
    support = CATALOGUE.get(name).providers["docker"]
    settings = DockerSettings.parse(support.settings)
    privileged, capabilities, environment = CONTAINERS[name]
    assert settings.privileged == privileged
    assert set(settings.cap_add) == capabilities
    assert environment.items() <= support.env.items()


def test_machines_inside_need_a_host_that_can_run_them() -> None:
    assert "cpu:vnmi" in CATALOGUE.get("juniper_cjunos").providers["docker"].needs
    for name in ("juniper_vjunosrouter", "juniper_vjunosswitch", "juniper_vjunosevolved"):
        assert "nested" in CATALOGUE.get(name).providers["libvirt"].needs
    devices = DockerSettings.parse(CATALOGUE.get("juniper_cjunos").providers["docker"].settings).devices
    assert devices == ["/dev/kvm", "/dev/net/tun"]


def test_containers_of_ports_that_a_forwarding_process_looks_for_have_their_names() -> None:
    assert CATALOGUE.get("nokia_srlinux").ports.kernel(1) == "e1-1"
    assert CATALOGUE.get("nokia_srlinux").ports.kernel(0) == "mgmt0"
    assert CATALOGUE.get("cvx").ports.kernel(3) == "swp3"
    assert CATALOGUE.get("ceos").ports.kernel(1) == "eth1"


def test_slots_have_four_ports_where_the_vendor_counts_so() -> None:
    for name, prefix in (("iol-xe", "Ethernet"), ("iol-l2", "Ethernet"), ("iosvl2", "GigabitEthernet")):
        ports = CATALOGUE.get(name).ports
        assert [ports.display(index) for index in (4, 5)] == [f"{prefix}0/3", f"{prefix}1/0"]
    assert CATALOGUE.get("sonic-vs").ports.display(3) == "Ethernet8"
