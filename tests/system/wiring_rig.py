"""A host for random rewiring: simulated engines, whose nodes have real namespaces and taps on the real kernel.

Everything above the kernel is an agent's own (planner, loop, runner, hooks), so each step costs milliseconds and not
a container's or machine's start.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from agent_rig import Agent, Host

from wireloom.dataplane.contract import DataPlane
from wireloom.model.attachment import Attachment, NamespaceAttachment
from wireloom.model.slice import PortIntent
from wireloom.model.state import RuntimePhase
from wireloom.planning.plan import plan
from wireloom.providers.simulated import SimulatedProvider, SimulatedRuntime, SimulatedWorld
from wireloom.testing.frames import ethernet, source_address, source_of
from wireloom.testing.guests import Guest, NamespaceGuest, TapGuest, run_command

__all__ = ["DESTINATIONS", "Heard", "Port", "RealHost", "Talk", "quiet"]

NET: Final = Path("/sys/class/net")
#: A group that every ordinary bridge eats, and all ports that a frame may be flooded to.
DESTINATIONS: Final = ("0180c200000e", "ffffffffffff")
#: How long a frame that must not arrive has to do so, when all that must have arrived.
_NOISE_S: Final = 0.02
_ARRIVAL_S: Final = 1.0

#: A port of a node, by the node's name and the port's index.
Port = tuple[str, int]
#: Who heard whom how often: (sender, listener, destination) → frames.
Heard = Counter[tuple[Port, Port, str]]


class RealHost(Host):
    """What outlives an agent; its own installation on the kernel.

    :param factory: makes the data plane of an installation.
    """

    def __init__(self, folder: Path, factory: Callable[[str], DataPlane]) -> None:
        super().__init__(folder)
        self.installation = f"wiring-{secrets.token_hex(4)}"
        self._factory = factory
        # Worlds make up the same names for their boots, so each has guests of its own.
        self._guests = {name: _Guests() for name in self.worlds}
        for name, world in self.worlds.items():
            world.namespace_gone.append(self._guests[name].boot_ended)

    def dataplane(self) -> DataPlane:
        return self._factory(self.installation)

    def providers(self) -> dict[str, SimulatedProvider]:
        return {
            name: _RealPorts(self.installation, world, name, self._guests[name]) for name, world in self.worlds.items()
        }

    def runtimes(self) -> Iterator[tuple[str, SimulatedRuntime]]:
        """Those whose guests run, with the names of their providers."""
        for name, world in self.worlds.items():
            for runtime in world.runtimes.values():
                if runtime.phase is RuntimePhase.RUNNING:
                    yield name, runtime

    async def speakers(self) -> dict[Port, Guest]:
        """The guest's side of every port of the nodes that run, where it can send."""
        found: dict[Port, Guest] = {}
        for name, runtime in self.runtimes():
            for port in runtime.spec.ports:
                guest = await self._guests[name].open(self.worlds[name], runtime, port)
                if guest is not None:
                    found[runtime.spec.identity.node, port.index] = guest
        return found

    def carriers(self) -> dict[Port, bool]:
        """What the guests that run see of their cables."""
        found: dict[Port, bool] = {}
        for name, runtime in self.runtimes():
            by_provider = self.worlds[name].capabilities.carrier == "provider"
            for port in runtime.spec.ports:
                key = runtime.spec.identity.node, port.index
                if by_provider:
                    found[key] = runtime.carriers.get(port.index, True)
                else:
                    found[key] = self._guests[name].carrier(runtime, port)
        return found

    async def shut(self, port: Port, down: bool) -> None:
        """A guest in a namespace shuts or opens one of its ports."""
        node, index = port
        for name, runtime in self.runtimes():
            if runtime.spec.identity.node == node:
                namespace = await self._guests[name].namespace(runtime.netns)
                nic = next(intent.guest_name for intent in runtime.spec.ports if intent.index == index)
                await run_command("ip", "-n", Path(namespace).name, "link", "set", nic, "down" if down else "up")

    def debris(self) -> list[str]:
        """What is left of this installation, and of its guests."""
        left = [path.name for path in NET.iterdir() if self.installation in _read(path / "ifalias")]
        left += [runtime_id for world in self.worlds.values() for runtime_id in world.runtimes]
        return left + [thing for guests in self._guests.values() for thing in guests.left()]


class _RealPorts(SimulatedProvider):
    """Simulated runtimes, whose attachments are the kernel's."""

    def __init__(self, installation: str, world: SimulatedWorld, name: str, guests: _Guests) -> None:
        super().__init__(installation, world, name=name)
        self._guests = guests

    async def attachment(self, runtime_id: str, port: PortIntent) -> Attachment | None:
        found = await super().attachment(runtime_id, port)
        if isinstance(found, NamespaceAttachment):
            return NamespaceAttachment(netns=await self._guests.namespace(found.netns))
        return found

    async def start(self, runtime_id: str) -> None:
        await super().start(runtime_id)
        runtime = self.world.runtimes.get(runtime_id)
        if runtime is not None and runtime.up and self.world.capabilities.attachments == "created":
            self._guests.attach(runtime)


class _Guests:
    """Namespaces and open taps of the nodes' boots; a boot is named by the path that its world has made up for it."""

    def __init__(self) -> None:
        self._namespaces: dict[str, str] = {}
        self._taps: dict[str, dict[int, TapGuest]] = {}
        self._nics: dict[tuple[str, int], tuple[str, NamespaceGuest]] = {}
        self._lock = asyncio.Lock()

    async def namespace(self, boot: str) -> str:
        """The real namespace of a boot."""
        async with self._lock:
            if boot not in self._namespaces:
                name = f"wlt-{secrets.token_hex(4)}"
                await run_command("ip", "netns", "add", name)
                setting = "net.ipv6.conf.default.disable_ipv6=1"
                await run_command("ip", "netns", "exec", name, "sysctl", "-qw", setting)
                self._namespaces[boot] = f"/run/netns/{name}"
            return self._namespaces[boot]

    def attach(self, runtime: SimulatedRuntime) -> None:
        """What a hypervisor does when its machine starts."""
        taps = self._taps.setdefault(runtime.netns, {})
        for port in runtime.spec.ports:
            taps[port.index] = TapGuest.open(port.device)
            with contextlib.suppress(OSError):
                # Reading it has the kernel act on the carrier now, not within a second.
                (NET / port.device / "carrier").read_text()

    def boot_ended(self, boot: str) -> None:
        """A container's namespace goes with its last process, a hypervisor lets go of its taps."""
        for tap in self._taps.pop(boot, {}).values():
            tap.close()
        for key in [key for key in self._nics if key[0] == boot]:
            self._nics.pop(key)[1].close()
        path = self._namespaces.pop(boot, None)
        if path is not None:
            subprocess.run(["ip", "netns", "del", Path(path).name], check=True, timeout=20)

    async def open(self, world: SimulatedWorld, runtime: SimulatedRuntime, port: PortIntent) -> Guest | None:
        """``None`` where the guest cannot send: its NIC is not there, or its hypervisor has pulled the cable."""
        if world.capabilities.attachments == "created":
            tap = self._taps[runtime.netns].get(port.index)
            if tap is None or runtime.carriers.get(port.index, True):
                return tap
            while tap.read() is not None:  # a hypervisor drops what comes while the cable is out
                pass
            return None
        key = runtime.netns, port.index
        # New for each device that is made.
        index = _read(NET / port.device / "ifindex")
        known = self._nics.get(key)
        if known is not None and known[0] == index:
            return known[1]
        if known is not None:  # the pair was made anew
            self._nics.pop(key)[1].close()
        if not index:
            return None
        nic = await NamespaceGuest.open(self._namespaces[runtime.netns], port.guest_name)
        self._nics[key] = index, nic
        return nic

    def carrier(self, runtime: SimulatedRuntime, port: PortIntent) -> bool:
        known = self._nics.get((runtime.netns, port.index))
        return known is not None and known[1].carrier()

    def left(self) -> list[str]:
        return [*self._namespaces.values(), *self._taps]


def _read(path: Path) -> str:
    """What the kernel says of a device; empty: it has gone."""
    try:
        return path.read_text()
    except OSError:
        return ""


def quiet(agent: Agent, lab_id: str) -> bool:
    """The agent has nothing to do and nothing under way, and knows what the kernel holds."""
    reconciler = agent.reconciler
    lab = reconciler.slices.get(lab_id)
    if lab is None or not agent.network.settled:
        return False
    observed = reconciler.observe(lab)
    return not observed.busy and plan(lab, observed, 0).empty


class Talk:
    """Frames that guests send to each of :data:`DESTINATIONS`, and who hears them.

    :ivar heard: of the frames that were sent last.
    :ivar pairs: (speaker, listener) of all frames, late ones too, since this was last cleared.
    """

    def __init__(self) -> None:
        self._senders: dict[bytes, tuple[Port, str, int]] = {}
        self._round = 0
        self.heard: Heard = Counter()
        self.pairs: set[tuple[Port, Port]] = set()

    def speak(self, guests: Mapping[Port, Guest]) -> None:
        """Let every guest send one frame to each destination."""
        self._round += 1
        self.heard = Counter()
        for port, guest in guests.items():
            for destination in DESTINATIONS:
                frame = ethernet(destination, bytes.fromhex("88cc") + secrets.token_bytes(46), source_address())
                self._senders[source_of(frame)] = port, destination, self._round
                with contextlib.suppress(OSError):  # a NIC without a cable may say so, and nodes end meanwhile
                    guest.send(frame)

    def listen(self, guests: Mapping[Port, Guest]) -> None:
        """Note what has arrived. What no guest has sent is the host's."""
        for port, guest in guests.items():
            with contextlib.suppress(OSError):
                while (frame := guest.read()) is not None:
                    self._note(port, frame)

    def _note(self, listener: Port, frame: bytes) -> None:
        speaker, destination, number = self._senders.get(source_of(frame), (("the host", 0), frame.hex(), self._round))
        self.pairs.add((speaker, listener))
        if number == self._round:
            self.heard[speaker, listener, destination] += 1

    async def converse(self, guests: Mapping[Port, Guest], expected: Heard) -> Heard:
        """Speak and listen until all of ``expected`` was heard, and a little longer for what should not be."""
        self.speak(guests)
        deadline = asyncio.get_running_loop().time() + _ARRIVAL_S
        while expected - self.heard and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.001)
            self.listen(guests)
        await asyncio.sleep(_NOISE_S)
        self.listen(guests)
        return self.heard
