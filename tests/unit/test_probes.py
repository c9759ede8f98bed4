"""What doctor makes of a machine, and the parsing of what the machine says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wireloom.agent.facts import TOOLS, parse_routes, parse_trial
from wireloom.agent.probes import Finding, KernelTrial, Level, Readings, Route, can_run_privileged, judge

GIB = 1024**3
ALL = (1 << 41) - 1
GOOD = Readings(
    root=True,
    sockets={"docker": True, "libvirtd": True, "virtlogd": True},
    tools={name: f"/usr/bin/{name}" for name in TOOLS},
    static_busybox="/bin/busybox",
    landlock=3,
    kvm=True,
    kvm_reason="the CPU has a virtualisation extension",
    kernel={
        name: KernelTrial(works=True)
        for name in ("veth", "tap", "bridge", "tc ingress", "tc redirect", "nat", "vxlan", "netem", "8021q")
    },
    capabilities=ALL,
    capabilities_all=ALL,
    ip_forward=True,
    data_dir="/var/lib/wireloom",
    disk_free=50 * GIB,
    memory_total=8 * GIB,
    port="127.0.0.1:7430",
    subnet="172.30.128.0/20",
    routes=(Route("0.0.0.0/0", "eth0"), Route("172.17.0.0/16", "docker0")),
)


def finding(readings: Readings, name: str) -> Finding:
    return next(item for item in judge(readings) if item.name == name)


def test_a_good_machine_has_nothing_to_say() -> None:
    assert {item.level for item in judge(GOOD)} == {Level.OK}


@pytest.mark.parametrize(
    ("changes", "name", "level"),
    [
        ({"root": False}, "root", Level.FAIL),
        ({"sockets": {}}, "docker", Level.FAIL),
        ({"sockets": {}}, "virtlogd", Level.FAIL),
        ({"tools": {}}, "qemu-img", Level.FAIL),
        ({"tools": {}}, "nats-server", Level.WARN),
        ({"tools": {}}, "tshark", Level.WARN),
        ({"tools": {}}, "zstd", Level.WARN),
        ({"static_busybox": None}, "static busybox", Level.FAIL),
        ({"kvm": False}, "kvm", Level.WARN),
        ({"kernel": {}, "kernel_problem": "no unshare"}, "kernel", Level.WARN),
        ({"capabilities": ALL & ~(1 << 24)}, "privileged", Level.WARN),
        ({"landlock": 0}, "landlock", Level.WARN),
        ({"ip_forward": False}, "ip forwarding", Level.WARN),
        ({"ip_forward": None}, "ip forwarding", Level.WARN),
        ({"port_owner": "other"}, "api port", Level.FAIL),
        ({"port_owner": "wireloom"}, "api port", Level.OK),
        ({"disk_free": 5 * GIB}, "disk", Level.WARN),
        ({"disk_free": GIB // 2}, "disk", Level.FAIL),
        ({"memory_total": GIB}, "memory", Level.WARN),
    ],
)
def test_what_is_wrong_is_found_with_meaning_and_advice(changes: dict[str, object], name: str, level: Level) -> None:
    found = finding(replace(GOOD, **changes), name)  # type: ignore[arg-type]
    assert found.level is level
    assert level is Level.OK or (found.meaning and found.advice)


@pytest.mark.parametrize(
    ("ability", "level"),
    [("veth", Level.FAIL), ("tc redirect", Level.FAIL), ("netem", Level.WARN), ("8021q", Level.WARN)],
)
def test_a_missing_ability_matters_as_much_as_links_need_it(ability: str, level: Level) -> None:
    found = finding(replace(GOOD, kernel={**GOOD.kernel, ability: KernelTrial(works=False, answer="unknown")}), ability)
    assert (found.level, found.finding) == (level, "unknown")


def test_the_missing_capability_is_named() -> None:
    assert "SYS_RESOURCE" in finding(replace(GOOD, capabilities=ALL & ~(1 << 24)), "privileged").finding


@pytest.mark.parametrize(
    ("route", "level"),
    [
        (Route("172.30.0.0/16", "eth0"), Level.FAIL),
        (Route("172.30.130.0/24", "tun0"), Level.FAIL),
        (Route("172.30.128.0/20", "wlb0123456789"), Level.OK),
        (Route("172.31.0.0/16", "eth0"), Level.OK),
    ],
)
def test_the_management_subnet_must_not_hide_the_hosts_networks(route: Route, level: Level) -> None:
    assert finding(replace(GOOD, routes=(route,)), "management subnet").level is level


@pytest.mark.parametrize(("held", "known", "can"), [(7, 7, True), (15, 7, True), (3, 7, False), (0, 0, False)])
def test_privileged_needs_every_capability_that_is_known(held: int, known: int, can: bool) -> None:
    assert can_run_privileged(held, known) is can


def test_routes_are_read_from_the_kernels_table() -> None:
    table = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    assert parse_routes(table) == (Route("0.0.0.0/0", "eth0"), Route("172.17.0.0/16", "docker0"))


def test_outcomes_of_trials_are_read_with_the_kernels_answer() -> None:
    assert parse_trial("veth\tok\nnetem\tno\tError: unknown kind.\n") == {
        "veth": KernelTrial(works=True),
        "netem": KernelTrial(works=False, answer="Error: unknown kind."),
    }
