"""Reflexes: what happens at one end of a link is shown at the other at once, before the loop looks at everything.

An event of the kernel or of an engine names a node; the carriers of its links are planned over what is known, and
set. The loop, which comes later and slower, finds them right, or corrects what the reflex could not know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from wireloom.agent.network import HostNetwork
from wireloom.agent.surroundings import Surroundings
from wireloom.agent.world import World
from wireloom.errors import WireloomError
from wireloom.model.network import PortEvent
from wireloom.model.slice import Slice
from wireloom.planning.wires import WirePlans
from wireloom.providers.contract import Provider

__all__ = ["Reflexes"]

log = structlog.get_logger(__name__)

#: A round is followed by a pause of so many times its length: a lab that starts has thousands of events.
_PAUSE_FACTOR: Final = 4
_LONGEST_PAUSE_S: Final = 0.08
#: Setting a machine's carriers is a call to its hypervisor; what takes longer is left to the loop.
_RUNTIME_S: Final = 10.0


class Reflexes:
    """Carriers only: joining, plugging and all that can wait is the loop's.

    :param slices: by lab id; :param busy: nodes of a lab with an action at work.
    """

    def __init__(
        self,
        *,
        network: HostNetwork,
        world: World,
        surroundings: Surroundings,
        providers: Mapping[str, Provider],
        slices: Mapping[str, Slice],
        busy: Callable[[str], frozenset[str]],
    ) -> None:
        self._network = network
        self._world = world
        self._surroundings = surroundings
        self._providers = providers
        self._slices = slices
        self._busy = busy
        self._due: dict[str, set[str]] = {}
        self._wake = asyncio.Event()
        self._setting: dict[str, asyncio.Task[None]] = {}

    def port_event(self, event: PortEvent) -> None:
        """The kernel says that a device of ours changed or went."""
        port = self._network.note(event)
        if port is not None:
            self.node_changed(port.alias.lab_id, port.alias.node_id)

    def node_changed(self, lab_id: str, node_id: str) -> None:
        """A node came, ended, or was shut off from a link."""
        if lab_id in self._slices and self._network.known:
            self._due.setdefault(lab_id, set()).add(node_id)
            self._wake.set()

    async def run(self) -> None:
        """React for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            began = time.monotonic()
            due, self._due = self._due, {}
            for lab_id, node_ids in due.items():
                lab = self._slices.get(lab_id)
                if lab is not None and not lab.removed:
                    await self._react(lab, node_ids)
            await asyncio.sleep(min((time.monotonic() - began) * _PAUSE_FACTOR, _LONGEST_PAUSE_S))

    async def _react(self, lab: Slice, node_ids: set[str]) -> None:
        plans = self._surroundings.plan(lab, node_ids, busy=self._busy(lab.lab_id))
        if plans.runtime_carriers or plans.device_carriers:
            log.debug("reflex", nodes=sorted(node_ids), on=plans.device_carriers, through=plans.runtime_carriers)
        for node_id, carriers in plans.runtime_carriers.items():
            self._set_on_runtime(lab, node_id, carriers)
        if plans.device_carriers:
            await self._network.change(WirePlans(device_carriers=plans.device_carriers))

    def _set_on_runtime(self, lab: Slice, node_id: str, carriers: Mapping[int, bool]) -> None:
        """One call for a node at a time; when it is over, what has come meanwhile is looked at."""
        if node_id in self._setting:
            return
        task = asyncio.create_task(self._set(node_id, carriers), name=f"carrier-{node_id}")
        self._setting[node_id] = task
        task.add_done_callback(lambda _: self._set_done(lab.lab_id, node_id, carriers))

    def _set_done(self, lab_id: str, node_id: str, carriers: Mapping[int, bool]) -> None:
        self._setting.pop(node_id, None)
        runtime = self._world.runtimes.get(node_id)
        # Only where it was done: a failure is the loop's to try again.
        if runtime is not None and all(runtime.carriers.get(index) == up for index, up in carriers.items()):
            self.node_changed(lab_id, node_id)

    async def _set(self, node_id: str, carriers: Mapping[int, bool]) -> None:
        name, runtime = self._world.provider_of(node_id), self._world.runtimes.get(node_id)
        provider = self._providers.get(name or "")
        control = provider.abilities.carrier if provider else None
        if name is None or runtime is None or control is None:
            return
        try:
            async with asyncio.timeout(_RUNTIME_S):
                await control.set_carrier(runtime.runtime_id, carriers)
                log.debug("carriers set", node=node_id, carriers=dict(carriers))
                await self._world.look(name, node_id, runtime.runtime_id)
        except (WireloomError, TimeoutError) as error:
            log.info("carrier not set at once", node=node_id, error=str(error))
        except Exception:  # nobody awaits these tasks: their edge is here
            log.exception("defect in a reflex", node=node_id)

    async def close(self) -> None:
        """Let go of what is at work."""
        tasks = list(self._setting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
