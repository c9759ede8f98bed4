"""The conformance suite of guest access: every purpose over every channel, the same on each technology.

A check gets a node that runs an emulated guest (:mod:`guest_devices`) and uses it as a user does, through API,
controller and agent. It returns the channel that answered, which is what the table in the documentation shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from wireloom.client import Client
from wireloom.client.console import ConsoleStream
from wireloom.devices import DeviceCatalogue
from wireloom.model.state import Readiness
from wireloom.model.views import ExecView, NodeView
from wireloom.testing.conformance.guest_devices import DAY0_FILE, DAY0_MARK, MARK, Guest, Technology

__all__ = ["CHECKS", "LAB", "Access", "topology_of"]

#: Under emulation on two busy cores a machine takes this long at most, from its power-on to its first prompt.
BOOT_S: Final = 180.0
DIALOGUE_S: Final = 90.0
LAB: Final = "lab-{name}-{technology}"


@dataclass(frozen=True)
class Access:
    """A node to be checked, and the way to it."""

    guest: Guest
    technology: Technology
    client: Client

    @property
    def lab(self) -> str:
        return LAB.format(name=self.guest.name, technology=self.technology)

    async def node(self) -> NodeView:
        view = await self.client.lab(self.lab)
        return view.nodes[0]

    @property
    def node_name(self) -> str:
        return MARK

    def probes(self) -> str:
        """The probes that had to hold; a guest has the channels of all of them."""
        declared = DeviceCatalogue.load(strict=False).get(self.guest.device).ready
        kinds = [probe.kind for probe in declared.probes]
        if (changed := self.guest.changes.get("ready")) is not None:
            return " ".join(step if isinstance(step, str) else next(iter(step)) for step in changed["chain"])
        return {"first": kinds[0], "all": " and ".join(kinds), "any": " or ".join(kinds)}[declared.rule]

    async def run(self, line: str) -> ExecView:
        """Run a command, written as its user writes it in a shell."""
        return await self.client.exec(self.lab, self.node_name, shlex.split(line), timeout_s=DIALOGUE_S)

    def method(self) -> str:
        """How the startup configuration gets in on this technology, in words of the device file."""
        shipped = DeviceCatalogue.load(strict=False).get(self.guest.device)
        if "day0" in self.guest.changes:
            return "serial dialogue"
        first = shipped.day0[0]
        if self.technology == "libvirt" or first.method in {"file", "bind"}:
            return f"{first.method} `{first.path}`" + (f" in `{first.archive}`" if first.archive else "")
        return f"file for {first.method} `{first.path}`"


def topology_of(guest: Guest, technology: Technology) -> str:
    """A lab with the guest alone, whose name is the mark, and one post-boot command of the user's."""
    text = (
        f"name: {LAB.format(name=guest.name, technology=technology)}\n"
        f"nodes:\n  {MARK}:\n    device: {guest.device_name}\n"
        f"    provider: {technology}\n    exec: [{guest.version!r}]\n    spare-ports: 0\n"
    )
    if guest.config:
        text += "    startup-config: |\n" + "".join(f"      {line}\n" for line in guest.config.splitlines())
    return text


# -- checks ------------------------------------------------------------------------------------------------------


async def check_ready(access: Access) -> str:
    """The node becomes ready by what its device declares."""
    end = time.monotonic() + BOOT_S
    while (node := await access.node()).ready is not Readiness.YES:
        assert node.error is None, node.error
        assert time.monotonic() < end, f"not ready: {node.state} {node.ready} {node.message}"
        await asyncio.sleep(0.5)
    return access.probes()


async def check_day0(access: Access) -> str:
    """The guest runs its startup configuration, from the medium that it reads by itself."""
    if not access.guest.shown:
        answer = await access.client.exec(access.lab, access.node_name, ["cat", DAY0_FILE], timeout_s=DIALOGUE_S)
        assert DAY0_MARK in answer.stdout, answer
        return access.method()
    shown = await access.client.configs.text(access.lab, access.node_name, "running")
    assert access.guest.shown in shown.text, shown.text
    return access.method()


async def check_post_boot(access: Access) -> str:
    """The user's command was run once after readiness, and its output is recorded."""
    end = time.monotonic() + DIALOGUE_S
    while True:
        records = await access.client.post_boot(access.lab, access.node_name)
        if records and records[0].finished_at is not None:
            break
        assert time.monotonic() < end, f"post-boot commands are not done: {records}"
        await asyncio.sleep(0.3)
    assert records[0].failed is None, records
    ours = records[0].commands[-1]
    assert access.guest.expected in ours.output, ours
    return ours.channel


async def check_run(access: Access) -> str:
    """A command's output comes without echo, prompt and pager; a refused one has an exit code."""
    answer = await access.run(access.guest.version)
    assert access.guest.expected in answer.stdout, answer
    assert answer.exit_code == 0, answer
    assert answer.channel == access.guest.run, answer
    refused = await access.run(access.guest.nonsense)
    assert refused.exit_code != 0, refused
    return answer.channel


async def check_extract(access: Access) -> str:
    """The configuration is stored as a revision, without prompt, pager and messages in between."""
    if not access.guest.shown:
        return ""
    client = access.client
    operation = await client.configs.extract(access.lab, [access.node_name])
    operation = await client.wait(operation, timeout_s=DIALOGUE_S)
    assert operation.state == "done", operation
    stored = await client.configs.text(access.lab, access.node_name, "latest")
    assert access.guest.shown in stored.text, stored.text
    for foreign in ("More", "more)", "%LINEPROTO", "%LLDP", "ifmgr[257]", "UI_CHILD", "mgmtsrvr", "\r", "\b", "\x1b"):
        assert foreign not in stored.text, stored.text
    assert stored.revision is not None
    assert stored.revision.channel == access.guest.extract, stored.revision
    return stored.revision.channel


async def check_load(access: Access) -> str:
    """A stored configuration is loaded into the running guest, which goes on running."""
    if not access.guest.edit:
        return ""
    client = access.client
    before = await access.node()
    revision = await client.configs.upload(access.lab, access.node_name, access.guest.edit)
    operation = await client.configs.restore(access.lab, access.node_name, str(revision.number))
    operation = await client.wait(operation, timeout_s=DIALOGUE_S)
    assert operation.state == "done", operation
    shown = await client.configs.text(access.lab, access.node_name, "running")
    assert access.guest.edited in shown.text, shown.text
    assert (await access.node()).started_at == before.started_at
    told = [event for event in await client.events(access.lab) if event.kind == "config.restored"]
    assert [event.message for event in told] == [
        f"{access.node_name}: revision {revision.number} loaded over {access.guest.load}"
    ], told
    return access.guest.load


async def check_console(access: Access) -> str:
    """Somebody at the console gets an answer, and somebody who only watches sees the same."""
    shared = access.guest.name != "ceos"
    async with _console(access) as first, _console(access, read_only=shared) as second:
        answered: list[bytes] = []
        for stream in (first, second) if shared else (first,):
            await first.write(b"\r")
            answered.append(await _heard(stream))
    assert all(answered), answered
    return "serial" if shared else "exec"


async def check_log(access: Access) -> str:
    """The log has what the guest printed at power-on."""
    text = b"".join([chunk async for chunk in access.client.log(access.lab, access.node_name)])
    assert b"emulation" in text, text[-2000:]
    return "log"


@contextlib.asynccontextmanager
async def _console(access: Access, *, read_only: bool = False) -> AsyncIterator[ConsoleStream]:
    stream = await access.client.console(access.lab, access.node_name, read_only=read_only, who="suite")
    try:
        yield stream
    finally:
        await stream.close()


async def _heard(stream: ConsoleStream) -> bytes:
    """What is printed until a prompt or a question stands there."""
    heard = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while not heard.rstrip().endswith((b"#", b">", b"$", b":", b"started!")):
                chunk = await stream.read()
                if not chunk:
                    break
                heard += chunk
    return heard


Check = Callable[[Access], Awaitable[str]]
#: In this order: later ones need a node that is ready.
CHECKS: Final[dict[str, Check]] = {
    "ready": check_ready,
    "log": check_log,
    "post-boot": check_post_boot,
    "day-0": check_day0,
    "run": check_run,
    "extract": check_extract,
    "load": check_load,
    "console": check_console,
}
