"""The kernel data plane: the contract's verbs, each one job for a single worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from wireloom.dataplane.kernel import firewall, links, selftest, watcher
from wireloom.dataplane.kernel.netlink import Netlink, check, open_transport
from wireloom.dataplane.kernel.observer import observe
from wireloom.dataplane.kernel.ports import Ports
from wireloom.dataplane.kernel.segments import Segments
from wireloom.dataplane.kernel.wires import Wires
from wireloom.errors import DeadlineExceeded, Unavailable
from wireloom.model.network import DataPlaneState, PortEvent, PortPlan, SegmentPlan, WirePlan

__all__ = ["KernelDataPlane"]

T = TypeVar("T")

#: The kernel answers in milliseconds; waiting longer means that its networking lock is stuck.
_DEADLINE_S: Final = 60.0


class _Kernel:
    """Everything that lives in the worker thread, over one netlink socket of the host's namespace."""

    def __init__(self, installation: str) -> None:
        self.installation = installation
        self.netlink = Netlink(open_transport())
        self.ports = Ports(self.netlink, installation)
        self.wires = Wires(self.netlink)
        self.segments = Segments(self.netlink, installation)

    def observe(self) -> DataPlaneState:
        return observe(self.netlink, self.installation)

    def set_carrier(self, carriers: Mapping[str, bool]) -> None:
        check(self.netlink.batch([links.set_flags(device, up=up) for device, up in carriers.items()]))


class KernelDataPlane:
    """Ports, wires and segments of one installation, made of kernel devices.

    Verbs may be called concurrently: they are done one after another, in a thread of their own, so that the
    event loop never waits for the kernel. A cancelled call may still take effect; all verbs are idempotent.

    :param installation: only devices whose alias names it are seen and touched.
    """

    name = "kernel"

    def __init__(self, installation: str) -> None:
        self._installation = installation
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wireloom-kernel")
        self._kernel: _Kernel | None = None
        self._closed = asyncio.Event()

    async def observe(self) -> DataPlaneState:
        return await self._do(lambda kernel: kernel.observe())

    async def ensure_ports(self, ports: Sequence[PortPlan]) -> None:
        await self._do(lambda kernel: kernel.ports.ensure(ports))

    async def remove_ports(self, devices: Sequence[str]) -> None:
        await self._do(lambda kernel: kernel.ports.remove(devices))

    async def ensure_wires(self, wires: Sequence[WirePlan]) -> None:
        await self._do(lambda kernel: kernel.wires.ensure(wires))

    async def remove_wires(self, wires: Sequence[WirePlan]) -> None:
        await self._do(lambda kernel: kernel.wires.remove(wires))

    async def set_carrier(self, carriers: dict[str, bool]) -> None:
        await self._do(lambda kernel: kernel.set_carrier(carriers))

    async def ensure_segment(self, segment: SegmentPlan) -> None:
        await self._do(lambda kernel: kernel.segments.ensure(segment))
        await firewall.accept_segment(segment.name)

    async def remove_segment(self, name: str) -> None:
        if await self._do(lambda kernel: kernel.segments.remove(name)):
            await firewall.forget_segment(name)

    async def self_test(self) -> None:
        stage = await self._do(lambda _: selftest.Stage.open())
        try:
            await selftest.run(self, stage, self._installation)
        finally:
            stage.close()

    def watch(self) -> AsyncIterator[PortEvent]:
        """Events from this call on, not only from the first that is awaited."""
        return watcher.watch(watcher.subscribe(), self._installation, self._closed)

    async def close(self) -> None:
        """Let go of sockets and the thread. Everything in the kernel stays."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._worker.submit(self._release)  # behind the jobs that still run
        self._worker.shutdown(wait=False)

    async def _do(self, job: Callable[[_Kernel], T]) -> T:
        """Run ``job`` in the worker thread.

        :raises DeadlineExceeded: the kernel did not answer; the job may still take effect.
        """
        if self._closed.is_set():
            raise Unavailable("the data plane is closed")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await loop.run_in_executor(self._worker, lambda: job(self._open()))
        except TimeoutError:
            raise DeadlineExceeded(f"the kernel's networking did not answer in {_DEADLINE_S:g} s") from None

    def _release(self) -> None:
        if self._kernel is not None:
            self._kernel.netlink.close()

    def _open(self) -> _Kernel:
        """The worker's own state, made in the worker: its socket belongs to the namespace of that thread."""
        if self._kernel is None:
            self._kernel = _Kernel(self._installation)
        return self._kernel
