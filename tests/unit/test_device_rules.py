"""What holds for every built-in device, whatever it is: settings, templates, chains, prompts, and what it shows."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from ruamel.yaml import YAML

from wireloom.configs import clean
from wireloom.day0 import build_medium, render_day0, render_smbios
from wireloom.day0.templates import render
from wireloom.devices import DeviceCatalogue
from wireloom.model.device import Day0, Device, ProviderSupport, Step
from wireloom.providers.docker.settings import DockerSettings
from wireloom.providers.libvirt.settings import parse_settings

CATALOGUE = DeviceCatalogue.load()
DEVICES = tuple(CATALOGUE)
NAMES = [device.name for device in DEVICES]


def _supports() -> Iterator[tuple[Device, str, ProviderSupport]]:
    for device in DEVICES:
        for provider in device.providers:
            if provider != "simulated":
                yield device, provider, device.on(provider)


SUPPORTS = tuple(_supports())
EACH = pytest.mark.parametrize(
    ("device", "provider", "support"), SUPPORTS, ids=[f"{device.name}-{provider}" for device, provider, _ in SUPPORTS]
)

PORTS = [{"name": "eth1", "guest_name": "eth1", "index": 1, "mac": "02:00:00:00:00:01"}]
MANAGED = {
    "mgmt_ipv4": "172.30.128.2", "mgmt_prefix": "20", "mgmt_netmask": "255.255.240.0", "gateway": "172.30.128.1",
    "dns": "172.30.128.1", "domain": "lab.wl", "mgmt_mac": "02:00:00:00:00:00",
}  # fmt: skip


def _values(device: Device, *, managed: bool = True) -> dict[str, Any]:
    access = device.access
    return {
        "hostname": "r1", "node": "r1", "node_id": "0123456789ab", "lab": "lab", "username": access.username,
        "password": access.password, "enable_password": access.enable_password,
        "authorized_keys": "ssh-ed25519 AAAA wireloom\n", "ports": PORTS if managed else [],
        **(MANAGED if managed else dict.fromkeys(MANAGED, "")),
    }  # fmt: skip


@EACH
def test_settings_are_ones_that_the_provider_knows(device: Device, provider: str, support: ProviderSupport) -> None:
    check = parse_settings if provider == "libvirt" else DockerSettings.parse
    check(support.settings)
    for profile in support.images:
        check({**support.settings, **profile.settings})
    for member in device.members:
        check(member.settings)


@EACH
@pytest.mark.parametrize("managed", [True, False], ids=["managed", "alone"])
def test_every_template_can_be_filled_in(
    device: Device, provider: str, support: ProviderSupport, *, managed: bool
) -> None:
    del provider
    values = _values(device, managed=managed)
    config = render(device.default_config, values) if device.default_config else None
    for text in support.env.values():
        render(text, values | {"number": 1})
    for method in support.day0 or ():
        _deliver(method, values, config, device)


def _deliver(method: Day0, values: dict[str, Any], config: str | None, device: Device) -> None:
    if method.method == "smbios":
        assert render_smbios(method, values, config=config, device=device.name)
    elif method.method != "serial":
        files = render_day0(method, values, config=config, device=device.name)
        if method.method not in {"file", "bind"}:
            assert build_medium(method, files).size
        else:
            assert all(path.startswith("/") for path in files)


def _written(device: Device, *, managed: bool) -> str:
    """What the device's default configuration becomes at its place on its first medium."""
    values = _values(device, managed=managed)
    config = render(device.default_config, values) if device.default_config else None
    method = device.day0[0]
    return render_day0(method, values, config=config, device=device.name)[method.path].decode()


BOTH = pytest.mark.parametrize("managed", [True, False], ids=["managed", "alone"])


@BOTH
@pytest.mark.parametrize(
    "name", ["cloud", "freebsd", "cmglinux", "checkpoint", "f5_bigip", "vyos", "cat-sdwan-manager"]
)
def test_user_data_is_a_document_that_cloud_init_can_read(name: str, *, managed: bool) -> None:
    text = _written(CATALOGUE.get(name), managed=managed)
    assert text.startswith("#cloud-config\n")
    assert isinstance(YAML(typ="safe").load(text), dict)


@BOTH
@pytest.mark.parametrize(
    "name", ["cat-sdwan-controller", "cat-sdwan-validator", "cat-sdwan-vedge", "cat-sdwan-manager"]
)
def test_the_configuration_of_a_controller_is_a_document_in_a_file(name: str, *, managed: bool) -> None:
    files = YAML(typ="safe").load(_written(CATALOGUE.get(name), managed=managed))["write_files"]
    content = next(file["content"] for file in files if file["path"] == "/etc/confd/init/zcloud.xml")
    root = ElementTree.fromstring(content)  # noqa: S314 - our own text
    found = root.findtext("{http://viptela.com/system}system/{http://viptela.com/system}host-name")
    assert found == "r1"


@BOTH
@pytest.mark.parametrize("name", ["ftdv", "fmcv"])
def test_the_first_settings_of_a_firewall_are_json_after_a_line(name: str, *, managed: bool) -> None:
    head, _, body = _written(CATALOGUE.get(name), managed=managed).partition("\n")
    assert head.startswith("#")
    assert json.loads(body)["EULA"] == "accept"
    assert json.loads(body).get("IPv4Addr", "") == (MANAGED["mgmt_ipv4"] if managed else "")


def test_a_preamble_comes_before_the_configuration_and_writes_a_program() -> None:
    text = _written(CATALOGUE.get("cisco_n9kv"), managed=True)
    assert text.index("wl_boot.py") < text.index("interface mgmt0")
    program = "\n".join(re.findall(r"^echo '(.*)' >>? bootflash:wl_boot\.py$", text, re.MULTILINE))
    compile(program, "wl_boot.py", "exec")
    assert program.count("cli(") == 3


@pytest.mark.parametrize("name", ["juniper_vjunosrouter", "juniper_vjunosswitch", "juniper_vjunosevolved"])
def test_a_switch_in_a_machine_gets_an_archive_with_balanced_braces(name: str) -> None:
    device = CATALOGUE.get(name)
    values = _values(device)
    packed = render_day0(device.day0[0], values, config=render(device.default_config, values))["vmm-config.tgz"]
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        member = archive.extractfile("config/juniper.conf")
        assert member is not None
        text = member.read().decode()
    assert text.count("{") == text.count("}")
    assert MANAGED["mgmt_ipv4"] in text


@EACH
def test_what_can_be_read_out_can_be_put_in(device: Device, provider: str, support: ProviderSupport) -> None:
    del device, provider
    if support.extract is not None and support.extract.steps:
        assert support.day0 or support.load


def _steps(support: ProviderSupport) -> Iterator[Step]:
    yield from support.run or ()
    yield from support.load or ()
    yield from support.extract.steps if support.extract else ()


@EACH
def test_what_is_typed_is_typed_at_a_prompt_that_there_is(
    device: Device, provider: str, support: ProviderSupport
) -> None:
    del provider
    for step in _steps(support):
        if step.channel == "serial" or step.prompt:
            assert device.cli is not None, step
        if step.prompt:
            assert device.cli is not None
            assert device.cli.prompt(step.prompt) is not None, step


@EACH
def test_every_device_has_a_console_and_a_way_to_be_ready(
    device: Device, provider: str, support: ProviderSupport
) -> None:
    del device
    kinds = {"exec", "serial"} if provider == "docker" else {"serial"}
    assert any(console.kind in kinds for console in support.console or ())
    assert support.ready is not None
    wanted = {probe.kind for probe in support.ready.probes}
    assert wanted - ({"exec", "health"} if provider == "libvirt" else set())


def test_no_two_devices_share_an_image() -> None:
    images = [support.image for _, _, support in SUPPORTS if support.image]
    assert len(images) == len(set(images))


def test_only_containers_name_images_of_containers() -> None:
    named = {device.name: support.image for device, provider, support in SUPPORTS if provider == "libvirt"}
    assert {name for name, image in named.items() if image} == {"frr", "linux"}


def test_the_start_command_of_an_image_is_replaced_only_where_that_is_known_to_be_right() -> None:
    replaced = {
        device.name
        for device, provider, support in SUPPORTS
        if provider == "docker" and {"entrypoint", "command"} & support.settings.keys()
    }
    wrappers = {"juniper_vsrx3", "juniper_vjunosrouter", "juniper_vjunosswitch", "juniper_vjunosevolved"}
    assert replaced == wrappers | {"ceos", "alpine"}


def test_plain_linux_has_nothing_of_the_routers_that_run_on_it() -> None:
    linux = CATALOGUE.get("linux")
    assert "vtysh" not in linux.model_dump_json()
    assert CATALOGUE.get("haproxy").console != CATALOGUE.get("frr").console


def test_no_image_of_a_switch_is_named_in_its_preamble() -> None:
    template = CATALOGUE.get("cisco_n9kv").day0[0].template
    assert "boot nxos" in template
    assert ".bin" not in template


def test_machines_of_several_parts_are_described() -> None:
    assert [member.ports for member in CATALOGUE.get("juniper_vmx").members] == [True]
    assert [member.ports for member in CATALOGUE.get("juniper_vqfx").members] == [False]


@pytest.mark.parametrize("name", NAMES)
def test_every_device_says_where_its_facts_come_from(name: str) -> None:
    device = CATALOGUE.get(name)
    assert device.sources or device.name == "generic"


#: Device → what it shows, noise of the display included.
CONFIGURATIONS = {
    "cisco_iosv": """
Building configuration...

Current configuration : 80 bytes
!
! Last configuration change at 1
!
version 15.9
hostname r1
!
end
""",
    "cisco_iosxr": """
Mon Nov 1
Building configuration...
!! IOS XR Configuration 7.10.1
!! Last configuration change at 1
!
hostname r1
end
""",
    "cisco_n9kv": """
!Command: show running-config
!Time: Mon

version 10.3(1) Bios:version
hostname n1
""",
    "cisco_asav": """
: Saved

:
: Serial Number: X
:
ASA Version 9.18(2)
!
hostname fw
Cryptochecksum:0
: end
""",
    "juniper_vjunosrouter": """
## Last commit: 2024
version 23.2R1.15;
system {
    host-name r1;
}
""",
    "ceos": """
! Command: show running-config
! device: s1 (cEOSLab, EOS-4.30.1F)
!
hostname s1
!
end
""",
    "nokia_srlinux": """
set / system name host-name s1
set / interface ethernet-1/1 admin-state enable
""",
    "frr": """
Building configuration...

Current configuration:
!
frr version 10.2
frr defaults traditional
hostname r1
!
end
""",
    "sonic-vs": """
Building configuration...

Current configuration:
!
frr version 8.2
hostname sonic
!
end
""",
    "vyos": """
set system host-name 'v1'
set service ssh port '22'
""",
    "paloalto_vmseries": """
<response status="success"><result total-count="1">
  <config version="10.0.0">
    <mgt-config/>
  </config>
</result></response>
""",
    "fortinet_fortigate": """
#config-version=FGVMK6-7.0.14
#buildno=0601
config system global
    set hostname "f"
end
""",
    "huawei_ne40e": """
!Software Version V800R011
!Last configuration was updated at 1
#
sysname h1
#
return
""",
    "nokia_sros": """
# TiMOS-B-22.10.R3
/configure system name "r1"
/configure port 1/1/1 admin-state enable
""",
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_a_device_shows_is_a_configuration_that_does_not_change_by_itself(name: str) -> None:
    device = CATALOGUE.get(name)
    kept = clean(device.extract, CONFIGURATIONS[name])
    assert re.search("Last c|bytes$|^!Time|buildno|checksum", kept, re.MULTILINE) is None
    if "^end$" not in device.extract.drop:
        assert kept == clean(device.extract, kept)
