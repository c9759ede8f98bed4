"""The environment that a device gives its containers: templates, filled in on the host, below what the user says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from wireloom.agent.context import NodeContext
from wireloom.agent.runner import _environment
from wireloom.devices import DeviceCatalogue
from wireloom.model.slice import Management, NodeIntent, Slice
from wireloom.planning.expand import Expansion, expand
from wireloom.planning.plan import NodeRecord
from wireloom.planning.topology import parse_topology

CATALOGUE = DeviceCatalogue.load()

LAB = """
name: lab
nodes:
  x: {device: cisco_xrd}
  own: {device: cisco_xrd, env: {XR_INTERFACES: "{{ mine }}", MORE: "{% x"}}
  s: {device: ceos}
  i: {device: iol-xe, image: "iol-xe:1"}
links:
- ["x:Gi0/0/0/0", "s:et1"]
- ["x:Gi0/0/0/2", "own:Gi0/0/0/0"]
"""


FOLDER = SimpleNamespace(record=NodeRecord(number=7))


def lab() -> Slice:
    topology = parse_topology(LAB, devices=CATALOGUE).topology
    known = Expansion(
        installation="inst",
        lab_id="lab-1",
        generation=1,
        devices=CATALOGUE,
        ids={node.name: f"id-{node.name}" for node in topology.nodes},
        host_of={node.name: "host-1" for node in topology.nodes},
        mgmt={"host-1": Management(subnet="172.30.128.0/20", gateway="172.30.128.1")},
    )
    return expand(topology, known)["host-1"]


def environment(name: str) -> dict[str, str]:
    document = lab()
    node: NodeIntent = next(node for node in document.nodes if node.name == name)
    return _environment(cast(NodeContext, SimpleNamespace(lab=document, node=node, folder=FOLDER)))


def test_the_ports_that_a_node_has_are_in_its_environment() -> None:
    found = environment("x")
    assert found["XR_INTERFACES"] == "linux:eth1,xr_name=Gi0/0/0/0;linux:eth3,xr_name=Gi0/0/0/2"
    assert found["XR_FIRST_BOOT_CONFIG"] == "/etc/xrd/first-boot.cfg"
    assert environment("s")["CLAB_INTFS"] == "1"


def test_a_node_may_have_a_number_of_its_own_in_it() -> None:
    assert environment("i")["IOL_PID"] == "7"


def test_what_the_user_says_is_taken_as_it_is() -> None:
    found = environment("own")
    assert (found["XR_INTERFACES"], found["MORE"]) == ("{{ mine }}", "{% x")


def test_a_link_changes_nothing_of_what_a_container_is_made_of() -> None:
    node = next(node for node in lab().nodes if node.name == "x")
    assert "{" in node.env["XR_INTERFACES"]
    assert node.env_templates == ("XR_INTERFACES",)
