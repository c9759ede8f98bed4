"""The libvirt provider: virtual machines behind the provider contract."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import libvirt

from wireloom.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    RuntimeFailed,
    Unavailable,
    Unsupported,
    WireloomError,
)
from wireloom.model.attachment import Attachment, TapAttachment
from wireloom.model.runtime import (
    Boot,
    Capabilities,
    ConsoleRequest,
    EventKind,
    ExecResult,
    RuntimeEvent,
    RuntimeSpec,
    RuntimeStats,
    RuntimeStatus,
)
from wireloom.model.slice import PortIntent
from wireloom.model.state import RuntimePhase
from wireloom.providers.contract import Abilities, ByteStream, ImageStore
from wireloom.providers.libvirt import acceleration, bootlog, cgroups, disks, domains, layout, process, qemu_img
from wireloom.providers.libvirt.acceleration import AccelerationWish
from wireloom.providers.libvirt.connection import Connections
from wireloom.providers.libvirt.console import SerialTails, open_serial
from wireloom.providers.libvirt.domains import Domain
from wireloom.providers.libvirt.events import EventHub
from wireloom.providers.libvirt.guest_agent import GuestAgentHealth
from wireloom.providers.libvirt.housekeeping import LibvirtHousekeeping
from wireloom.providers.libvirt.images import FolderImages
from wireloom.providers.libvirt.metadata import Run
from wireloom.providers.libvirt.porter import DiskPorter
from wireloom.providers.libvirt.qemu_img import BaseImage
from wireloom.providers.libvirt.reboots import Reboots
from wireloom.providers.libvirt.render import HostFeatures, render_domain
from wireloom.providers.libvirt.saver import DiskSaver
from wireloom.providers.libvirt.settings import LibvirtSettings, parse_settings
from wireloom.providers.libvirt.states import Observed, event_kind, interpret
from wireloom.providers.libvirt.taps import check_taps_exist, lost_taps

__all__ = ["LibvirtProvider"]

T = TypeVar("T")

#: libvirt is asked again this often while something that it will report is awaited: a net under lost events.
_LOOK_AGAIN_S: Final = 1.0

#: How long libvirt may take to notice that an emulator has ended.
_SETTLE_TIMEOUT_S: Final = 15.0

#: How long an observation waits for a libvirt that is busy with a dead emulator.
_STALL_S: Final = 0.3

_POWER_BUTTON_AGAIN_S: Final = 3.0

_CAPABILITIES_TIMEOUT_S: Final = 5.0


class LibvirtProvider:
    """Runs nodes as domains of the libvirtd at ``uri``, which must be on this host.

    :param installation: only domains that carry its label are seen and touched.
    :param image_folder: where images lie under their names.
    :param accelerate: ``auto`` decides by the CPU; see ``acceleration.py``.
    :param whole_frames: whether guests get NICs that leave no checksum to others, as what joins them would not compute
        it; asked whenever a domain is made.
    """

    name = "libvirt"

    def __init__(
        self,
        installation: str,
        *,
        uri: str = "qemu:///system",
        image_folder: Path,
        accelerate: AccelerationWish = "auto",
        whole_frames: Callable[[], bool] = lambda: False,
    ) -> None:
        self._installation = installation
        self._whole_frames = whole_frames
        self._acceleration = acceleration.probe(accelerate)
        self._hub = EventHub()
        self._connections = Connections(
            uri,
            self._lifecycle,
            rebooted=lambda uuid: self._attend(self._reboots.note(uuid)),
            lost=partial(self._hub.publish, EventKind.LOST),
            interrupted=partial(self._hub.publish, EventKind.RESYNC),
        )
        self._lookups: set[asyncio.Task[None]] = set()
        self._reboots = Reboots(self._connections, self._hub, self._find)
        self._seen: dict[str, Domain] = {}
        self._images = FolderImages(image_folder, self._bases_in_use, installation)
        self.images: ImageStore = self._images
        self.abilities = Abilities(
            carrier=self,
            health=GuestAgentHealth(self._connections),
            recent=SerialTails(self._get),
            saver=DiskSaver(self._get),
            porter=DiskPorter(self._get, self._images),
            housekeeping=LibvirtHousekeeping(self._connections, installation, self._images),
        )

    @staticmethod
    def settings_schema() -> dict[str, Any]:
        return LibvirtSettings.model_json_schema()

    async def capabilities(self) -> Capabilities:
        facts: dict[str, Any] = {"available": True}
        try:
            version = await self._connections.quick(_hypervisor_version, timeout_s=_CAPABILITIES_TIMEOUT_S)
            facts["version"] = version
            slow = self._acceleration.reason if self._acceleration.kind == "tcg" else ""
            facts["problem"] = "; ".join(filter(None, (slow, acceleration.device_problem())))
        except WireloomError as error:
            facts = {"available": False, "problem": str(error)}
        return Capabilities(
            name=self.name,
            attachments="created",
            carrier="provider",
            acceleration=self._acceleration.kind,
            ports_fixed=True,
            media=frozenset({"iso", "fat", "smbios"}),
            consoles=frozenset({"serial"}),
            fractional_cpu=cgroups.cpu_quota_works(),
            disk=True,
            moves=True,
            parallel_starts=2,
            **facts,
        )

    # ------------------------------------------------------------------ observation

    async def observe(self, runtime_id: str | None = None) -> Sequence[RuntimeStatus]:
        if runtime_id is None:
            found = await self._unless_stalled(self._all(), self._seen.values(), lambda: list(self._seen.values()))
        else:
            known = self._seen.get(runtime_id)
            concerned = [known] if known is not None else []
            domain = await self._unless_stalled(self._find(runtime_id), concerned, lambda: known)
            found = [] if domain is None else [domain]
        return [_status(domain) for domain in found]

    async def _all(self) -> list[Domain]:
        found = await self._connections.quick(partial(domains.of_installation, installation=self._installation))
        self._seen = {}
        for domain in found:
            self._notice(domain)
        return found

    async def _unless_stalled(
        self, question: Coroutine[Any, Any, T], concerned: Iterable[Domain], known: Callable[[], T]
    ) -> T:
        """The answer to ``question``, or what was ``known`` before when libvirt is busy with a dead emulator.

        libvirt answers nothing about a domain until its dead emulator has been reaped, which can take seconds; that
        it is dead is known from its process at once.
        """
        dying = any(domain.active and _is_dead(domain) for domain in concerned)
        try:
            async with asyncio.timeout(_STALL_S if dying else None):
                return await question
        except TimeoutError:
            return known()

    async def _find(self, runtime_id: str) -> Domain | None:
        domain = await self._connections.quick(partial(domains.find, uuid=runtime_id, installation=self._installation))
        if domain is not None:
            self._notice(domain)
        return domain

    async def _get(self, runtime_id: str) -> Domain:
        domain = await self._find(runtime_id)
        if domain is None:
            raise NotFound(f"there is no virtual machine {runtime_id}")
        return domain

    def _notice(self, domain: Domain) -> None:
        self._seen[domain.uuid] = domain
        self._hub.remember(domain.uuid, domain.labels.identity.node_id)
        if domain.active:
            self._hub.watch_process(domain.uuid, domain.name)

    # ------------------------------------------------------------------ life

    async def create(self, spec: RuntimeSpec) -> str:
        settings = parse_settings(spec.settings)
        _refuse_what_cannot_be(spec)
        layout.check_paths(spec)
        known = await self._connections.quick(partial(domains.existing, spec=spec))
        with self._images.claimed(spec.image):
            base = await self._images.base(spec.image)
            async with AsyncExitStack() as undo:
                disks.ensure_folders(spec, undo)
                await disks.ensure_disks(spec, settings, base, undo)
                domain = known or await self._define(spec, settings, base)
                undo.pop_all()
        self._notice(domain)
        return domain.uuid

    async def _define(self, spec: RuntimeSpec, settings: LibvirtSettings, base: BaseImage) -> Domain:
        xml = render_domain(spec, settings, await self._features(spec, base))
        define = partial(domains.define, spec=spec, xml=xml)
        domain, _new = await self._connections.quick(define, undo=_undo_define)
        return domain

    async def _features(self, spec: RuntimeSpec, base: BaseImage) -> HostFeatures:
        version = await self._connections.quick(lambda connection: int(connection.getLibVersion()))
        direct = qemu_img.direct_io_works(spec.storage) and qemu_img.direct_io_reads(base.path)
        return HostFeatures(
            acceleration=self._acceleration,
            libvirt_version=version,
            direct_io=direct,
            whole_frames=self._whole_frames(),
            base=base if disks.is_open(base.path) else None,
        )

    async def start(self, runtime_id: str) -> None:
        domain = await self._get(runtime_id)
        if domain.active:
            if _interpret(domain).phase is not RuntimePhase.EXITED:
                return
            await self._until_inactive(runtime_id, _SETTLE_TIMEOUT_S)
        check_taps_exist(domain)
        run = Run(started_at=time.time())
        bootlog.begin_boot(domain.logs, runtime_id, run.started_at)
        try:
            await self._connections.power(
                partial(domains.power_on, uuid=runtime_id, run=run),
                undo=lambda connection, result: domains.power_off(connection, runtime_id),
            )
        except RuntimeFailed as error:
            error.hint = error.hint or disks.access_hint(domain.disks) or f"see {process.emulator_log(domain.name)}"
            raise
        self._hub.watch_process(runtime_id, domain.name)

    async def release(self, runtime_id: str) -> None:
        domain = await self._get(runtime_id)
        phase = _interpret(domain).phase
        if phase in {RuntimePhase.RUNNING, RuntimePhase.SUSPENDED}:
            return
        if phase is not RuntimePhase.GATED or domain.run is None:
            raise RuntimeFailed("the virtual machine is not waiting at its gate", details={"phase": phase})
        lost = await asyncio.to_thread(lost_taps, domain)
        if lost:
            # The emulator holds the old devices; only a new power-on opens those that carry the names now.
            await self._power_off(runtime_id)
            raise RuntimeFailed(
                f"host ports were made anew while the virtual machine waited: {', '.join(sorted(lost))}",
                details={"devices": sorted(lost)},
            )
        run = Run(started_at=domain.run.started_at, released=True)
        await self._connections.quick(partial(domains.release, uuid=runtime_id, run=run))

    async def stop(self, runtime_id: str, grace_s: float) -> None:
        domain = await self._get(runtime_id)
        if not domain.active:
            return
        if grace_s > 0 and _interpret(domain).phase is RuntimePhase.RUNNING:
            with contextlib.suppress(DeadlineExceeded):
                await self._shut_down(runtime_id, grace_s)
                return
        await self._power_off(runtime_id)

    async def _shut_down(self, runtime_id: str, grace_s: float) -> None:
        """Ask the guest to end, again and again: one that is still booting hears nothing yet."""
        deadline = time.monotonic() + grace_s
        while (left := deadline - time.monotonic()) > 0:
            await self._connections.quick(partial(domains.press_power_button, uuid=runtime_id))
            with contextlib.suppress(DeadlineExceeded):
                return await self._until_inactive(runtime_id, min(left, _POWER_BUTTON_AGAIN_S))
        raise DeadlineExceeded("the guest did not shut down")

    async def destroy(self, runtime_id: str) -> None:
        domain = await self._find(runtime_id)
        if domain is None:
            return
        if domain.active:
            await self._power_off(runtime_id)
        await self._connections.quick(partial(domains.undefine, uuid=runtime_id))
        process.remove_emulator_log(domain.name)
        self._seen.pop(runtime_id, None)
        self._hub.release(runtime_id)

    async def _power_off(self, runtime_id: str) -> None:
        await self._connections.power(partial(domains.power_off, uuid=runtime_id))

    async def _until_inactive(self, runtime_id: str, timeout_s: float) -> None:
        """Wait until libvirt has the domain as off. :raises DeadlineExceeded:"""
        try:
            async with asyncio.timeout(timeout_s):
                with self._hub.subscribe() as events:
                    while (domain := await self._find(runtime_id)) is not None and domain.active:
                        await _next_about(runtime_id, events)
        except TimeoutError:
            raise DeadlineExceeded(f"the virtual machine did not end within {timeout_s:g} s") from None

    # ------------------------------------------------------------------ ports

    async def attachment(self, runtime_id: str, port: PortIntent) -> Attachment | None:
        domain = await self._find(runtime_id)
        known = domain is not None and domain.devices.get(port.index) == port.device
        return TapAttachment() if known else None

    async def set_carrier(self, runtime_id: str, carriers: Mapping[int, bool]) -> None:
        await self._get(runtime_id)
        await self._connections.cables(partial(domains.set_links, uuid=runtime_id, carriers=carriers))

    # ------------------------------------------------------------------ access

    async def console(self, runtime_id: str, request: ConsoleRequest) -> ByteStream:
        if request.kind != "serial":
            raise Unsupported("a virtual machine has serial consoles only", hint="use its serial line or SSH")
        domain = await self._get(runtime_id)
        if not 0 <= request.line < len(domain.sockets):
            raise InvalidInput(f"the virtual machine has no serial line {request.line}")
        return await open_serial(domain.sockets[request.line])

    async def exec(
        self, runtime_id: str, command: Sequence[str], *, timeout_s: float, stdin: bytes = b""
    ) -> ExecResult:
        del runtime_id, command, timeout_s, stdin
        raise Unsupported("commands run in a virtual machine over its serial line or SSH only")

    async def boot_log(self, runtime_id: str, *, follow: bool = False, boot: int = 0) -> AsyncIterator[bytes]:
        domain = await self._get(runtime_id)
        log = bootlog.log_of_boot(domain.logs, runtime_id, boot)
        if log is None:
            return
        async with self._liveness(domain) if follow and boot == 0 else contextlib.nullcontext() as lives:
            async for chunk in bootlog.read_log(log, lives):
                yield chunk

    async def boots(self, runtime_id: str) -> Sequence[Boot]:
        domain = await self._get(runtime_id)
        return bootlog.boots_of(domain.logs, runtime_id)

    @contextlib.asynccontextmanager
    async def _liveness(self, domain: Domain) -> AsyncIterator[Callable[[], bool]]:
        """A function that tells, without asking libvirt each time, whether the domain's emulator lives."""
        watcher = asyncio.create_task(self._until_exited(domain.uuid))
        try:
            yield lambda: not watcher.done()
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _until_exited(self, uuid: str) -> None:
        with self._hub.subscribe() as events:
            while await self._lives(uuid):
                while (await events.get()).runtime_id not in {uuid, ""}:
                    pass

    async def _lives(self, uuid: str) -> bool:
        """Whether the domain is on; while libvirt does not answer, it is taken to be (virtual machines outlive it)."""
        try:
            domain = await self._find(uuid)
        except (Unavailable, DeadlineExceeded):
            return True
        return domain is not None and _interpret(domain).phase in _LIVE

    async def stats(self, runtime_id: str) -> RuntimeStats:
        return await self._connections.quick(partial(domains.stats, uuid=runtime_id))

    async def watch(self) -> AsyncIterator[RuntimeEvent]:
        with self._hub.subscribe() as events:
            await self._connections.opened()
            yield RuntimeEvent(kind=EventKind.RESYNC)
            while True:
                yield await events.get()

    async def close(self) -> None:
        for lookup in self._lookups:
            lookup.cancel()
        self._hub.close()
        await self._connections.close()

    # ------------------------------------------------------------------ events

    def _lifecycle(self, uuid: str, event: int, detail: int) -> None:
        """On the loop, for every domain of the host: publish what concerns ours."""
        kind = event_kind(event, detail)
        if kind is None:
            return
        if self._hub.knows(uuid) and kind is not EventKind.STARTED:
            self._publish(kind, uuid)
        elif kind is not EventKind.REMOVED:  # unknown so far, or a new process to watch: its labels tell whose it is
            self._attend(self._publish_if_ours(kind, uuid))

    async def _publish_if_ours(self, kind: EventKind, uuid: str) -> None:
        try:
            if await self._find(uuid) is not None:
                self._publish(kind, uuid)
        except WireloomError:
            self._hub.publish(EventKind.RESYNC)  # what happened cannot be told now

    def _attend(self, job: Coroutine[Any, Any, None]) -> None:
        """Do what an event asks for beside the others."""
        lookup = asyncio.get_running_loop().create_task(job)
        self._lookups.add(lookup)
        lookup.add_done_callback(self._lookups.discard)

    def _publish(self, kind: EventKind, uuid: str) -> None:
        self._hub.publish(kind, uuid)
        if kind is EventKind.REMOVED:
            self._hub.forget(uuid)
            self._seen.pop(uuid, None)

    async def _bases_in_use(self) -> frozenset[Path]:
        files = await self._connections.quick(domains.disk_files)
        return await asyncio.to_thread(_with_bases, files)


_LIVE: Final = frozenset({RuntimePhase.GATED, RuntimePhase.RUNNING, RuntimePhase.SUSPENDED})


def _status(domain: Domain) -> RuntimeStatus:
    seen = _interpret(domain)
    started = domain.run.started_at if domain.run is not None else None
    return RuntimeStatus(
        runtime_id=domain.uuid,
        name=domain.name,
        identity=domain.labels.identity,
        incarnation=domain.labels.incarnation,
        spec_hash=domain.labels.spec_hash,
        phase=seen.phase,
        exit_code=seen.exit_code,
        started_at=started,
        detail=seen.detail,
        carriers=dict(domain.carriers),
    )


def _interpret(domain: Domain) -> Observed:
    lives = not (domain.active and _is_dead(domain))
    return interpret(domain.state, domain.reason, domain.run, process_alive=lives)


def _is_dead(domain: Domain) -> bool:
    return process.alive(domain.name, domain.uuid) is False


def _refuse_what_cannot_be(spec: RuntimeSpec) -> None:
    if spec.files:
        raise Unsupported("files cannot be put into a virtual machine; use a medium", node=spec.identity.node)
    if spec.binds:
        raise Unsupported("host folders cannot be shown in a virtual machine", node=spec.identity.node)


async def _next_about(uuid: str, events: asyncio.Queue[RuntimeEvent]) -> None:
    """Wait for an event about ``uuid`` or for a resync, but not for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_AGAIN_S):
            while (await events.get()).runtime_id not in {uuid, ""}:
                pass


def _with_bases(files: Sequence[Path]) -> frozenset[Path]:
    found = set(files)
    for file in files:
        base = disks.backing_file(file)
        if base is not None:
            found.add(base.resolve())
    return frozenset(found)


def _undo_define(connection: libvirt.virConnect, result: tuple[Domain, bool]) -> None:
    domain, new = result
    if new:
        domains.undefine(connection, domain.uuid)


def _hypervisor_version(connection: libvirt.virConnect) -> str:
    return f"libvirt {_dotted(connection.getLibVersion())}, QEMU {_dotted(connection.getVersion())}"


def _dotted(version: int) -> str:
    """9000001 → 9.0.1"""
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
