"""What a host tells of itself, and how it reaches the controllers' files."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from wireloom.agent.library import ControllerWay
from wireloom.agent.machine import Machine, parse_nics
from wireloom.controller.hosts.usage import LabOnHosts, use_by_host
from wireloom.fabric.documents import HostFacts
from wireloom.fabric.image_documents import BlobSource, HostLibrary
from wireloom.model.slice import NodeIntent, Slice
from wireloom.model.state import NodeState, NodeStatus, SliceStatus

LINKS: list[dict[str, Any]] = [
    {
        "ifname": "lo",
        "flags": ["UP", "LOWER_UP"],
        "addr_info": [{"local": "127.0.0.1", "prefixlen": 8, "scope": "host"}],
    },
    {
        "ifname": "eth0",
        "mtu": 1400,
        "address": "02:00:00:00:00:01",
        "flags": ["UP", "LOWER_UP"],
        "addr_info": [
            {"local": "192.0.2.2", "prefixlen": 24, "scope": "global"},
            {"local": "fe80::1", "prefixlen": 64, "scope": "link"},
        ],
    },
    {"ifname": "eth1", "mtu": 9000, "parentdev": "0000:00:04.0", "flags": []},
    {"ifname": "wl1234567890abc", "mtu": 1500, "addr_info": [{"local": "10.0.0.1", "prefixlen": 8, "scope": "global"}]},
    {"ifname": "veth0", "mtu": 1500, "flags": ["UP"]},
]


def test_a_host_tells_of_its_own_interfaces_and_not_of_those_of_nodes() -> None:
    nics = parse_nics(LINKS, {"eth0": 1000}.get)
    assert [(nic.name, nic.mtu, nic.up, nic.speed, nic.addresses) for nic in nics] == [
        ("eth0", 1400, True, 1000, ("192.0.2.2/24",)),
        ("eth1", 9000, False, None, ()),
    ]


def test_what_costs_a_process_is_read_again_only_when_it_is_old(tmp_path: Path) -> None:
    seconds = 0.0
    machine = Machine({"data": tmp_path / "not" / "made", "other": tmp_path}, clock=lambda: seconds)
    first = machine.read()
    assert [disk.purpose for disk in first["disks"]] == ["data"]  # both are on one file system
    again = machine.read()
    assert (again["nics"], again["disks"], again["abilities"]) == (first["nics"], first["disks"], first["abilities"])
    assert again["disks"] is first["disks"]
    seconds = 3600.0
    assert machine.read()["disks"] is not first["disks"]


def test_the_facts_of_an_older_agent_are_read_with_what_they_lack_unknown() -> None:
    facts = HostFacts.model_validate_json(
        '{"host": "h1", "version": "0.0.9", "installation": "i", "time": 1, "cpus": 4, "of_tomorrow": [1]}'
    )
    assert (facts.abilities, facts.privileged, facts.memory_free_mb, facts.images_count) == (None, None, None, None)
    assert facts.ability("netem") is None


# -------------------------------------------------------------------- the way to the controllers


@pytest.mark.parametrize(
    ("told", "reached"),
    [
        ("http://127.0.0.1:7430/api/v1", "https://192.0.2.2:7430/api/v1"),
        ("https://localhost:7430/api/v1/uploads/x?y=1", "https://192.0.2.2:7430/api/v1/uploads/x?y=1"),
        ("https://[::1]:7430/api/v1", "https://192.0.2.2:7430/api/v1"),
        ("https://files.example.net/api/v1", "https://files.example.net/api/v1"),
        ("nonsense://[", "nonsense://["),
    ],
)
def test_an_address_that_is_good_on_the_controllers_machine_only_is_reached_as_the_controller_was(
    told: str, reached: str
) -> None:
    assert ControllerWay("https://192.0.2.2:7430").reach(told) == reached
    assert ControllerWay().reach(told) == told


def test_only_the_controllers_own_sources_are_reached_otherwise() -> None:
    near = BlobSource(url="http://127.0.0.1:7430/api/v1", token="t")  # noqa: S106
    peer = BlobSource(url="http://127.0.0.1:9000", token="t", host="h2")  # noqa: S106
    way = ControllerWay("https://192.0.2.2:7430")
    document = way.library(HostLibrary(host="h1", generation=1, sources=(near, peer)))
    assert document is not None
    assert [source.url for source in document.sources] == ["https://192.0.2.2:7430/api/v1", peer.url]
    assert way.library(None) is None


def test_a_way_without_an_authority_trusts_what_the_machine_trusts() -> None:
    assert ControllerWay("https://192.0.2.2").trust().verify_mode is ssl.CERT_REQUIRED


# -------------------------------------------------------------------- what labs take


def test_nodes_that_are_off_take_nothing() -> None:
    nodes = (
        NodeIntent(id="a", name="a", device="frr", provider="docker", image="i", cpu=2, memory_mb=512),
        NodeIntent(id="b", name="b", device="frr", provider="docker", image="i", cpu=1, memory_mb=256, power="off"),
    )
    document = Slice(lab_id="l", lab="lab", generation=1, installation="i", nodes=nodes)
    running = NodeStatus(id="a", name="a", provider="docker", state=NodeState.RUNNING)
    status = SliceStatus(
        host="h1", lab_id="l", lab="lab", generation=1, observed_at=0, converged=True, nodes=(running,)
    )
    used = use_by_host(
        [LabOnHosts("lab", {"h1": document, "h2": document.model_copy(update={"nodes": ()})}, {"h1": status})]
    )
    assert used.keys() == {"h1"}
    assert (used["h1"].labs, used["h1"].nodes, used["h1"].running) == (("lab",), 2, 1)
    assert (used["h1"].cpus, used["h1"].memory_mb) == (2, 512)
