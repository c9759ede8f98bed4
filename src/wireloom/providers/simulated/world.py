"""The world that simulated providers act on. It outlives them, as real engines outlive an agent."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from wireloom.errors import CapacityExceeded, NotFound, Unavailable, WireloomError
from wireloom.model.orphans import Leftover
from wireloom.model.runtime import Capabilities, EventKind, ExecResult, ImageInfo, RuntimeEvent, RuntimeSpec
from wireloom.model.state import RuntimePhase
from wireloom.providers.boots import KEPT_BOOTS
from wireloom.providers.contract import Health
from wireloom.providers.simulated.settings import SimulatedSettings

__all__ = ["CONTAINER_LIKE", "MACHINE_LIKE", "SimulatedRuntime", "SimulatedWorld", "files_of", "image_file"]

#: How an image with a file system of its own begins.
_IMAGE_HEAD: Final = b'{"simulated-image": '

#: Ports between start and release, commands without a network: as containers do.
CONTAINER_LIKE = Capabilities(
    name="simulated",
    version="1",
    attachments="gated",
    exec=True,
    files=True,
    consoles=frozenset({"exec", "serial"}),
    binds=True,
    fractional_cpu=True,
    disk=True,
    moves=True,
)

#: Ports before start, carriers by the provider, media and serial lines: as virtual machines do.
MACHINE_LIKE = Capabilities(
    name="simulated",
    version="1",
    attachments="created",
    carrier="provider",
    acceleration="tcg",
    ports_fixed=True,
    media=frozenset({"iso", "fat"}),
    consoles=frozenset({"serial"}),
    disk=True,
    moves=True,
)

Answer = Callable[["SimulatedRuntime", Sequence[str], bytes], Awaitable[ExecResult]]
#: What the guest writes on a serial line when that is typed there: runtime, line, bytes.
LineAnswer = Callable[["SimulatedRuntime", int, bytes], bytes]


@dataclass(frozen=True)
class PreviousBoot:
    """A boot that has ended, and what was written on serial line 0."""

    started_at: float
    log: bytes


@dataclass
class SimulatedRuntime:
    """One runtime of the world. ``boots`` counts starts; ``released`` how often guest code began to run.

    ``storage`` is the guest's file system, kept until the runtime is destroyed; ``log`` is what it wrote on serial
    line 0 since power-on (``previous``: in earlier boots, newest first), ``lines`` what it wrote on the others, and
    ``typed`` what was typed, by line.
    """

    runtime_id: str
    spec: RuntimeSpec
    settings: SimulatedSettings
    phase: RuntimePhase = RuntimePhase.CREATED
    exit_code: int | None = None
    started_at: float | None = None
    boots: int = 0
    released: int = 0
    log: bytearray = field(default_factory=bytearray)
    previous: list[PreviousBoot] = field(default_factory=list)
    lines: dict[int, bytearray] = field(default_factory=dict)
    typed: dict[int, bytearray] = field(default_factory=dict)
    storage: dict[str, bytes] = field(default_factory=dict)
    carriers: dict[int, bool] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def up(self) -> bool:
        return self.phase in {RuntimePhase.GATED, RuntimePhase.RUNNING}

    @property
    def netns(self) -> str:
        """A made-up namespace path, new for each boot as on a real host."""
        return f"/simulated/{self.runtime_id}/{self.boots}"

    @property
    def kept_boots(self) -> tuple[float, ...]:
        """Start times of the boots whose log is kept, newest first."""
        now = () if self.started_at is None else (self.started_at,)
        return (*now, *(boot.started_at for boot in self.previous))

    def line(self, number: int) -> bytearray:
        """What was written on a serial line since power-on."""
        return self.log if number == 0 else self.lines.setdefault(number, bytearray())

    def notify(self) -> None:
        """Wake those who follow the log."""
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass
class _Fault:
    verb: str
    node: str | None
    error: WireloomError
    times: int
    after: bool


class SimulatedWorld:
    """Everything that simulated engines hold, and the script of what goes wrong.

    :ivar capabilities: what providers on this world declare; change it to be like either technology.
    :ivar runtimes: by runtime id, of all installations.
    :ivar images: by name. :ivar contents: files of images, by digest; :ivar damaged: digests of those that are.
    :ivar pullable: images that ``load`` without a file finds.
    :ivar max_runtimes: ``create`` beyond it is ``CapacityExceeded``.
    :ivar engine_up: while false every verb is ``Unavailable``.
    :ivar line_answer: the guest behind the serial lines; it echoes what is typed.
    :ivar calls: how often each verb was asked for, e.g. ``world.calls["create"]``.
    :ivar health: how nodes say that they are, by name; ``unknown`` where nothing is said.
    :ivar namespace_gone: called with the namespace of a runtime that went down.
    """

    def __init__(self, capabilities: Capabilities = CONTAINER_LIKE, *, clock: Callable[[], float] = time.time) -> None:
        self.capabilities = capabilities
        self.clock = clock
        self.runtimes: dict[str, SimulatedRuntime] = {}
        self.images: dict[str, ImageInfo] = {}
        self.contents: dict[str, bytes] = {}
        self.damaged: set[str] = set()
        self.pullable: set[str] = set()
        self.max_runtimes: int | None = None
        self.engine_up = True
        self.calls: Counter[str] = Counter()
        self.answer: Answer | None = None
        self.line_answer: LineAnswer = lambda _runtime, _line, typed: typed
        self.answers: dict[tuple[str, ...], ExecResult] = {}
        self.health: dict[str, Health] = {}
        #: By id: what interrupted steps have left.
        self.leftovers: dict[str, Leftover] = {}
        self.namespace_gone: list[Callable[[str], None]] = []
        self._delays: dict[tuple[str, str | None], float] = {}
        self._faults: list[_Fault] = []
        self._crashes: list[tuple[str | None, RuntimePhase, int]] = []
        self._watchers: dict[asyncio.Queue[RuntimeEvent], str] = {}
        self._numbers = itertools.count(1)

    # ------------------------------------------------------------------ the script

    def add_image(self, name: str, size: int = 1024) -> None:
        """Make an image present."""
        self.put_image(name, image_file(name, {}))
        self.images[name] = self.images[name].model_copy(update={"size": size})

    def put_image(self, name: str, content: bytes) -> None:
        """Give a name to a content, in place of what had it."""
        self.drop_image(name)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.contents[digest] = content
        self.images[name] = ImageInfo(name=name, digest=digest, size=len(content))

    def drop_image(self, name: str) -> None:
        """Take a name away; a content without one goes."""
        gone = self.images.pop(name, None)
        if gone is not None and all(known.digest != gone.digest for known in self.images.values()):
            self.contents.pop(gone.digest, None)

    def damage_image(self, name: str) -> None:
        """Let an image be found damaged when it is read, until it is loaded again."""
        self.damaged.add(self.images[name].digest)

    def delay(self, verb: str, seconds: float, *, node: str | None = None) -> None:
        """Let ``verb`` take that long, for one node (by name) or for all."""
        self._delays[verb, node] = seconds

    def fail(
        self, verb: str, error: WireloomError, *, node: str | None = None, times: int = 1, after: bool = False
    ) -> None:
        """Let ``verb`` fail; ``after``: its effect happens, and only the answer is lost."""
        self._faults.append(_Fault(verb, node, error, times, after))

    def crash_at(self, phase: RuntimePhase, *, node: str | None = None, exit_code: int = 1, times: int = 1) -> None:
        """Let a runtime end as soon as it reaches ``phase``."""
        self._crashes += [(node, phase, exit_code)] * times

    def crash(self, node: str, exit_code: int = 137) -> None:
        """End a node's runtime behind everyone's back."""
        self.power_off(self.by_node(node), exit_code)

    def restart_behind_back(self, node: str) -> None:
        """What an engine's own restart does: the runtime is at its gate again."""
        runtime = self.by_node(node)
        self.power_off(runtime, 0)
        self.power_on(runtime)

    def reboot_in_place(self, node: str) -> None:
        """What a guest does that resets itself: another boot of a runtime that never went down."""
        runtime = self.by_node(node)
        self._note_boot(runtime)
        self._publish_of(runtime, EventKind.STARTED)
        self._boot(runtime)

    def stop_engine(self) -> None:
        """Every verb is ``Unavailable`` until :meth:`start_engine`; runtimes live on."""
        self.engine_up = False
        for queue in self._watchers:
            queue.put_nowait(RuntimeEvent(kind=EventKind.LOST))

    def start_engine(self) -> None:
        self.engine_up = True
        for queue in self._watchers:
            queue.put_nowait(RuntimeEvent(kind=EventKind.RESYNC))

    def by_node(self, node: str) -> SimulatedRuntime:
        """The runtime of the node with that name. :raises NotFound:"""
        for runtime in self.runtimes.values():
            if runtime.spec.identity.node == node:
                return runtime
        raise NotFound(f"no simulated runtime of node {node}")

    # ------------------------------------------------------------------ what providers do

    async def before(self, verb: str, node: str | None) -> None:
        """What happens before a verb has its effect: its delay and its faults."""
        self.calls[verb] += 1
        seconds = self._delays.get((verb, node), self._delays.get((verb, None), 0))
        if seconds:
            await asyncio.sleep(seconds)
        if not self.engine_up:
            raise Unavailable("the simulated engine does not answer")
        self._raise_fault(verb, node, after=False)

    def after(self, verb: str, node: str | None) -> None:
        """Faults that lose the answer of a verb whose effect has happened."""
        self._raise_fault(verb, node, after=True)

    def add(self, spec: RuntimeSpec, settings: SimulatedSettings) -> SimulatedRuntime:
        """:raises CapacityExceeded: the world is full."""
        if self.max_runtimes is not None and len(self.runtimes) >= self.max_runtimes:
            raise CapacityExceeded(f"the simulated host takes {self.max_runtimes} runtimes")
        runtime = SimulatedRuntime(f"sim-{next(self._numbers):06d}", spec, settings)
        runtime.storage |= self._files_of_image(spec.image)
        runtime.storage |= {file.path: file.content for file in spec.files}
        self.runtimes[runtime.runtime_id] = runtime
        self._publish_of(runtime, EventKind.CREATED)
        self._crash_if_scripted(runtime)
        return runtime

    def remove(self, runtime: SimulatedRuntime) -> None:
        if runtime.up:
            self.power_off(runtime, 137)
        del self.runtimes[runtime.runtime_id]
        self._publish_of(runtime, EventKind.REMOVED)

    def power_on(self, runtime: SimulatedRuntime) -> None:
        """To the gate."""
        self._note_boot(runtime)
        runtime.phase = RuntimePhase.GATED
        runtime.exit_code = None
        self._publish_of(runtime, EventKind.STARTED)
        self._crash_if_scripted(runtime)

    def release(self, runtime: SimulatedRuntime) -> None:
        """The guest's own code begins to run."""
        runtime.phase = RuntimePhase.RUNNING
        runtime.released += 1
        self._crash_if_scripted(runtime)
        if runtime.phase is RuntimePhase.RUNNING:
            self._boot(runtime)

    def power_off(self, runtime: SimulatedRuntime, exit_code: int) -> None:
        for task in runtime.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        runtime.tasks.clear()
        runtime.phase = RuntimePhase.EXITED
        runtime.exit_code = exit_code
        for gone in self.namespace_gone:
            gone(runtime.netns)
        self._publish_of(runtime, EventKind.EXITED)
        runtime.notify()

    def write_log(self, runtime: SimulatedRuntime, text: bytes, line: int = 0) -> None:
        """The guest writes on one of its serial lines."""
        runtime.line(line).extend(text)
        runtime.notify()

    def type(self, runtime: SimulatedRuntime, line: int, data: bytes) -> None:
        """Somebody types on a serial line."""
        runtime.typed.setdefault(line, bytearray()).extend(data)
        if answer := self.line_answer(runtime, line, data):
            self.write_log(runtime, answer, line)

    def subscribe(self, installation: str) -> asyncio.Queue[RuntimeEvent]:
        """Events of that installation's runtimes, beginning with ``RESYNC``."""
        queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        queue.put_nowait(RuntimeEvent(kind=EventKind.RESYNC))
        self._watchers[queue] = installation
        return queue

    def unsubscribe(self, queue: asyncio.Queue[RuntimeEvent]) -> None:
        self._watchers.pop(queue, None)

    # ------------------------------------------------------------------ inside

    def _files_of_image(self, image: str) -> dict[str, bytes]:
        known = self.images.get(image)
        return {} if known is None else files_of(self.contents.get(known.digest, b""))

    def _note_boot(self, runtime: SimulatedRuntime) -> None:
        """Another boot begins: its log is its own."""
        if runtime.started_at is not None:
            ended = PreviousBoot(runtime.started_at, bytes(runtime.log))
            runtime.previous = [ended, *runtime.previous][:KEPT_BOOTS]
        runtime.boots += 1
        runtime.started_at = self.clock()
        runtime.log.clear()
        runtime.lines.clear()
        runtime.typed.clear()

    def _boot(self, runtime: SimulatedRuntime) -> None:
        settings = runtime.settings
        if settings.boot_s == 0:
            for line in settings.boot_lines:
                self._boot_line(runtime, line)
        else:
            runtime.tasks.append(asyncio.create_task(self._boot_slowly(runtime)))
        if settings.exit_after_s is not None:
            runtime.tasks.append(asyncio.create_task(self._exit_later(runtime, settings.exit_after_s)))

    async def _boot_slowly(self, runtime: SimulatedRuntime) -> None:
        lines = runtime.settings.boot_lines
        for line in lines:
            await asyncio.sleep(runtime.settings.boot_s / len(lines))
            self._boot_line(runtime, line)

    async def _exit_later(self, runtime: SimulatedRuntime, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.power_off(runtime, runtime.settings.exit_code)

    def _boot_line(self, runtime: SimulatedRuntime, line: str) -> None:
        self.write_log(runtime, (line.replace("{hostname}", runtime.spec.hostname) + "\n").encode())

    def _crash_if_scripted(self, runtime: SimulatedRuntime) -> None:
        for crash in self._crashes:
            node, phase, exit_code = crash
            if phase is runtime.phase and node in {None, runtime.spec.identity.node}:
                self._crashes.remove(crash)
                self.power_off(runtime, exit_code)
                return

    def _raise_fault(self, verb: str, node: str | None, *, after: bool) -> None:
        for fault in self._faults:
            if fault.verb == verb and fault.after == after and fault.node in {None, node}:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                raise fault.error

    def _publish_of(self, runtime: SimulatedRuntime, kind: EventKind) -> None:
        identity = runtime.spec.identity
        event = RuntimeEvent(kind=kind, runtime_id=runtime.runtime_id, node_id=identity.node_id)
        for queue, installation in self._watchers.items():
            if installation == identity.installation:
                queue.put_nowait(event)


def image_file(mark: str, files: Mapping[str, bytes]) -> bytes:
    """An image whose runtimes have these files from the beginning; ``mark`` tells it from others."""
    coded = {path: base64.b64encode(content).decode() for path, content in sorted(files.items())}
    return json.dumps({"simulated-image": mark, "files": coded}).encode()


def files_of(content: bytes) -> dict[str, bytes]:
    """Files in an image that :func:`image_file` made; one that is something else has none."""
    if not content.startswith(_IMAGE_HEAD):
        return {}
    return {path: base64.b64decode(text) for path, text in json.loads(content)["files"].items()}
