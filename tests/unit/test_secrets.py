"""Secrets of the user's: how they are kept, who gets them, and where they never show."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled
from controller_rig import make_rig

from wireloom.controller.library.secrets import LARGEST_SECRET, Secrets
from wireloom.errors import InvalidInput, NotFound
from wireloom.model.device import Day0, Secret
from wireloom.model.device_views import DeviceFileRequest
from wireloom.model.runtime import GuestFile, RuntimeSpec
from wireloom.model.slice import Slice
from wireloom.model.views import DeployRequest

LICENCE = b"[license]\nr1 = 0123456789abcdef;\n"
WANTED = Secret(name="iol-licence", title="IOL licence", path="/iol/iourc")
MACHINE = "beta"  # the world that is like a hypervisor


# ------------------------------------------------------------------ kept


@pytest.fixture
async def secrets(tmp_path: Path) -> Secrets:
    store = Secrets(tmp_path / "secrets")
    await store.load()
    return store


async def test_a_secret_is_a_file_that_nobody_else_reads(secrets: Secrets, tmp_path: Path) -> None:
    await secrets.put("iol-licence", LICENCE)
    file = tmp_path / "secrets" / "iol-licence"
    assert file.read_bytes() == LICENCE
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file)] == [0o700, 0o600]
    assert [path.name for path in file.parent.iterdir()] == ["iol-licence"]


async def test_secrets_outlive_the_controller(secrets: Secrets, tmp_path: Path) -> None:
    await secrets.put("iol-licence", b"old")
    await secrets.put("iol-licence", LICENCE)
    (tmp_path / "secrets/.iol-licence.cut-off").write_bytes(b"half")
    again = Secrets(tmp_path / "secrets")
    await again.load()
    assert again.names() == ("iol-licence",)
    assert again.fill(wanting(WANTED)).secrets == {"iol-licence": LICENCE}
    assert not list((tmp_path / "secrets").glob(".*"))


@pytest.mark.parametrize("name", ["", ".", "..", "../token", "a/b", "A", "a b", "a\n", "-a", "x" * 64])
async def test_names_cannot_lead_elsewhere(secrets: Secrets, name: str) -> None:
    with pytest.raises(InvalidInput, match="not a name"):
        await secrets.put(name, b"x")
    with pytest.raises(InvalidInput, match="not a name"):
        await secrets.delete(name)


@pytest.mark.parametrize("content", [b"", bytes(LARGEST_SECRET + 1)])
async def test_a_secret_has_content_and_fits_into_a_message(secrets: Secrets, content: bytes) -> None:
    with pytest.raises(InvalidInput, match="bytes"):
        await secrets.put("a", content)
    assert secrets.names() == ()


async def test_a_secret_that_is_taken_away_is_gone(secrets: Secrets, tmp_path: Path) -> None:
    await secrets.put("a", b"x")
    await secrets.delete("a")
    assert not list((tmp_path / "secrets").iterdir())
    with pytest.raises(NotFound):
        await secrets.delete("a")


async def test_who_depends_on_a_secret_is_told_of_its_changes(tmp_path: Path) -> None:
    told: list[str] = []
    secrets = Secrets(tmp_path / "secrets", told.append)
    await secrets.put("a", b"x")
    await secrets.delete("a")
    assert told == ["a", "a"]


# ------------------------------------------------------------------ missed


async def test_a_lab_says_before_it_is_deployed_which_secret_is_missing(tmp_path: Path) -> None:
    device = (
        "name: own\nhardware: {cpu: 1, memory: 256MB}\nproviders: {simulated: {image: box}}\n"
        "secrets: [{name: licence, title: the licence, path: /licence}]\n"
    )
    lab = DeployRequest(topology="name: lab\nnodes:\n  a: {device: own}\n")
    async with make_rig(tmp_path) as rig:
        await rig.add_host("h1")
        await rig.controller.devices.add(DeviceFileRequest(text=device))
        plan = await rig.controller.labs.plan(lab)
        assert [problem["message"] for problem in plan.problems] == [
            "device own needs the licence, and the secret licence was not given"
        ]
        await rig.controller.library.secrets.put("licence", LICENCE)
        assert (await rig.controller.labs.plan(lab)).problems == ()


# ------------------------------------------------------------------ given


def wanting(*wanted: Secret, **changes: Any) -> Slice:
    return make_lab(make_node("a", "alpha", secrets=wanted, **changes))


async def test_a_slice_gets_what_its_nodes_want_and_no_more(secrets: Secrets) -> None:
    await secrets.put("iol-licence", LICENCE)
    await secrets.put("other", b"x")
    assert secrets.fill(wanting()).secrets == {}
    filled = secrets.fill(wanting(WANTED, Secret(name="missing", path="/x")))
    assert filled.secrets == {"iol-licence": LICENCE}
    assert Slice.model_validate_json(filled.model_dump_json()) == filled


async def test_no_value_shows_a_secret(secrets: Secrets) -> None:
    await secrets.put("iol-licence", LICENCE)
    shown = [repr(secrets), repr(secrets.fill(wanting(WANTED))), repr(GuestFile(path="/x", content=LICENCE))]
    assert not [text for text in shown if "0123456789abcdef" in text]


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def made(host: Host, lab: Slice, provider: str = "alpha") -> RuntimeSpec:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab)
        await agent.until(settled())
    (runtime,) = host.worlds[provider].runtimes.values()
    return runtime.spec


def given(lab: Slice) -> Slice:
    return lab.model_copy(update={"secrets": {"iol-licence": LICENCE}})


async def test_a_node_finds_its_secret_as_a_file(host: Host) -> None:
    spec = await made(host, given(wanting(WANTED)))
    assert spec.files == (GuestFile(path="/iol/iourc", content=LICENCE, mode=0o600),)


async def test_a_machine_finds_it_on_its_day0_medium(host: Host) -> None:
    secret = WANTED.model_copy(update={"medium": "licence.txt"})
    day0 = Day0(method="fat", path="config.txt", label="disk", attach="disk")
    node = make_node("a", MACHINE, secrets=(secret,), day0=(day0,), startup_config="hostname a")
    spec = await made(host, given(make_lab(node)), MACHINE)
    (medium,) = spec.media
    assert LICENCE in Path(medium.path).read_bytes()
    assert spec.files == ()


async def test_a_secret_that_may_be_missing_keeps_nobody_from_starting(host: Host) -> None:
    assert (await made(host, wanting(WANTED.model_copy(update={"optional": True})))).files == ()


async def failure(host: Host, lab: Slice) -> dict[str, Any]:
    """Why the node does not come up, as it is told."""
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab)
        status = await agent.until(lambda status: any(node.error for node in status.nodes))
        (error,) = [node.error for node in status.nodes]
    assert error is not None
    return dict(error)


async def test_a_secret_that_was_not_given_is_named_with_the_way_to_give_it(host: Host) -> None:
    error = await failure(host, wanting(WANTED))
    assert (error["code"], error["retryable"], error["details"]) == ("not-found", False, {"secret": "iol-licence"})
    assert "IOL licence" in error["message"]
    assert "wireloom images secret set iol-licence FILE" in error["hint"]


async def test_a_secret_that_cannot_be_handed_over_is_refused(host: Host) -> None:
    node = make_node("a", MACHINE, secrets=(WANTED,))
    error = await failure(host, given(make_lab(node)))
    assert error["code"] == "unsupported"
    assert "/iol/iourc" in error["message"]
