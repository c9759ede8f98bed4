"""A host sends what it has, what its engine fetches, and what a stopped node became; and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from agent_library_rig import eventually
from tus_rig import FarEnd

from wireloom import uploading
from wireloom.agent.library import exports
from wireloom.agent.library.exports import Exports
from wireloom.agent.library.ledger import key_of
from wireloom.errors import Conflict, InvalidInput, NotFound, RuntimeFailed, Unavailable, Unsupported
from wireloom.fabric.image_documents import ExportMessage, ExportOpen
from wireloom.model.identity import Identity
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.state import RuntimePhase
from wireloom.providers.contract import Abilities, ByteStream, Credentials
from wireloom.providers.newfile import new_file
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld

TOKEN = "for-this-upload"  # noqa: S105 - of nobody
IMAGE = "vendor/router:1"


class Saver:
    """Makes an image of a node, once it may."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.held = False

    async def save(self, runtime_id: str, target: Path) -> None:
        async with new_file(target) as part:
            part.write_bytes(b"disk of " + runtime_id.encode())
            await self.gate.wait()


class Host:
    def __init__(self, folder: Path) -> None:
        self.world = SimulatedWorld()
        self.saver = Saver()
        self.provider = SimulatedProvider("test", self.world, name="alpha")
        self.provider.abilities = Abilities(saver=self.saver)
        self.far = FarEnd(token=TOKEN)
        self.folder = folder / "exports"
        self.runtimes: dict[str, RuntimeStatus] = {}
        self.lock = asyncio.Lock()
        self.pulled: list[str] = []
        http = self.far.client()
        self.exports = Exports(
            self.folder,
            providers={"alpha": self.provider},
            runtimes=self.runtimes,
            holding=self._holding,
            http=lambda: http,
            pulled=self.pulled.append,
        )
        self.exports.prepare()

    @contextlib.asynccontextmanager
    async def _holding(self, node_id: str) -> AsyncIterator[None]:
        async with self.lock:
            yield

    def node(self, phase: RuntimePhase) -> None:
        identity = Identity(installation="test", lab_id="l1", lab="lab", node_id="n1", node="r1")
        self.runtimes["n1"] = RuntimeStatus(
            runtime_id="rt1", name="wl", identity=identity, incarnation=0, spec_hash="h", phase=phase
        )

    def wanted(self, **fields: Any) -> ExportOpen:
        return ExportOpen(provider="alpha", upload=self.far.begin(), token=TOKEN, **fields)

    async def run(self, **fields: Any) -> list[ExportMessage]:
        return await read_all(await self.exports.open(self.wanted(**fields)))

    def sent(self) -> bytes:
        return bytes(self.far.uploads["1"].content)

    def leftovers(self) -> list[Path]:
        return list(self.folder.iterdir())


async def read_all(stream: ByteStream) -> list[ExportMessage]:
    messages = []
    while line := await stream.read():
        assert line.endswith(b"\n")
        messages.append(ExportMessage.model_validate(json.loads(line)))
    return messages


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "_FIRST_PAUSE_S", 0)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_an_image_of_the_engine_is_sent(host: Host) -> None:
    host.world.put_image(IMAGE, b"layers")
    messages = await host.run(image=IMAGE)
    assert host.sent() == b"layers"
    digest = f"sha256:{hashlib.sha256(b'layers').hexdigest()}"
    assert messages[-1] == ExportMessage(stage="done", done=6, total=6, sha256=digest)
    assert not host.leftovers()


async def test_an_image_is_pulled_first_where_that_is_wanted(host: Host) -> None:
    host.world.pullable.add(IMAGE)
    seen: list[Credentials | None] = []
    load = host.provider.images.load

    async def watched(image: str, *rest: Any, credentials: Credentials | None = None, **named: Any) -> Any:
        seen.append(credentials)
        return await load(image, *rest, credentials=credentials, **named)

    host.provider.images.load = watched  # type: ignore[method-assign]
    messages = await host.run(image=IMAGE, pull=True, username="me", password="mine")  # noqa: S106 - of nobody
    assert messages[-1].stage == "done"
    assert seen == [Credentials("me", "mine")]


@pytest.mark.parametrize("there", [False, True])
async def test_a_name_that_was_only_pulled_by_goes_again_unless_it_was_there_before(host: Host, there: bool) -> None:
    host.world.pullable.add(IMAGE)
    if there:
        host.world.put_image(IMAGE, b"layers")
    messages = await host.run(image=IMAGE, pull=True, borrow=True)
    assert messages[-1].stage == "done"
    assert await host.provider.images.has(IMAGE) is there


@pytest.mark.parametrize("there", [False, True])
async def test_an_image_that_was_pulled_for_the_library_goes_with_it_unless_it_was_there_before(
    host: Host, there: bool
) -> None:
    host.world.pullable.add(IMAGE)
    if there:
        await host.provider.images.load(IMAGE)
    await host.run(image=IMAGE, pull=True)
    info = await host.provider.images.info(IMAGE)
    assert info is not None
    assert host.pulled == ([] if there else [key_of("alpha", IMAGE, info.digest)])


async def test_an_image_is_known_as_pulled_although_sending_it_failed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.world.pullable.add(IMAGE)
    monkeypatch.setattr(exports, "_SPARE", 1 << 60)
    await host.run(image=IMAGE, pull=True)
    assert len(host.pulled) == 1


async def test_a_name_that_was_pulled_by_goes_also_when_nothing_can_be_sent(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.world.pullable.add(IMAGE)
    monkeypatch.setattr(exports, "_SPARE", 1 << 60)
    messages = await host.run(image=IMAGE, pull=True, borrow=True)
    assert (messages[-1].error or {})["code"] == "capacity-exceeded"
    assert not await host.provider.images.has(IMAGE)


async def test_an_image_that_is_not_there_is_an_error_in_the_stream(host: Host) -> None:
    messages = await host.run(image=IMAGE)
    assert messages[-1].error is not None
    assert messages[-1].error["code"] == "image-missing"


async def test_a_stopped_node_is_saved(host: Host) -> None:
    host.node(RuntimePhase.EXITED)
    messages = await host.run(lab_id="l1", node_id="n1")
    assert messages[-1].stage == "done"
    assert host.sent() == b"disk of rt1"
    assert not host.leftovers()


async def test_it_is_told_how_much_is_written_by_now(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_LOOK_S", 0.01)
    host.node(RuntimePhase.EXITED)
    host.saver.gate.clear()
    export = await host.exports.open(host.wanted(lab_id="l1", node_id="n1"))
    async with asyncio.timeout(60):
        while not ExportMessage.model_validate_json(await export.read()).done:
            continue
    host.saver.gate.set()
    messages = await read_all(export)
    assert messages[-1].stage == "done"


async def test_nothing_happens_to_a_node_while_it_is_saved(host: Host) -> None:
    host.node(RuntimePhase.EXITED)
    host.saver.gate.clear()
    export = asyncio.create_task(host.run(lab_id="l1", node_id="n1"))
    await eventually(host.lock.locked)
    host.saver.gate.set()
    await export
    assert not host.lock.locked()


@pytest.mark.parametrize(
    ("phase", "error"),
    [(RuntimePhase.RUNNING, Conflict), (RuntimePhase.GATED, Conflict), (RuntimePhase.UNKNOWN, Unavailable)],
)
async def test_a_node_that_may_run_is_refused_at_once(host: Host, phase: RuntimePhase, error: type[Exception]) -> None:
    host.node(phase)
    with pytest.raises(error):
        await host.exports.open(host.wanted(lab_id="l1", node_id="n1"))


async def test_a_node_that_was_started_while_it_waited_its_turn_is_refused(host: Host) -> None:
    host.node(RuntimePhase.EXITED)
    async with host.lock:
        export = await host.exports.open(host.wanted(lab_id="l1", node_id="n1"))
        await asyncio.sleep(0)
        host.node(RuntimePhase.RUNNING)
    messages = await read_all(export)
    assert messages[-1].error is not None
    assert messages[-1].error["code"] == "conflict"


async def test_what_makes_no_sense_is_refused_at_once(host: Host) -> None:
    with pytest.raises(InvalidInput):
        await host.exports.open(host.wanted())
    with pytest.raises(InvalidInput):
        await host.exports.open(host.wanted(image=IMAGE, node_id="n1"))
    with pytest.raises(NotFound):
        await host.exports.open(host.wanted(lab_id="l1", node_id="n1"))
    with pytest.raises(NotFound):
        await host.exports.open(host.wanted(image=IMAGE).model_copy(update={"provider": "nobody"}))
    host.provider.abilities = Abilities()
    host.node(RuntimePhase.EXITED)
    with pytest.raises(Unsupported):
        await host.exports.open(host.wanted(lab_id="l1", node_id="n1"))


async def test_a_failure_leaves_nothing_behind(host: Host) -> None:
    host.world.put_image(IMAGE, b"layers")
    host.world.fail("export", RuntimeFailed("the engine is confused"))
    messages = await host.run(image=IMAGE)
    assert messages[-1].error is not None
    assert messages[-1].error["code"] == "runtime-failed"
    assert not host.leftovers()


async def test_an_upload_that_is_gone_ends_it(host: Host) -> None:
    host.world.put_image(IMAGE, b"layers")
    wanted = host.wanted(image=IMAGE)
    host.far.uploads.clear()
    messages = await read_all(await host.exports.open(wanted))
    assert messages[-1].error is not None
    assert messages[-1].error["code"] == "not-found"
    assert not host.leftovers()


async def test_a_reader_that_leaves_ends_it_and_lets_go_of_the_node(host: Host) -> None:
    host.node(RuntimePhase.EXITED)
    host.saver.gate.clear()
    export = await host.exports.open(host.wanted(lab_id="l1", node_id="n1"))
    await eventually(host.lock.locked)
    await export.close()
    await export.close()
    assert not host.lock.locked()
    assert not host.leftovers()


async def test_a_stopping_agent_ends_them_all(host: Host) -> None:
    host.node(RuntimePhase.EXITED)
    host.saver.gate.clear()
    export = await host.exports.open(host.wanted(lab_id="l1", node_id="n1"))
    await eventually(host.lock.locked)
    await host.exports.close()
    assert await export.read() != b"never"
    assert not host.leftovers()


async def test_what_an_earlier_agent_left_is_removed(host: Host) -> None:
    (host.folder / "half").write_bytes(b"half")
    host.exports.prepare()
    assert not host.leftovers()
