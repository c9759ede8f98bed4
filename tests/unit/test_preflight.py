"""Checks before the first change: what a device needs of its host, sizes, machines, images."""

from __future__ import annotations

from typing import Any

import pytest

from wireloom.controller.preflight import Candidate, ImageRef, check
from wireloom.errors import ImageMissing, NotFound, NotPermitted, Unsupported, WireloomError
from wireloom.fabric.documents import HostFacts
from wireloom.model.device import Secret
from wireloom.model.provenance import Origin
from wireloom.model.runtime import Capabilities
from wireloom.model.topology import NodeSpec

DOCKER = Capabilities(name="docker", privileged=True, pulls=True)
LIBVIRT = Capabilities(name="libvirt", disk=True)


def facts(**changes: Any) -> dict[str, HostFacts]:
    known: dict[str, Any] = {"version": "1", "installation": "i", "time": 0, "cpus": 2, "memory_mb": 65536}
    return {"h1": HostFacts(host="h1", providers=(DOCKER, LIBVIRT), **{**known, **changes})}


def spec(**changes: Any) -> NodeSpec:
    known: dict[str, Any] = {"name": "a", "device": "box", "provider": "libvirt", "image": "box.qcow2", "cpu": 1}
    return NodeSpec.model_validate({**known, "memory_mb": 512, **changes})


def problem(node: NodeSpec, hosts: dict[str, HostFacts], *, consent: bool = False, **more: Any) -> WireloomError | None:
    return check([Candidate(node, "h1", allow_privileged=consent)], hosts, {}, **more).problems.get("a")


@pytest.mark.parametrize(
    ("need", "host", "words"),
    [
        ("kvm", {"kvm_reason": "no vmx flag"}, "device box needs hardware acceleration, and host h1 has none: no vmx"),
        ("nested", {"kvm_reason": "no vmx flag"}, "inside of its machine, and host h1 cannot give it: no vmx flag"),
        ("nested", {"kvm": True}, "cannot give it: the kernel's module has `nested` off"),
        ("cpu:vnmi", {"cpu_flags": ("svm",)}, "device box needs a CPU with vnmi, and that of host h1 has not"),
    ],
)
def test_a_host_without_what_the_device_needs_is_refused_by_name(need: str, host: dict[str, Any], words: str) -> None:
    found = problem(spec(needs=(need,)), facts(**host))
    assert isinstance(found, Unsupported)
    assert words in found.message
    assert found.node == "a"
    assert "override" in found.hint


@pytest.mark.parametrize(
    ("needs", "host"),
    [
        (("kvm",), {"kvm": True}),
        (("kvm", "nested"), {"kvm": True, "nested": True}),
        (("cpu:vnmi",), {"cpu_flags": ("vnmi",)}),
        (("cpu:vnmi",), {"cpu_flags": None}),  # a host that does not tell is given the chance
        ((), {}),
    ],
)
def test_a_host_that_has_it_or_does_not_tell_is_taken(needs: tuple[str, ...], host: dict[str, Any]) -> None:
    assert problem(spec(needs=needs), facts(**host)) is None


def test_a_device_that_needs_privilege_needs_consent_and_a_host_that_gives_it() -> None:
    node = spec(provider="docker", image="box", needs=("privileged",))
    assert isinstance(problem(node, facts()), NotPermitted)
    assert problem(node, facts(), consent=True) is None
    assert isinstance(problem(spec(needs=("privileged",)), facts(), consent=True), Unsupported)


def test_a_node_without_a_secret_that_it_needs_is_refused_and_told_how_to_give_it() -> None:
    node = spec(secrets=(Secret(name="licence", title="the vendor's licence"),))
    found = problem(node, facts(), secrets=frozenset())
    assert isinstance(found, NotFound)
    assert found.message == "device box needs the vendor's licence, and the secret licence was not given"
    assert "wireloom images secret set licence FILE" in found.hint
    assert problem(node, facts(), secrets=frozenset({"licence"})) is None
    off = check([Candidate(node, "h1", power="off")], facts(), {}, secrets=frozenset())
    assert off.problems == {}


def test_a_disk_that_the_user_sets_where_there_is_none_is_refused() -> None:
    container = {"provider": "docker", "image": "box", "disk_gb": 20}
    set_by_user = {"disk": Origin(layer="node", where="lab.yml:3")}
    found = problem(spec(**container, origins=set_by_user), facts())
    assert isinstance(found, Unsupported)
    assert found.message == "provider docker cannot set the size of a disk (disk: 20)"
    assert problem(spec(**container, origins={"disk": Origin(layer="defaults")}), facts()) is None
    assert problem(spec(disk_gb=20, origins=set_by_user), facts()) is None


def test_a_node_of_several_machines_is_refused_by_their_names() -> None:
    found = problem(spec(machines=("fpc0", "fpc1")), facts())
    assert isinstance(found, Unsupported)
    assert "device box is made of 3 machines (also fpc0, fpc1)" in found.message


def test_an_image_that_cannot_be_had_is_said_before_anything_is_made() -> None:
    missing = {ImageRef("h1", "libvirt", "box.qcow2"): ImageMissing("image box.qcow2 is not there", hint="copy it")}
    found = problem(spec(), facts(), missing=missing)
    assert isinstance(found, ImageMissing)
    assert (found.node, found.hint) == ("a", "copy it")
    assert problem(spec(image="other.qcow2"), facts(), missing=missing) is None


def test_a_node_that_stays_off_needs_no_image() -> None:
    missing = {ImageRef("h1", "libvirt", "box.qcow2"): ImageMissing("gone")}
    assert not check([Candidate(spec(), "h1", power="off")], facts(), {}, missing).problems


def test_more_cores_than_the_host_has_is_a_warning() -> None:
    findings = check([Candidate(spec(cpu=8), "h1")], facts(), {})
    assert not findings.problems
    assert findings.warnings == ["a wants 8 cores, and its host h1 has 2: it gets no more"]


@pytest.mark.parametrize(
    ("need", "words"),
    [("kvm", "image box needs hardware acceleration, and host h1 has none: no vmx"), ("cpu:vnmi", "a CPU with vnmi")],
)
def test_what_an_image_needs_of_its_host_is_checked_like_what_its_device_needs(need: str, words: str) -> None:
    node = spec(provider="docker", image="box", image_needs=(need,))
    found = problem(node, facts(kvm_reason="no vmx", cpu_flags=()))
    assert isinstance(found, Unsupported)
    assert words in found.message
    assert "override" not in found.hint
    assert problem(node, facts(kvm=True, cpu_flags=("vnmi",))) is None


def test_an_image_that_needs_privilege_needs_consent() -> None:
    node = spec(provider="docker", image="box", image_needs=("privileged",))
    assert isinstance(problem(node, facts()), NotPermitted)
    assert problem(node, facts(), consent=True) is None
