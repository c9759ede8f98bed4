"""What images are, by their names and what they say of themselves: real names, made-up ones, and hostile ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.devices import DeviceCatalogue
from wireloom.library.identify import CERTAIN, identify, plain_name
from wireloom.library.values import Facts
from wireloom.model.device import Device, ProviderSupport, Recognition
from wireloom.model.images import DeviceProposal, SourceKind

CATALOGUE = DeviceCatalogue.load()
DEVICES = tuple(CATALOGUE)

#: File names as vendors, the reference platform and the makers of tools give them → device, version.
DISKS = [
    ("vios-adventerprisek9-m.spa.159-3.m6.qcow2", "cisco_iosv", "159-3.m6"),
    ("vios-adventerprisek9-m.SPA.159-3.M10.qcow2", "cisco_iosv", "159-3.M10"),
    ("vios-adventerprisek9-m.vmdk.SPA.156-2.T", "cisco_iosv", "156-2.T"),
    ("cisco_vios-158-3.M2.qcow2", "cisco_iosv", "158-3.M2"),
    ("cisco_vios-adventerprisek9-m.spa.159-3.m10.qcow2", "cisco_iosv", "159-3.m10"),
    ("vios_l2-adventerprisek9-m.ssa.high_iron_20200929.qcow2", "iosvl2", "high_iron_20200929"),
    ("viosl2-adventerprisek9-m.ssa.high_iron_20200929.qcow2", "iosvl2", "high_iron_20200929"),
    ("vios_l2-adventerprisek9-m.vmdk.SSA.152-4.0.55.E", "iosvl2", "152-4.0.55.E"),
    ("cisco_viosl2-15.2.4.55e.qcow2", "iosvl2", "15.2.4.55e"),
    ("csr1000v-universalk9.17.03.02-serial.qcow2", "cisco_csr1000v", "17.03.02"),
    ("csr1000v-universalk9.16.12.03.qcow2", "cisco_csr1000v", "16.12.03"),
    ("csr1000v-universalk9.17.03.08a-serial.qcow2", "cisco_csr1000v", "17.03.08a"),
    ("csr1000v-universalk9.03.14.00.S.155-1.S-std.qcow2", "cisco_csr1000v", "03.14.00.S.155-1.S"),
    ("c8000v-universalk9_16G_serial.17.11.01a.qcow2", "c8000v", "17.11.01a"),
    ("c8000v-universalk9_8G_serial.17.06.01a.qcow2", "c8000v", "17.06.01a"),
    ("c8000v-universalk9.17.09.04a.qcow2", "c8000v", "17.09.04a"),
    ("cat9kv-prd-17.12.01prd9.qcow2", "cat9000v-q200", "17.12.01"),
    ("cat9kv_prd.17.15.03.qcow2", "cat9000v-q200", "17.15.03"),
    ("C9800-CL-universalk9.17.09.04a.qcow2", "cat9800", "17.09.04a"),
    ("asav9-18-2.qcow2", "cisco_asav", "9-18-2"),
    ("asav9-16-4-14.qcow2", "cisco_asav", "9-16-4-14"),
    ("asav981.qcow2", "cisco_asav", "981"),
    ("Cisco_Secure_Firewall_Threat_Defense_Virtual-7.2.5-208.qcow2", "ftdv", "7.2.5-208"),
    ("Cisco_Firepower_Threat_Defense_Virtual-7.0.1-84.qcow2", "ftdv", "7.0.1-84"),
    ("Cisco_Secure_FW_Mgmt_Center_Virtual_KVM-7.2.5-208.qcow2", "fmcv", "7.2.5-208"),
    ("Cisco_Firepower_Management_Center_Virtual-6.6.0-90.qcow2", "fmcv", "6.6.0-90"),
    ("phoebe-14-0-0-692-C100V.qcow2", "cisco_esa", "14-0-0-692"),
    ("coeus-14-5-0-537-S100V.qcow2", "cisco_wsa", "14-5-0-537"),
    ("nexus9300v.9.3.9.qcow2", "cisco_n9kv", "9.3.9"),
    ("nexus9500v64.10.3.1.F.qcow2", "cisco_n9kv", "10.3.1.F"),
    ("nexus9300v64-lite.10.4.1.F.qcow2", "cisco_n9kv", "10.4.1.F"),
    ("n9kv-9.3.8.qcow2", "cisco_n9kv", "9.3.8"),
    ("nxosv-final.7.0.3.I7.9.qcow2", "cisco_n9kv", "7.0.3.I7.9"),
    ("titanium-final.7.3.0.d1.1.qcow2", "cisco_titanium", "7.3.0.d1.1"),
    ("iosxrv-k9-demo-6.1.2.vmdk", "cisco_iosxrv", "6.1.2"),
    ("xrv9k-fullk9-x-7.10.1.qcow2", "cisco_iosxr", "7.10.1"),
    ("xrv9k-fullk9-x.vrr-7.4.1.qcow2", "cisco_iosxr", "7.4.1"),
    ("xrv9k-fullk9-x.qcow2-6.0.1", "cisco_iosxr", "6.0.1"),
    ("viptela-vmanage-20.12.1-genericx86-64.qcow2", "cat-sdwan-manager", "20.12.1"),
    ("viptela-smart-20.9.1-genericx86-64.qcow2", "cat-sdwan-controller", "20.9.1"),
    ("viptela-bond-20.9.1-genericx86-64.qcow2", "cat-sdwan-validator", "20.9.1"),
    ("junos-vsrx3-x86-64-23.2R1.13.qcow2", "juniper_vsrx3", "23.2R1.13"),
    ("vJunos-router-23.2R1.15.qcow2", "juniper_vjunosrouter", "23.2R1.15"),
    ("vJunos-switch-23.1R1.8.qcow2", "juniper_vjunosswitch", "23.1R1.8"),
    ("vJunosEvolved-23.1R1.8-EVO.qcow2", "juniper_vjunosevolved", "23.1R1.8"),
    ("vJunosEvolved-23.2R1-S1.8-EVO.qcow2", "juniper_vjunosevolved", "23.2R1-S1.8"),
    ("junos-vmx-x86-64-17.1R1.8.qcow2", "juniper_vmx", "17.1R1.8"),
    ("vqfx-19.4R1.10-re-qemu.qcow2", "juniper_vqfx", "19.4R1.10"),
    ("aos_server_4.1.2-269.qcow2", "juniper_apstra", "4.1.2-269"),
    ("vEOS-lab-4.20.0F.vmdk", "veos", "4.20.0F"),
    ("vEOS64-lab-4.32.0F.qcow2", "veos", "4.32.0F"),
    ("vEOS-lab-4.26.4M-combined.vmdk", "veos", "4.26.4M"),
    ("arubaoscx-disk-image-genericx86-p4-20220223141111.vmdk", "aruba_aoscx", "20220223141111"),
    ("fortios-v7.0.14.qcow2", "fortinet_fortigate", "7.0.14"),
    ("FGT_VM64_KVM-v7.4.3.F-build2573-FORTINET.out.kvm.zip", "fortinet_fortigate", "7.4.3"),
    ("PA-VM-KVM-10.0.6.qcow2", "paloalto_vmseries", "10.0.6"),
    ("PA-VM-KVM-10.2.9-h1.qcow2", "paloalto_vmseries", "10.2.9-h1"),
    ("sros-vm-22.10.R3.qcow2", "nokia_sros", "22.10.R3"),
    ("magc-sros-vm-23.10.R1.qcow2", "nokia_sros", "23.10.R1"),
    ("chr-7.16.2.img.zip", "mikrotik_ros", "7.16.2"),
    ("chr-7.16.2.vmdk", "mikrotik_ros", "7.16.2"),
    ("huawei_ne40e-V800R011C00SPC607B607.qcow2", "huawei_ne40e", "V800R011C00SPC607B607"),
    ("huawei_ce12800-V200R005C10SPC607B607.qcow2", "huawei_ce12800", "V200R005C10SPC607B607"),
    ("OcNOS-SP-PLUS-x86-6.5.2-101-GA.qcow2", "ipinfusion_ocnos", "6.5.2-101"),
    ("dellftos.10.5.3.4.qcow2", "dell_os10", "10.5.3.4"),
    ("sonic-vs-202305.qcow2", "sonic-vs", "202305"),
    ("sonic-vs.img.gz", "sonic-vs", ""),
    ("dell-sonic-4.2.1.qcow2", "dell_sonic", "4.2.1"),
    ("cumulus-linux-5.9.2-vx-amd64-qemu.qcow2", "cumulus", "5.9.2"),
    ("EXOS-VM_v32.1.1.6.qcow2", "extreme_exos", "32.1.1.6"),
    ("EXOS-VM_32.6.3.126.qcow2", "extreme_exos", "32.6.3.126"),
    ("VOSSGNS3.8.10.0.0.qcow2", "extreme_voss", "8.10.0.0"),
    ("VSR1000_HPE-CMW710-E0618-X64.qcow2", "hpe_vsr", "E0618"),
    ("VSR1000_HP-CMW710-R0202P01-X64.qco.qcow2", "hpe_vsr", "R0202P01"),
    ("spirent_vstc-5.45.1234.qcow2", "spirent_vstc", "5.45.1234"),
    ("BIGIP-16.1.3.2-0.0.4.qcow2", "f5_bigip", "16.1.3.2-0.0.4"),
    ("BIGIP-17.1.1-0.2.6.ALL_1SLOT.qcow2.zip", "f5_bigip", "17.1.1-0.2.6"),
    ("NSVPX-KVM-13.1-4.43_nc_64.qcow2", "citrix_adc", "13.1-4.43"),
    ("Check_Point_R81.20_T631.qcow2", "checkpoint", "R81.20"),
    ("OPNsense-24.7-nano-amd64.img.bz2", "opnsense", "24.7"),
    ("openwrt-24.10.0-x86-64-generic-ext4-combined.img.gz", "openwrt", "24.10.0"),
    ("openwrt-23.05.3-x86-64-generic-squashfs-combined-efi.img.gz", "openwrt", "23.05.3"),
    ("vyos-1.4.0-amd64.qcow2", "vyos", "1.4.0"),
    ("vyos-1.3.3-generic-amd64.qcow2", "vyos", "1.3.3"),
    ("CMG-Linux-23.3.R1.qcow2", "cmglinux", "23.3.R1"),
    ("jammy-server-cloudimg-amd64.img", "ubuntu", "jammy"),
    ("noble-server-cloudimg-amd64.img", "ubuntu", "noble"),
    ("ubuntu-22.04-server-cloudimg-amd64.img", "ubuntu", "22.04"),
    ("jammy-ubuntu-cloud.qcow2", "ubuntu", "jammy"),
    ("debian-12-genericcloud-amd64.qcow2", "debian", "12"),
    ("debian-12-generic-amd64-20240211-1654.qcow2", "debian", "12"),
    ("AlmaLinux-9-GenericCloud-9.3-20231118.x86_64.qcow2", "alma", "9.3"),
    ("Rocky-9-GenericCloud-Base-9.3-20231113.0.x86_64.qcow2", "rocky", "9.3"),
    ("freebsd-13.2-zfs-2023-04-21.qcow2", "freebsd", "13.2"),
    ("FreeBSD-14.1-RELEASE-amd64-BASIC-CLOUDINIT-zfs.qcow2.xz", "freebsd", "14.1"),
    ("openbsd-min_v7.7_2025-05-26.qcow2", "openbsd", "7.7"),
    ("nocloud_alpine-3.19.0-x86_64-bios-cloudinit-r0.qcow2", "alpine", "3.19.0"),
    ("alpine-3-21-3-base.qcow2", "alpine", "3-21-3"),
    ("alpine-3-19-1-desktop.qcow2", "desktop", "3-19-1"),
    ("tcl-14-1.qcow2", "tcl", "14-1"),
    ("vsim-netapp-DOT9.14.1-cm_nodar.ova", "netapp_ontap", "9.14.1"),
    # What people and browsers make of names.
    ("VIOS-ADVENTERPRISEK9-M.SPA.159-3.M6.QCOW2", "cisco_iosv", "159-3.M6"),
    ("vJunos-router-23.2R1.15 (1).qcow2", "juniper_vjunosrouter", "23.2R1.15"),
    ("C:\\Users\\me\\asav9-18-2.qcow2", "cisco_asav", "9-18-2"),
    ("/srv/images/asav9-18-2.qcow2.xz", "cisco_asav", "9-18-2"),
]  # fmt: skip

#: Archives of containers, and IOL binaries.
ARCHIVES: list[tuple[str, SourceKind, str, str]] = [
    ("cEOS-lab-4.32.0F.tar.xz", "rootfs", "ceos", "4.32.0F"),
    ("cEOS64-lab-4.28.3M.tar", "rootfs", "ceos", "4.28.3M"),
    ("cEOS64-lab-4.33.1F.1.tar.xz", "rootfs", "ceos", "4.33.1F.1"),
    ("junos-routing-crpd-docker-23.2R1.13.tgz", "docker-archive", "juniper_crpd", "23.2R1.13"),
    ("junos-routing-crpd-docker-amd64-24.2R1.14.tgz", "docker-archive", "juniper_crpd", "24.2R1.14"),
    ("junos-csrx-docker-20.3R1.8.img", "docker-archive", "juniper_csrx", "20.3R1.8"),
    ("cJunosEvolved-25.2R1.8-EVO.tar.gz", "docker-archive", "juniper_cjunos", "25.2R1.8"),
    ("xrd-control-plane-container-x64.dockerv1.tgz", "docker-archive", "cisco_xrd", ""),
    ("srlinux-24.10.1-492.tar.gz", "docker-archive", "nokia_srlinux", "24.10.1-492"),
    ("x86_64_crb_linux-adventerprisek9-ms.iol", "iol", "iol-xe", ""),
    ("x86_64_crb_linux_l2-adventerprisek9-ms.iol", "iol", "iol-l2", ""),
    ("x86_64_crb_linux-adventerprisek9-ms.17.12.1.bin", "iol", "iol-xe", "17.12.1"),
    ("i86bi_LinuxL3-AdvEnterpriseK9-M2_157_3_May_2018.bin", "iol", "iol-xe", "157_3_May_2018"),
    ("i86bi-linux-l3-adventerprisek9-15.5.2T.bin", "iol", "iol-xe", "15.5.2T"),
    ("i86bi_linux_l2-adventerprisek9-ms.SSA.high_iron_20190423.bin", "iol", "iol-l2", "high_iron_20190423"),
    ("i86bi-linux-l2-adventerprisek9-15.2d.bin", "iol", "iol-l2", "15.2d"),
    ("cisco_iol-17.12.01.bin", "iol", "iol-xe", "17.12.01"),
    ("cisco_iol-L2-17.12.01.bin", "iol", "iol-l2", "17.12.01"),
]

#: Names of containers' images, wrapped machines among them.
TAGS = [
    ("ceos:4.32.0F", "ceos", "4.32.0F"),
    ("ceosimage:4.28.0F", "ceos", "4.28.0F"),
    ("registry.example.net:5000/arista/ceos:4.31.2F", "ceos", "4.31.2F"),
    ("ghcr.io/nokia/srlinux:24.10.1", "nokia_srlinux", "24.10.1"),
    ("ghcr.io/nokia/srlinux:latest", "nokia_srlinux", ""),
    ("crpd:23.2R1.13", "juniper_crpd", "23.2R1.13"),
    ("ios-xr/xrd-control-plane:7.11.1", "cisco_xrd", "7.11.1"),
    ("quay.io/frrouting/frr:10.2.1", "frr", "10.2.1"),
    ("frrouting/frr:v8.4.0", "frr", "8.4.0"),
    ("wireloom/frr:latest", "frr", ""),
    ("haproxy:2.8", "haproxy", "2.8"),
    ("vyos/vyos:1.4-rolling", "vyos", "1.4-rolling"),
    ("networkop/cx:5.4.0", "cvx", "5.4.0"),
    ("alpine:3.19", "alpine", "3.19"),
    ("ghcr.io/hellt/network-multitool:latest", "linux", ""),
    ("vrnetlab/vr-vjunosrouter:23.2R1.15", "juniper_vjunosrouter", "23.2R1.15"),
    ("vrnetlab/juniper_vjunos-router:23.2R1.15", "juniper_vjunosrouter", "23.2R1.15"),
    ("vrnetlab/juniper_vjunos-switch:23.1R1.8", "juniper_vjunosswitch", "23.1R1.8"),
    ("vrnetlab/vr-vjunosevolved:23.1R1.8", "juniper_vjunosevolved", "23.1R1.8"),
    ("vrnetlab/vr-vsrx3:23.2R1.13", "juniper_vsrx3", "23.2R1.13"),
    ("cjunosevolved:25.2R1.8-EVO", "juniper_cjunos", "25.2R1.8-EVO"),
    ("vrnetlab/cisco_iol:17.12.01", "iol-xe", "17.12.01"),
    ("vrnetlab/cisco_iol:L2-17.12.01", "iol-l2", "17.12.01"),
]

#: Wrapped machines of which we have the machine alone: it is offered to take the disk out.
WRAPPED = [
    ("vrnetlab/cisco_n9kv:9.3.8", "cisco_n9kv", "9.3.8"),
    ("vrnetlab/vr-n9kv:9.3.8", "cisco_n9kv", "9.3.8"),
    ("vrnetlab/cisco_c8000v:17.11.01a", "c8000v", "17.11.01a"),
    ("vrnetlab/cisco_csr1000v:17.03.04", "cisco_csr1000v", "17.03.04"),
    ("vrnetlab/cisco_vios:159-3.M6", "cisco_iosv", "159-3.M6"),
    ("vrnetlab/cisco_vios:L2-20200929", "iosvl2", "20200929"),
    ("vrnetlab/vr-xrv9k:7.10.1", "cisco_iosxr", "7.10.1"),
    ("vrnetlab/nokia_sros:22.10.R3", "nokia_sros", "22.10.R3"),
    ("vrnetlab/vr-veos:4.30.1F", "veos", "4.30.1F"),
    ("vrnetlab/fortinet_fortigate:7.0.14", "fortinet_fortigate", "7.0.14"),
    ("vrnetlab/mikrotik_routeros:7.16.2", "mikrotik_ros", "7.16.2"),
    ("vrnetlab/nvidia_cumulusvx:5.9.2", "cumulus", "5.9.2"),
]

#: Names that tell something, and not enough.
UNSURE = [
    ("viptela-edge-20.9.1-genericx86-64.qcow2", {"cat-sdwan-vedge", "cat-sdwan-validator"}),
    ("vjunos.qcow2", {"juniper_vjunosrouter", "juniper_vjunosswitch"}),
    ("my-asav-golden.qcow2", {"cisco_asav"}),
    ("windows-server-2022.qcow2", {"windows"}),
    ("debian-12-nocloud-amd64.qcow2", {"debian"}),
    ("FreeBSD-14.0-RELEASE-amd64.qcow2", {"freebsd"}),
    ("media-vsrx-vmdisk-15.1X49-D70.3.qcow2", {"juniper_vsrx3"}),
]

NOBODY = ["disk.qcow2", "image.img", "backup.tar", "a.qcow2", ".qcow2", "Aboot-8.0.0.qcow2", "system", "1.qcow2"]


def best(facts: Facts) -> DeviceProposal:
    return identify(facts, DEVICES)[0]


def certain(facts: Facts) -> set[str]:
    """Devices that it is known to be, without those that only boot another one's images."""
    found = {item.device for item in identify(facts, DEVICES) if item.confidence >= CERTAIN}
    return {name for name in found if not CATALOGUE.get(name).recognise.images_of}


@pytest.mark.parametrize(("name", "device", "version"), DISKS, ids=[name for name, *_ in DISKS])
def test_a_disk_is_known_by_the_name_that_its_maker_gave_it(name: str, device: str, version: str) -> None:
    facts = Facts(file=name, kind="qcow2")
    assert (best(facts).device, best(facts).version) == (device, version)
    assert certain(facts) == {device}


@pytest.mark.parametrize(("name", "kind", "device", "version"), ARCHIVES, ids=[name for name, *_ in ARCHIVES])
def test_an_archive_is_known_by_the_name_that_its_maker_gave_it(
    name: str, kind: SourceKind, device: str, version: str
) -> None:
    facts = Facts(file=name, kind=kind)
    assert (best(facts).device, best(facts).version) == (device, version)
    assert certain(facts) == {device}


@pytest.mark.parametrize(("tag", "device", "version"), TAGS, ids=[tag for tag, *_ in TAGS])
def test_a_container_is_known_by_the_name_of_its_image(tag: str, device: str, version: str) -> None:
    facts = Facts(file="image.tar", kind="docker-archive", tags=(tag,))
    assert (best(facts).device, best(facts).version) == (device, version)
    assert certain(facts) == {device}


@pytest.mark.parametrize(("tag", "device", "version"), WRAPPED, ids=[tag for tag, *_ in WRAPPED])
def test_a_wrapped_machine_that_runs_as_a_machine_only_is_proposed_and_said_so(
    tag: str, device: str, version: str
) -> None:
    found = best(Facts(kind="docker-archive", tags=(tag,)))
    assert (found.device, found.version) == (device, version)
    assert found.confidence < CERTAIN
    assert any("the disk in the image may" in reason for reason in found.reasons)


@pytest.mark.parametrize(("name", "devices"), UNSURE, ids=[name for name, _ in UNSURE])
def test_a_name_that_may_mean_several_is_certain_for_none(name: str, devices: set[str]) -> None:
    found = identify(Facts(file=name), DEVICES)
    assert devices <= {item.device for item in found}
    assert all(item.confidence < CERTAIN for item in found)
    assert all(item.reasons for item in found)


@pytest.mark.parametrize("name", NOBODY)
def test_a_name_that_says_nothing_is_no_proposal(name: str) -> None:
    assert identify(Facts(file=name), DEVICES) == ()


def test_devices_that_share_images_come_together() -> None:
    found = identify(Facts(file="vios-adventerprisek9-m.spa.159-3.m6.qcow2"), DEVICES)
    assert [item.device for item in found[:2]] == ["cisco_iosv", "cisco_vios"]
    assert found[0].confidence > found[1].confidence >= CERTAIN
    assert found[1].version == "159-3.m6"


def test_every_chassis_boots_the_image_of_its_family() -> None:
    found = {item.device for item in identify(Facts(file="sros-vm-22.10.R3.qcow2"), DEVICES)}
    assert found >= {device.name for device in DEVICES if device.name.startswith("nokia_sros")}


def test_evidence_of_several_kinds_adds_up() -> None:
    name = identify(Facts(file="cEOS-lab-4.32.0F.tar", kind="rootfs"), DEVICES)[0]
    both = identify(Facts(file="cEOS-lab-4.32.0F.tar", kind="rootfs", paths=("usr/bin/FastCli",)), DEVICES)[0]
    assert both.confidence > name.confidence
    assert len(both.reasons) == 2


def test_content_tells_what_a_name_does_not() -> None:
    found = best(Facts(file="import.tar", kind="rootfs", paths=("etc/passwd", "usr/bin/FastCli")))
    assert (found.device, found.confidence >= CERTAIN) == ("ceos", True)


def test_a_name_and_a_content_of_two_minds_are_certain_of_nothing() -> None:
    facts = Facts(file="srlinux-24.10.1-492.tar", kind="rootfs", paths=("usr/bin/FastCli",))
    found = identify(facts, DEVICES)
    assert {item.device for item in found} >= {"ceos", "nokia_srlinux"}
    assert all(item.confidence < CERTAIN for item in found)


def test_more_evidence_outweighs_less() -> None:
    facts = Facts(
        file="srlinux-24.10.1-492.tar", kind="docker-archive", tags=("nokia/srlinux:24.10.1",),
        paths=("opt/srlinux/bin/sr_linux", "usr/bin/FastCli"),
    )  # fmt: skip
    assert certain(facts) == {"nokia_srlinux"}


def test_an_iol_binary_says_what_it_is_itself() -> None:
    text = "Cisco IOS Software, Linux Software (I86BI_LINUXL2-ADVENTERPRISEK9-M), Experimental Version 15.2(20170321)"
    found = best(Facts(file="switch.bin", kind="iol", text=(text,)))
    assert (found.device, found.version) == ("iol-l2", "15.2(20170321)")


# ------------------------------------------------------------------ rules of users


def own(name: str, **rules: object) -> Device:
    providers = {"libvirt": ProviderSupport(image="")}
    return Device(name=name, providers=providers, recognise=Recognition.model_validate({**rules, "own": True}))


def test_a_rule_of_the_user_outweighs_those_that_are_built_in() -> None:
    mine = own("mine", files=["vios-.*"])
    found = identify(Facts(file="vios-adventerprisek9-m.spa.159-3.m6.qcow2"), (*DEVICES, mine))
    assert [item.device for item in found if item.confidence >= CERTAIN] == ["mine"]
    assert "cisco_iosv" in {item.device for item in found}


def test_rules_of_labels_and_partitions_are_those_of_users() -> None:
    labelled = own("box", labels={"vendor.version": r"v(?P<version>.+)"}, volumes=["BOX-FLASH"])
    facts = Facts(file="x.qcow2", labels={"vendor.version": "v3.1"}, volumes=("BOX-FLASH",))
    found = identify(facts, (labelled,))
    assert (found[0].device, found[0].version, len(found[0].reasons)) == ("box", "3.1", 2)


def test_rules_in_a_users_file_are_his_own(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(
        "name: big\nextends: veos\nrecognise: {files: ['bigeos-(?P<version>.+)'], images-of: veos}\n", encoding="utf-8"
    )
    (tmp_path / "plain.yaml").write_text("name: plain\nextends: veos\n", encoding="utf-8")
    (tmp_path / "overrides").mkdir()
    (tmp_path / "overrides" / "ceos.yaml").write_text("recognise: {hints: [myeos]}\n", encoding="utf-8")
    catalogue = DeviceCatalogue.load([tmp_path])
    assert catalogue.get("big").recognise.own
    assert catalogue.get("plain").recognise == Recognition()
    assert catalogue.get("ceos").recognise.own
    assert catalogue.get("ceos").recognise.files == CATALOGUE.get("ceos").recognise.files
    assert not catalogue.get("veos").recognise.own
    assert next(item.device for item in identify(Facts(file="bigeos-1.2.qcow2"), catalogue)) == "big"


# ------------------------------------------------------------------ what comes from outside


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("a.qcow2", "a"), ("a.tar.gz", "a"), ("a.qcow2.xz", "a"), ("a (2).qcow2", "a"), ("a.tgz", "a"),
        ("x/y/a.img", "a"), ("a-1.2.3", "a-1.2.3"), (".qcow2", ".qcow2"), ("", ""), ("a - Copy.vmdk", "a"),
    ],
)  # fmt: skip
def test_endings_that_say_how_a_file_is_packed_are_not_of_its_name(written: str, plain: str) -> None:
    assert plain_name(written) == plain


@given(st.text(max_size=300), st.lists(st.text(max_size=80), max_size=4))
def test_no_name_breaks_it(name: str, more: list[str]) -> None:
    facts = Facts(
        file=name, kind="docker-archive", tags=tuple(more), text=tuple(more), paths=tuple(more), volumes=tuple(more)
    )
    for proposal in identify(facts, DEVICES):
        assert 0 < proposal.confidence < 1
        assert CATALOGUE.find(proposal.device) is not None
        assert all(reason.isprintable() for reason in proposal.reasons)


@pytest.mark.parametrize("unit", ["1.", "a-", "vios-", "-", "(", "9.9R", "cmw710-", "x86-1.1-1 "])
def test_long_names_take_no_long_time(unit: str) -> None:
    facts = Facts(file=unit * 50_000, tags=(unit * 50_000,), text=("linux software " + unit * 50_000,))
    started = time.process_time()
    identify(facts, DEVICES)
    assert time.process_time() - started < 2


def test_the_best_proposal_comes_first_and_every_device_once() -> None:
    found = identify(Facts(file="viptela-edge-20.9.1-genericx86-64.qcow2"), DEVICES)
    assert [item.confidence for item in found] == sorted((item.confidence for item in found), reverse=True)
    assert len({item.device for item in found}) == len(found)
