"""How an agent delivers a startup configuration: as a file, in a shown folder, on a medium, or over the console."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent.hooks.day0 import day0_method
from wireloom.agent.shown_folder import ShownFolder
from wireloom.errors import InvalidInput
from wireloom.model.device import Access, Day0, Step
from wireloom.model.runtime import Capabilities, ExecResult, RuntimeSpec
from wireloom.model.slice import Bind, Condition, StoredConfig
from wireloom.model.state import NodeState, NodeStep, Readiness
from wireloom.providers.simulated import SimulatedRuntime

MACHINE = "beta"  # the world that is like a hypervisor
FLASH = Day0(method="bind", path="/mnt/flash/startup-config")


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def spec_of(host: Host, provider: str) -> RuntimeSpec:
    (runtime,) = host.worlds[provider].runtimes.values()
    return runtime.spec


async def deployed(host: Host, provider: str = "alpha", **changes: Any) -> RuntimeSpec:
    """The spec that the node was made with."""
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", provider, **changes)))
        await agent.until(settled())
    return spec_of(host, provider)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - files have no event
            await asyncio.sleep(0.01)


# ------------------------------------------------------------------ which method


CHAIN = tuple(Day0.model_validate({"method": name}) for name in ("iso", "fat", "smbios", "bind", "file", "serial"))


@pytest.mark.parametrize(
    ("changes", "can_load", "expected"),
    [
        ({"media": frozenset({"iso", "fat"})}, False, "iso"),
        ({"media": frozenset({"fat"})}, False, "fat"),
        ({"media": frozenset({"smbios"}), "files": True}, False, "smbios"),
        ({"binds": True, "files": True}, True, "bind"),
        ({"files": True}, True, "file"),
        ({}, True, "serial"),
        ({}, False, None),
    ],
)
def test_the_first_method_that_the_provider_can_do_is_used(
    changes: dict[str, Any], can_load: bool, expected: str | None
) -> None:
    method = day0_method(CHAIN, Capabilities(name="x", **changes), can_load=can_load)
    assert (method.method if method else None) == expected


@pytest.mark.parametrize("name", ["nocloud", "configdrive"])
def test_cloud_media_need_what_isos_need(name: str) -> None:
    chain = (Day0.model_validate({"method": name}),)
    assert day0_method(chain, Capabilities(name="x", media=frozenset({"iso"})), can_load=False) is chain[0]
    assert day0_method(chain, Capabilities(name="x", media=frozenset({"fat"})), can_load=False) is None


# ------------------------------------------------------------------ media, files, SMBIOS


async def test_a_medium_is_for_root_and_the_emulator_only(host: Host) -> None:
    day0 = Day0(method="fat", path="config.txt", label="disk", attach="disk", partition=True)
    spec = await deployed(host, MACHINE, day0=(day0,), startup_config="password secret")
    (medium,) = spec.media
    assert (medium.kind, medium.attach) == ("fat", "disk")
    facts = Path(medium.path).stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_size) == (0o600, 32 << 20)
    assert b"password secret\n" in Path(medium.path).read_bytes()


async def test_a_wipe_and_a_removal_take_the_medium_away(host: Host) -> None:
    node = make_node("a", MACHINE, day0=(Day0(method="iso", path="x"),), startup_config="secret")
    folder = host.folder / "nodes" / node.id / "media"
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await agent.until(settled())
        assert [path.name for path in folder.iterdir()] == ["day0.iso"]
        off = node.model_copy(update={"power": "off", "incarnation": 2})
        agent.reconciler.set_slice("lab-1", make_lab(off, generation=2))
        await until(lambda: not host.worlds[MACHINE].runtimes and not any(folder.glob("*")))


async def test_smbios_entries_reach_the_provider_and_no_medium_is_made(host: Host) -> None:
    host.worlds[MACHINE].capabilities = host.worlds[MACHINE].capabilities.model_copy(
        update={"media": frozenset({"smbios"})}
    )
    day0 = Day0(method="smbios", path="system.product", template="TIMOS:node={{ node }}")
    spec = await deployed(host, MACHINE, day0=(day0,))
    assert (spec.smbios, spec.media) == ({"system.product": "TIMOS:node=a"}, ())


async def test_templates_know_the_node_and_the_installations_keys(host: Host) -> None:
    day0 = Day0(method="file", path="/cfg", mode=0o600, extra={"/keys": "{{ authorized_keys }}"})
    spec = await deployed(
        host,
        day0=(day0,),
        startup_template="{{ lab }}/{{ hostname }} {{ username }}:{{ password | sha512_crypt }}\n",
        startup_config="after {{ it }}\n",
        access=Access(username="admin", password="admin"),  # noqa: S106
    )
    files = {file.path: file for file in spec.files}
    text = files["/cfg"].content.decode()
    assert text.startswith("lab/a admin:$6$")
    assert text.endswith("\nafter {{ it }}\n")
    assert files["/cfg"].mode == 0o600
    assert files["/keys"].content == b"ssh-ed25519 AAAA\n"


async def test_a_mistake_in_a_template_fails_the_node_and_names_the_file(host: Host) -> None:
    async with Agent(host).alive() as agent:
        node = make_node("a", day0=(Day0(method="file", path="/cfg", template="{{ nothing }}"),))
        agent.reconciler.set_slice("lab-1", make_lab(node))
        status = await agent.until(lambda status: status.nodes[0].state is NodeState.FAILED)
    error = status.nodes[0].error
    assert error is not None
    assert "/cfg: 'nothing' is undefined" in error["message"]


async def test_the_stored_revision_is_delivered_instead_of_the_startup_configuration(host: Host) -> None:
    stored = StoredConfig(revision=3, sha256="", text="saved\n")
    spec = await deployed(host, day0=(Day0(method="file", path="/c"),), startup_config="first", stored_config=stored)
    assert [file.content for file in spec.files] == [b"saved\n"]


# ------------------------------------------------------------------ shown folders


async def test_a_shown_folder_keeps_what_the_guest_saved_until_the_configuration_changes(host: Host) -> None:
    node = make_node("a", day0=(FLASH,), startup_config="first", extract_on_stop=False)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await agent.until(settled())
        (bind,) = spec_of(host, "alpha").binds
        saved = Path(bind.source) / "startup-config"
        assert (bind.target, saved.read_text()) == ("/mnt/flash", "first\n")
        saved.write_text("saved by the guest")

        other_memory = node.model_copy(update={"memory_mb": 512})
        agent.reconciler.set_slice("lab-1", make_lab(other_memory, generation=2))
        await agent.until(settled(2))
        assert saved.read_text() == "saved by the guest"

        other_config = other_memory.model_copy(update={"startup_config": "second"})
        agent.reconciler.set_slice("lab-1", make_lab(other_config, generation=3))
        await agent.until(settled(3))
        assert saved.read_text() == "second\n"

        wiped = other_config.model_copy(update={"incarnation": 2})
        (saved.parent / "old").touch()
        agent.reconciler.set_slice("lab-1", make_lab(wiped, generation=4))
        await agent.until(settled(4))
        assert [path.name for path in saved.parent.iterdir()] == ["startup-config"]


async def test_a_bind_of_the_user_in_the_same_place_is_refused(host: Host) -> None:
    async with Agent(host).alive() as agent:
        bind = Bind(source="/srv/flash", target="/mnt/flash")
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", day0=(FLASH,), binds=(bind,), startup_config="x")))
        status = await agent.until(lambda status: status.nodes[0].state is NodeState.FAILED)
    error = status.nodes[0].error
    assert error is not None
    assert "/mnt/flash" in error["message"]


def test_a_shown_folder_is_closed_to_other_users_of_the_host(tmp_path: Path) -> None:
    folder = ShownFolder(tmp_path, PurePosixPath("/config"))
    folder.put({PurePosixPath("/config/sub/a.cfg"): b"x"}, 0o640)
    assert stat.S_IMODE(folder.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.path / "sub/a.cfg").stat().st_mode) == 0o640


def test_a_link_that_the_guest_made_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.cfg").write_text("the host's")
    folder = ShownFolder(tmp_path / "storage", PurePosixPath("/config"))
    folder.put({PurePosixPath("/config/sub/a.cfg"): b"1"}, 0o644)
    (folder.path / "sub/a.cfg").unlink()
    (folder.path / "sub").rmdir()
    (folder.path / "sub").symlink_to(outside)
    folder.put({PurePosixPath("/config/sub/a.cfg"): b"2"}, 0o644)
    assert (outside / "a.cfg").read_text() == "the host's"
    assert (folder.path / "sub/a.cfg").read_bytes() == b"2"


@pytest.mark.parametrize(
    ("target", "path"), [("/", "/a"), ("config", "config/a"), ("/config", "/etc/a"), ("/config", "/config/../a")]
)
def test_nothing_is_put_outside_a_shown_folder(tmp_path: Path, target: str, path: str) -> None:
    with pytest.raises(InvalidInput):
        ShownFolder(tmp_path, PurePosixPath(target)).put({PurePosixPath(path): b""}, 0o644)


def test_a_choice_is_written_once_even_if_it_is_what_was_put_last(tmp_path: Path) -> None:
    folder, file = ShownFolder(tmp_path, PurePosixPath("/config")), PurePosixPath("/config/a")
    folder.put({file: b"one"}, 0o644)
    (folder.path / "a").write_bytes(b"saved")
    folder.put({file: b"one"}, 0o644, choice=1)
    assert (folder.path / "a").read_bytes() == b"one"
    (folder.path / "a").write_bytes(b"saved later")
    folder.put({file: b"one"}, 0o644, choice=1)
    assert (folder.path / "a").read_bytes() == b"saved later"


# ------------------------------------------------------------------ over the console


class Guest:
    """What was typed into the guest of a node, in order."""

    def __init__(self, host: Host) -> None:
        self.done: list[tuple[str, bytes]] = []
        self.gate: asyncio.Event | None = None
        self.codes: list[int] = []
        host.worlds["alpha"].answer = self._answer

    async def _answer(self, runtime: SimulatedRuntime, command: Sequence[str], stdin: bytes) -> ExecResult:
        del runtime
        if self.gate is not None:
            await self.gate.wait()
        self.done.append((command[-1], stdin))
        code = self.codes.pop(0) if self.codes else 0
        return ExecResult(exit_code=code, stderr=b"% invalid input" if code else b"")


TYPED: dict[str, Any] = {
    "day0": (Day0(method="serial"),),
    "load": (Step(channel="exec", run="configure"),),
    "startup_template": "hostname {{ hostname }}\n",
    "post_boot": ("after",),
}


async def test_the_last_resort_loads_the_configuration_once_before_post_boot_commands(host: Host) -> None:
    guest, node = Guest(host), make_node("a", **TYPED)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await until(lambda: len(guest.done) == 2)
        assert guest.done == [("configure", b"hostname a\n"), ("after", b"")]
        again = node.model_copy(update={"restarts": 1})
        agent.reconciler.set_slice("lab-1", make_lab(again, generation=2))
        await until(lambda: len(guest.done) == 3)
        assert guest.done[2:] == [("after", b"")]
        wiped = again.model_copy(update={"incarnation": 2})
        agent.reconciler.set_slice("lab-1", make_lab(wiped, generation=3))
        await until(lambda: len(guest.done) == 5)
        assert guest.done[3:] == [("configure", b"hostname a\n"), ("after", b"")]


async def test_a_runtime_made_anew_gets_its_configuration_again(host: Host) -> None:
    guest, node = Guest(host), make_node("a", **TYPED)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await until(lambda: len(guest.done) == 2)
        larger = node.model_copy(update={"memory_mb": 512})
        agent.reconciler.set_slice("lab-1", make_lab(larger, generation=2))
        await until(lambda: len(guest.done) == 4)
    assert guest.done[2:] == [("configure", b"hostname a\n"), ("after", b"")]


async def test_a_node_is_ready_when_its_configuration_is_loaded(host: Host) -> None:
    guest, gate = Guest(host), asyncio.Event()
    guest.gate = gate
    dependent = make_node("b", depends_on={"id-a": Condition.READY})
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", **TYPED), dependent))
        status = await agent.until(lambda status: "being loaded" in status.nodes[0].message)
        assert (status.nodes[0].ready, status.nodes[0].step) == (Readiness.NO, NodeStep.BOOT)
        assert status.nodes[1].runtime_id is None
        gate.set()
        status = await agent.until(settled())
        assert {node.ready for node in status.nodes} == {Readiness.YES}
        assert "node.config-loaded" in {event.kind for event in agent.reports.events}


async def test_a_refused_configuration_is_tried_again_and_then_said_loudly(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wireloom.agent.boot_work._LONGEST_PAUSE_S", 0.01)
    guest = Guest(host)
    guest.codes = [1, 1, 1]
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", **TYPED)))
        status = await agent.until(lambda status: status.nodes[0].error is not None)
    error = status.nodes[0].error
    assert error is not None
    assert (error["message"], error["hint"]) == (
        "the startup configuration was refused over exec",
        "% invalid input",
    )
    assert [command for command, _ in guest.done] == ["configure"] * 3
