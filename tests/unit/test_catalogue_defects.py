"""Defects that catalogues of other platforms had, each excluded for every device that is built in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest

from wireloom.devices import DeviceCatalogue
from wireloom.model.device import Device, ProviderSupport, Step
from wireloom.providers.docker.render import ImageConfig, guest_command
from wireloom.providers.docker.settings import DockerSettings
from wireloom.providers.libvirt.settings import parse_settings

CATALOGUE = DeviceCatalogue.load()

#: Guests that have no command line at all: there is nothing that a command could be run in.
WITHOUT_COMMANDS = frozenset({"talos", "windows"})


def real(device: Device) -> Iterator[tuple[str, ProviderSupport]]:
    """The device on each provider that boots its own image, with everything resolved."""
    for name in device.providers:
        if not CATALOGUE.rules[name].every_device:
            yield name, device.on(name)


EVERYWHERE = [pytest.param(device, id=device.name) for device in CATALOGUE]
ON_PROVIDERS = [
    pytest.param(device, name, support, id=f"{device.name}-{name}")
    for device in CATALOGUE
    for name, support in real(device)
]


def steps(support: ProviderSupport) -> Iterator[Step]:
    yield from support.run or ()
    yield from support.load or ()
    yield from support.extract.steps if support.extract else ()


# Several devices of one technology shared a key, and a look-up gave the last of them.


def test_no_two_devices_share_a_name_or_an_alias() -> None:
    words = [word.casefold() for device in CATALOGUE for word in (device.name, *device.aliases)]
    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize("device", EVERYWHERE)
def test_every_word_of_a_device_means_that_device(device: Device) -> None:
    assert {CATALOGUE.get(word.upper()).name for word in (device.name, *device.aliases)} == {device.name}


def test_a_plain_linux_node_is_no_router() -> None:
    shells = {name: CATALOGUE.get(name).on("docker").console for name in ("linux", "frr", "haproxy")}
    assert len(set(shells.values())) == 3 or "vtysh" not in str(shells["linux"])
    assert "vtysh" in str(shells["frr"])


# Containers without a command of their own were made to sleep, in the place of what the image starts.


@pytest.mark.parametrize("name", ["frr", "nokia_srlinux", "vyos", "juniper_crpd", "cisco_xrd", "haproxy", "cvx"])
def test_an_image_starts_what_it_was_built_to_start(name: str) -> None:
    support = CATALOGUE.get(name).on("docker")
    image = ImageConfig(digest="d", entrypoint=("/init",), command=("all",), env=())
    assert guest_command(DockerSettings.parse(support.settings), image) == ["/init", "all"]


# Every NIC was called ethN in the guest.


@pytest.mark.parametrize(
    ("name", "guest", "display"),
    [
        ("nokia_srlinux", ("mgmt0", "e1-1", "e1-2"), ("mgmt0", "ethernet-1/1", "ethernet-1/2")),
        ("cvx", ("eth0", "swp1", "swp2"), ("eth0", "swp1", "swp2")),
        ("cumulus", ("eth0", "swp1", "swp2"), ("eth0", "swp1", "swp2")),
        ("ceos", ("eth0", "eth1", "eth2"), ("Management0", "Ethernet1", "Ethernet2")),
    ],
)
def test_nics_have_the_names_that_the_guest_looks_for(
    name: str, guest: tuple[str, ...], display: tuple[str, ...]
) -> None:
    ports = CATALOGUE.get(name).ports
    assert tuple(ports.kernel(index) for index in range(3)) == guest
    assert tuple(ports.display(index) for index in range(3)) == display


# Slots were counted as if there were one, and SONiC's ports as if they had one lane.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iol-xe", ["Ethernet0/0", "Ethernet0/3", "Ethernet1/0", "Ethernet1/3"]),
        ("iol-l2", ["Ethernet0/0", "Ethernet0/3", "Ethernet1/0", "Ethernet1/3"]),
        ("iosvl2", ["GigabitEthernet0/0", "GigabitEthernet0/3", "GigabitEthernet1/0", "GigabitEthernet1/3"]),
        ("sonic-vs", ["Ethernet0", "Ethernet12", "Ethernet16", "Ethernet28"]),
    ],
)
def test_ports_are_counted_as_the_vendor_counts(name: str, expected: list[str]) -> None:
    ports = CATALOGUE.get(name).ports
    assert [ports.display(index) for index in (1, 4, 5, 8)] == expected
    assert [ports.index_of(word) for word in expected] == [1, 4, 5, 8]


@pytest.mark.parametrize("device", EVERYWHERE)
def test_port_names_lead_back_to_their_ports(device: Device) -> None:
    ports = device.ports
    first = 0 if ports.management is not None else 1
    assert all(ports.index_of(ports.display(index)) == index for index in range(first, ports.limit + 1))
    if ports.management is not None:
        assert ports.index_of(ports.management) == 0


# vJunos Evolved was the router under another name.


def test_vjunos_evolved_has_an_image_and_names_of_its_own() -> None:
    evolved, router = CATALOGUE.get("juniper_vjunosevolved"), CATALOGUE.get("juniper_vjunosrouter")
    assert evolved.ports.display(1) == "et-0/0/0"
    assert router.ports.display(1) == "ge-0/0/0"
    images = [{support.image for _, support in real(device) if support.image} for device in (evolved, router)]
    assert not images[0] & images[1]


# Devices that only a machine runs named a container as their image.


@pytest.mark.parametrize(("device", "name", "support"), ON_PROVIDERS)
def test_a_default_image_is_one_that_its_provider_can_run(device: Device, name: str, support: ProviderSupport) -> None:
    del device
    pattern = CATALOGUE.rules[name].image_pattern
    assert not support.image or re.fullmatch(pattern, support.image)


@pytest.mark.parametrize(("device", "name", "support"), ON_PROVIDERS)
def test_settings_are_ones_that_the_provider_knows(device: Device, name: str, support: ProviderSupport) -> None:
    del device
    check = {"docker": DockerSettings.parse, "libvirt": parse_settings}[name]
    check(support.settings)
    for profile in support.images:
        check({key: value for key, value in profile.settings.items() if value is not None})


# The login that was shown and the one that extraction used were two.


@pytest.mark.parametrize(("device", "name", "support"), ON_PROVIDERS)
def test_a_device_has_one_login(device: Device, name: str, support: ProviderSupport) -> None:
    del name
    command = [str(word) for word in support.settings.get("command") or ()]
    given = {word: command[at + 1] for at, word in enumerate(command[:-1]) if word in {"--username", "--password"}}
    assert set(given.items()) <= {("--username", device.access.username), ("--password", device.access.password)}


@pytest.mark.parametrize("name", sorted(CATALOGUE.clis))
def test_a_command_line_logs_in_with_the_login_of_the_device(name: str) -> None:
    secrets = [reaction for reaction in CATALOGUE.clis[name].reactions if reaction.secret and reaction.send]
    assert [reaction.name for reaction in secrets if "{{" not in str(reaction.send)] == []


# What could be read out could not be put in again, so a new machine lost it.


@pytest.mark.parametrize(("device", "name", "support"), ON_PROVIDERS)
def test_what_can_be_read_out_can_be_put_in(device: Device, name: str, support: ProviderSupport) -> None:
    del device, name
    extracts = support.extract is not None and bool(support.extract.steps)
    assert not extracts or support.day0 or support.load


# Readiness was a text that comes only while there is no configuration.


@pytest.mark.parametrize("console", ["Press RETURN to get started!\n", "\nsw1>", "\nsw1#"])
def test_a_switch_is_ready_with_and_without_a_configuration(console: str) -> None:
    ready = CATALOGUE.get("iosvl2").on("libvirt").ready
    assert ready is not None
    texts = [probe.pattern for probe in ready.probes if probe.kind in {"log", "serial"} and probe.pattern]
    by_prompt = any(probe.kind == "serial" and not probe.pattern for probe in ready.probes)
    cli = CATALOGUE.get("iosvl2").cli
    assert cli is not None
    prompts = [rf"(?m)^{prompt.pattern}\s*$" for prompt in cli.prompts] if by_prompt else []
    assert any(re.search(pattern, console) for pattern in (*texts, *prompts))


@pytest.mark.parametrize(("device", "name", "support"), ON_PROVIDERS)
def test_every_device_says_when_it_is_ready(device: Device, name: str, support: ProviderSupport) -> None:
    del device, name
    assert support.ready is not None
    assert support.ready.probes


# Most machines could not be given a command.


@pytest.mark.parametrize(("device", "name", "support"), ON_PROVIDERS)
def test_commands_reach_every_guest_that_has_a_command_line(
    device: Device, name: str, support: ProviderSupport
) -> None:
    served = {"docker": {"exec", "ssh", "serial"}, "libvirt": {"ssh", "serial"}}[name]
    reaching = [step.channel for step in support.run or () if step.channel in served]
    known_guest = device.name not in WITHOUT_COMMANDS and device.name != "generic"
    assert reaching or not known_guest


@pytest.mark.parametrize(("device", "name", "support"), ON_PROVIDERS)
def test_what_is_typed_on_a_console_has_a_command_line_to_type_at(
    device: Device, name: str, support: ProviderSupport
) -> None:
    del name
    typed = [step for step in steps(support) if step.channel == "serial" or step.prompt]
    assert not typed or device.cli is not None


# A recovery named one image file, and would have booted that on every other image too.


def typed(device: Device) -> Iterator[str]:
    """Everything of ours that a guest gets to read: what is typed, loaded, and put on media."""
    yield device.default_config
    cli = device.cli
    if cli is not None:
        yield from (*cli.prepare, *cli.leave, *(move.line for move in cli.moves))
        yield from (reaction.send or "" for reaction in cli.reactions)
        yield from (recovery.send for recovery in cli.recoveries)
    for _, support in real(device):
        yield from (part for step in steps(support) for part in (step.run, *step.finish))
        yield from (part for way in support.day0 or () for part in (way.template, *way.extra.values()))
        yield from support.post_boot or ()


@pytest.mark.parametrize("device", EVERYWHERE)
def test_nothing_names_the_file_of_one_version(device: Device) -> None:
    file = re.compile(r"\b[\w-]+\.\d+(\.\d+)+[\w.()-]*\.(bin|SSA|qcow2|img|swi)\b")
    assert [text for text in typed(device) if file.search(text)] == []


# A device was refused its minimum only by name, and others failed much later.


@pytest.mark.parametrize("name", ["cat9000v-q200", "cat9000v-uadp"])
def test_devices_that_do_not_start_with_less_have_a_minimum(name: str) -> None:
    hardware = CATALOGUE.get(name).hardware_on("libvirt")
    assert hardware.memory_mb.minimum >= 12288
    assert hardware.cpu.minimum >= 4
    assert hardware.min_ports >= 8


# A command line that no device uses, or a device that nobody has documented, is a mistake of the catalogue.


def test_every_command_line_is_of_some_device_or_is_built_upon() -> None:
    used = {device.cli.name for device in CATALOGUE if device.cli is not None}
    extended = set()
    for source in files("wireloom.devices").joinpath("cli").iterdir():
        extended |= set(re.findall(r"(?m)^extends: *(\S+)", source.read_text()))
    assert set(CATALOGUE.clis) - used - extended == set()


@pytest.mark.parametrize("device", EVERYWHERE)
def test_every_device_says_who_makes_it_and_where_its_facts_come_from(device: Device) -> None:
    ours = device.name in {"frr", "linux", "generic"}
    assert device.title
    assert ours or (device.vendor and device.sources)


ROWS = """
vyos cisco_iosxr cisco_xrd cisco_iosv iosvl2 iol-xe iol-l2 cisco_csr1000v juniper_crpd juniper_vsrx3
juniper_vjunosrouter juniper_vjunosevolved juniper_cjunos ceos nokia_srlinux cvx sonic-vs juniper_vjunosswitch
cisco_n9kv f5_bigip haproxy citrix_adc cisco_asav fortinet_fortigate paloalto_vmseries linux alpine tcl frr windows
c8000v cat-sdwan-controller cat-sdwan-manager cat-sdwan-validator cat-sdwan-vedge ftdv fmcv cat9800 cat9000v-q200
cat9000v-uadp
"""
ALIASES = """
iosxrv9000 iosxr xrv9k iosv iosv-l2 iol iol-xe-serial-4eth ioll2-xe csr csr1000v nxos nxosv9000 n9kv cat8000v
cat-sdwan-edge eos arista_eos arista_ceos vjunos vjunos-switch vjunos-router vjunos-evolved cjunos cjunos-evolved
cjunosevolved cat9kv cisco_cat9kv cisco_c8000v cisco_ftdv cisco_cat9800 cisco_cat9000v_q200 cisco_cat9000v_uadp
vmx vqfx veos sros
"""


@pytest.mark.parametrize("name", ROWS.split())
def test_every_device_that_users_come_with_is_there(name: str) -> None:
    assert CATALOGUE.get(name).name == name


@pytest.mark.parametrize("word", ALIASES.split())
def test_words_that_users_come_with_are_understood(word: str) -> None:
    assert CATALOGUE.find(word) is not None
