"""An agent reads configurations over the chain, before a stop too, holds them, and gives them to the next runtime."""

from __future__ import annotations

import asyncio
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled
from nvram_images import nvram

from wireloom.agent.folder import FolderStore
from wireloom.agent.held_configs import Held, HeldConfigs
from wireloom.agent.hooks import configs as config_hook
from wireloom.configs import digest
from wireloom.errors import Conflict, DeadlineExceeded, GuestFailed, NotFound, Unsupported
from wireloom.fabric.config_documents import Extracted, ExtractQuestion, HeldQuestion, LoadQuestion, ReleaseQuestion
from wireloom.model.device import Day0, Extract, Probe, Readiness, Step
from wireloom.model.identity import Identity
from wireloom.model.runtime import ExecResult
from wireloom.model.slice import NodeIntent, Slice, StoredConfig
from wireloom.model.state import SliceStatus
from wireloom.providers.simulated.world import SimulatedRuntime

SHOW = Extract(
    steps=(Step(channel="ssh", run="show"), Step(channel="exec", run="show"), Step(channel="file", run="/saved")),
    begins="^version",
    ends="^end$",
)
LOAD = (Step(channel="exec", run="load"),)
NEVER = Readiness(probes=(Probe(kind="log", pattern="never written"),), timeout_s=60, interval_s=0.05)
TEXT = "version 1\nhostname r1\nend\n"


class Guest:
    """The command line of the simulated guests: ``show`` prints ``running``, ``load`` takes another one."""

    def __init__(self, host: Host) -> None:
        self.running = TEXT
        self.refuses = False
        self.hangs = False
        self.asked = 0
        for world in host.worlds.values():
            world.answer = self.answer

    async def answer(self, runtime: SimulatedRuntime, command: Sequence[str], stdin: bytes) -> ExecResult:
        line = command[-1]
        if line == "show":
            self.asked += 1
            if self.hangs:
                await asyncio.sleep(3600)
            return ExecResult(exit_code=0, stdout=self.running.encode())
        if line == "load" and not self.refuses:
            self.running = stdin.decode()
            return ExecResult(exit_code=0)
        return ExecResult(exit_code=1, stderr=b"% bad configuration")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def guest(host: Host) -> Guest:
    return Guest(host)


def router(**changes: object) -> NodeIntent:
    fields: dict[str, object] = {"extract": SHOW, "load": LOAD, "day0": (Day0(method="file", path="/startup"),)}
    return make_node("r1", **{**fields, **changes})  # type: ignore[arg-type]


async def run(agent: Agent, lab: Slice) -> None:
    agent.reconciler.set_slice("lab-1", lab)
    await agent.until(settled(lab.generation))


async def stop(agent: Agent, node: NodeIntent, generation: int = 2) -> SliceStatus:
    agent.reconciler.set_slice("lab-1", make_lab(node.model_copy(update={"power": "off"}), generation=generation))
    return await agent.until(
        lambda status: status.generation == generation and status.converged and status.nodes[0].state == "stopped"
    )


def question(**changes: object) -> ExtractQuestion:
    return ExtractQuestion.model_validate({"lab_id": "lab-1", "node_id": "id-r1", "timeout_s": 5, **changes})


HELD = HeldQuestion(lab_id="lab-1", node_id="id-r1")


def events(agent: Agent, kind: str) -> list[str]:
    return [event.message for event in agent.reports.events if event.kind == kind]


# -------------------------------------------------------------------- the chain


async def test_the_first_channel_that_gives_a_configuration_wins_and_the_others_are_told(
    host: Host, guest: Guest
) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router(mgmt_ipv4="172.30.0.9")))
        answer = await agent.config_questions.extract(question())
        assert (answer.text, answer.sha256, answer.channel) == (TEXT, digest(TEXT), "exec")
        assert answer.tried == {"ssh": "there is no SSH here"}


async def test_a_text_that_is_no_configuration_hands_over_to_the_next_channel(host: Host, guest: Guest) -> None:
    guest.running = "version 1\nhostname r1\n"
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router()))
        runtime = agent.world.runtimes["id-r1"]
        host.worlds["alpha"].runtimes[runtime.runtime_id].storage["/saved"] = TEXT.encode()
        answer = await agent.config_questions.extract(question())
        assert answer.channel == "file"
        assert list(answer.tried) == ["exec"]  # over SSH the node cannot be reached at all
        assert "its end is missing" in answer.tried["exec"]


async def test_a_file_that_is_no_text_is_read_by_the_parser_that_the_device_names(host: Host, guest: Guest) -> None:
    extract = Extract(steps=(Step(channel="file", run="/nvram_00001", parse="iol-nvram"),), ends="^end$")
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router(extract=extract)))
        storage = host.worlds["alpha"].runtimes[agent.world.runtimes["id-r1"].runtime_id].storage
        storage["/nvram_00001"] = nvram(TEXT.encode(), compressed=True)
        assert (await agent.config_questions.extract(question())).text == TEXT
        storage["/nvram_00001"] = bytes(1024)
        with pytest.raises(GuestFailed, match="no configuration was saved"):
            await agent.config_questions.extract(question())


async def test_a_channel_that_hangs_leaves_time_for_the_next(host: Host, guest: Guest) -> None:
    guest.hangs = True
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router()))
        runtime = agent.world.runtimes["id-r1"]
        host.worlds["alpha"].runtimes[runtime.runtime_id].storage["/saved"] = TEXT.encode()
        answer = await agent.config_questions.extract(question(timeout_s=0.3))
        assert answer.channel == "file"


async def test_when_no_channel_gives_one_every_reason_is_told(host: Host, guest: Guest) -> None:
    guest.running = "% error\n"
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router()))
        with pytest.raises(GuestFailed, match="no channel gave") as raised:
            await agent.config_questions.extract(question())
        assert list(raised.value.details["tried"]) == ["ssh", "exec", "file"]


async def test_a_device_without_a_way_says_so(host: Host, guest: Guest) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router(extract=Extract(), load=())))
        with pytest.raises(Unsupported, match="no way to read"):
            await agent.config_questions.extract(question())
        with pytest.raises(Unsupported, match="while it runs"):
            await agent.config_questions.load(LoadQuestion(lab_id="lab-1", node_id="id-r1", text=TEXT))


async def test_a_node_that_is_not_ready_is_read_only_when_it_is_forced(host: Host, guest: Guest) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(router(ready=NEVER)))
        await agent.until(lambda status: status.nodes[0].state == "running")
        with pytest.raises(Conflict, match="not ready"):
            await agent.config_questions.extract(question())
        assert (await agent.config_questions.extract(question(force=True))).text == TEXT


async def test_unknown_and_stopped_nodes_are_refused(host: Host, guest: Guest) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router()))
        with pytest.raises(NotFound):
            await agent.config_questions.extract(question(node_id="other"))
        await stop(agent, router(extract_on_stop=False))
        with pytest.raises(Conflict, match="not running"):
            await agent.config_questions.extract(question())


# -------------------------------------------------------------------- loading


async def test_a_configuration_is_loaded_and_remembered_as_given(host: Host, guest: Guest) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router(config_choice=4)))
        new = TEXT.replace("r1", "r9")
        answer = await agent.config_questions.load(LoadQuestion(lab_id="lab-1", node_id="id-r1", text=new))
        assert answer.channel == "exec"
        assert guest.running == new
        assert (await agent.config_questions.extract(question())).choice == 4


async def test_a_configuration_that_the_guest_refuses_is_an_error(host: Host, guest: Guest) -> None:
    guest.refuses = True
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router()))
        with pytest.raises(GuestFailed, match="refused") as raised:
            await agent.config_questions.load(LoadQuestion(lab_id="lab-1", node_id="id-r1", text=TEXT))
        assert "bad configuration" in raised.value.hint


# -------------------------------------------------------------------- before a stop


async def test_a_stop_reads_the_configuration_and_holds_it_for_the_controller(host: Host, guest: Guest) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router(startup_config="version 0\nend\n")))
        status = await stop(agent, router(startup_config="version 0\nend\n"))
        assert status.nodes[0].held_config == digest(TEXT)
        held = await agent.config_questions.held(HELD)
        assert (held.text, held.choice) == (TEXT, 0)
        assert events(agent, "config.extracted") == ["configuration read over exec before the stop"]
        file = host.folder / "nodes" / "id-r1" / "configs" / "held.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_what_is_held_survives_the_agent_and_is_let_go_once_the_controller_has_it(
    host: Host, guest: Guest
) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router()))
        await stop(agent, router())
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(router(power="off"), generation=2))
        await agent.until(lambda status: status.nodes[0].held_config == digest(TEXT))
        await agent.config_questions.release(
            ReleaseQuestion(lab_id="lab-1", node_id="id-r1", sha256="of another", revision=1)
        )
        assert (await agent.config_questions.held(HELD)).text == TEXT
        await agent.config_questions.release(
            ReleaseQuestion(lab_id="lab-1", node_id="id-r1", sha256=digest(TEXT), revision=1)
        )
        await agent.until(lambda status: not status.nodes[0].held_config)
        with pytest.raises(NotFound):
            await agent.config_questions.held(HELD)


async def test_a_failed_reading_is_told_and_the_stop_goes_on_with_what_was_held_before(
    host: Host, guest: Guest
) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router()))
        await stop(agent, router())
        await run(agent, make_lab(router(attention=1), generation=3))
        guest.running = "% error\n"
        status = await stop(agent, router(attention=1), 4)
        assert status.nodes[0].held_config == digest(TEXT)
        assert "no channel gave" in events(agent, "config.not-extracted")[0]


async def test_a_guest_that_hangs_does_not_hold_up_the_stop(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_hook, "STOP_DEADLINE_S", 0.2)
    guest.hangs = True
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router()))
        await stop(agent, router())
        assert len(events(agent, "config.not-extracted")) == 1


@pytest.mark.parametrize("changes", [{"extract_on_stop": False}, {"extract": Extract()}])
async def test_a_stop_without_a_wish_or_a_way_reads_nothing(
    host: Host, guest: Guest, changes: dict[str, object]
) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router(**changes)))
        status = await stop(agent, router(**changes))
        assert (guest.asked, status.nodes[0].held_config) == (0, "")


async def test_a_node_that_was_not_ready_in_this_boot_is_not_read_before_its_stop(host: Host, guest: Guest) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(router(ready=NEVER)))
        await agent.until(lambda status: status.nodes[0].state == "running")
        await stop(agent, router(ready=NEVER))
        assert guest.asked == 0


async def test_a_wipe_and_a_removal_read_nothing(host: Host, guest: Guest) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router()))
        await run(agent, make_lab(router(incarnation=2), generation=2))
        agent.reconciler.set_slice("lab-1", make_lab(router(), generation=3, removed=True))
        await agent.until(lambda status: status.generation == 3 and status.converged)
        assert guest.asked == 0


# -------------------------------------------------------------------- the next runtime


def startup(host: Host, agent: Agent) -> str:
    """The configuration that the runtime was made with."""
    runtime = agent.world.runtimes["id-r1"]
    return host.worlds["alpha"].runtimes[runtime.runtime_id].storage["/startup"].decode()


OLD = StoredConfig(revision=1, sha256=digest("version old\n"), text="version old\n")


async def test_a_runtime_that_is_made_anew_gets_what_the_last_one_ran(host: Host, guest: Guest) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router(stored_config=OLD)))
        assert startup(host, agent) == OLD.text
        await run(agent, make_lab(router(stored_config=OLD, memory_mb=512), generation=2))
        assert startup(host, agent) == TEXT


async def test_a_choice_that_was_not_used_yet_goes_before_what_the_last_runtime_ran(host: Host, guest: Guest) -> None:
    chosen = StoredConfig(revision=2, sha256=digest("version new\n"), text="version new\n")
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router(stored_config=OLD)))
        await run(agent, make_lab(router(stored_config=chosen, config_choice=1, memory_mb=512), generation=2))
        assert startup(host, agent) == chosen.text
        # The node has been made with it now: what it runs goes on.
        await run(agent, make_lab(router(stored_config=chosen, config_choice=1, memory_mb=768), generation=3))
        assert startup(host, agent) == TEXT


async def test_going_back_to_the_topology_goes_before_what_was_read_since(host: Host, guest: Guest) -> None:
    plain = router(startup_config="version topology\n")
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(plain))
        await stop(agent, plain)
        again = plain.model_copy(update={"config_choice": 1, "incarnation": 2})
        await run(agent, make_lab(again, generation=3))
        assert startup(host, agent) == "version topology\n"


async def test_a_reading_that_the_user_asked_for_uses_the_last_choice(host: Host, guest: Guest) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router()))
        await run(agent, make_lab(router(config_choice=3), generation=2))
        assert (await agent.config_questions.extract(question())).choice == 0
        assert (await agent.config_questions.extract(question(adopt=True))).choice == 3
        assert (await agent.config_questions.extract(question())).choice == 3


async def test_once_the_controller_has_it_the_slice_decides(host: Host, guest: Guest) -> None:
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router(stored_config=OLD)))
        await stop(agent, router(stored_config=OLD))
        await agent.config_questions.release(
            ReleaseQuestion(lab_id="lab-1", node_id="id-r1", sha256=digest(TEXT), revision=2)
        )
        newer = StoredConfig(revision=3, sha256=digest("version newer\n"), text="version newer\n")
        await run(agent, make_lab(router(stored_config=newer, incarnation=2), generation=3))
        assert startup(host, agent) == newer.text


async def test_one_that_comes_while_an_older_one_is_let_go_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = FolderStore(tmp_path, "test")
    folders.ensure(Identity(installation="test", lab_id="lab-1", lab="lab", node_id="id-r1", node="r1"))
    held = HeldConfigs(folders)
    older, newer = (Extracted(text=text, sha256=digest(text), channel="exec", taken_at=1) for text in ("a\n", "b\n"))
    await held.keep("id-r1", older)
    letting_go, go_on, write = asyncio.Event(), threading.Event(), HeldConfigs._write
    loop = asyncio.get_running_loop()

    def slow_write(self: HeldConfigs, node_id: str, item: Held) -> None:
        if item.revision:
            loop.call_soon_threadsafe(letting_go.set)
            go_on.wait(5)
        write(self, node_id, item)

    monkeypatch.setattr(HeldConfigs, "_write", slow_write)
    releasing = asyncio.create_task(held.release("id-r1", older.sha256, 1))
    await letting_go.wait()
    keeping = asyncio.create_task(held.keep("id-r1", newer))
    await asyncio.wait({keeping}, timeout=0.1)
    go_on.set()
    await asyncio.gather(releasing, keeping)
    assert held.waiting("id-r1") == newer.sha256
    assert await held.get("id-r1") == Held(extracted=newer)


async def test_deadlines_of_a_question_hold(host: Host, guest: Guest) -> None:
    guest.hangs = True
    async with Agent(host).alive() as agent:
        await run(agent, make_lab(router(extract=Extract(steps=(Step(channel="exec", run="show"),)))))
        with pytest.raises((GuestFailed, DeadlineExceeded)):
            await agent.config_questions.extract(question(timeout_s=0.1))
