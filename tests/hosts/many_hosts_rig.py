"""Three hosts on one machine, each with engines, an agent and a network of its own, and a controller beside them.

::

    hub: 10.213.0.1, the underlay's bridge, controller with its private NATS over TLS
     ├── h1: 10.213.0.11   network and mount namespace: dockerd, virtlogd, libvirtd, agent
     ├── h2: 10.213.0.12
     └── h3: 10.213.0.13

The test's main thread stands in the hub's network, so that it reaches the API as a user's machine would. Everything is
named ``wlt-…``; what a killed run has left is removed before the next one begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from host_rig import BRIDGE, HUB, NET, WIRELOOM, Host, Program, processes_in, run

from wireloom.client import Client, Endpoint
from wireloom.model.host_views import JoinTokenRequest
from wireloom.model.views import DeployRequest, HostView, LabView
from wireloom.testing.conformance.dataplane_hosts import living_in
from wireloom.testing.installation import until

_ENGINES_S = 60.0


class ManyHosts:
    """The hub with its controller, and three hosts that have joined."""

    def __init__(self, folder: Path, *, dataplane: str = "kernel") -> None:
        self.folder = folder
        self.dataplane = dataplane
        self.id = ""
        self.hosts = {f"h{number}": Host(number, folder / f"h{number}") for number in (1, 2, 3)}
        self.controllers: dict[str, Program] = {}
        self._ca = ""

    # -- life --------------------------------------------------------------------------------------------

    async def up(self) -> None:
        for command in (
            ("link", "add", BRIDGE, "type", "bridge"),
            ("address", "add", f"{NET}1/24", "dev", BRIDGE),
            ("link", "set", BRIDGE, "up"),
            ("link", "set", "lo", "up"),
        ):
            run("ip", "-n", HUB, *command)
        for host in self.hosts.values():
            host.folder.mkdir()
            host.folder.chmod(0o755)
            host.prepare()
            host.start_engines()
        self._make_controllers()
        self.controllers["controller"].start()
        await asyncio.gather(*(asyncio.to_thread(self._ready_engines, host) for host in self.hosts.values()))
        for host in self.hosts.values():
            await asyncio.to_thread(host.load_images, "frr", "linux")
        await until(self._answers, "the controller did not come up", within_s=60)
        for host in self.hosts.values():
            await self.join(host)
        await self.alive(*self.hosts)

    def _ready_engines(self, host: Host) -> None:
        deadline = time.monotonic() + _ENGINES_S
        while not host.engines_answer():
            for program in host.programs.values():
                if program.ended:  # as a service manager would
                    program.start()
            assert time.monotonic() < deadline, f"the engines of {host.name} do not answer\n{host.last_words()}"
            time.sleep(0.1)

    def _make_controllers(self) -> None:
        folder = self.folder / "controller"
        folder.mkdir()
        environment = {
            "WIRELOOM_DATA_DIR": str(folder / "data"),
            "WIRELOOM_RUN_DIR": str(folder / "run"),
            "WIRELOOM_LOG_DIR": str(folder / "log"),
            "WIRELOOM_HOST": "hub",
            "WIRELOOM_LISTEN_HOST": f"{NET}1",
            "WIRELOOM_LISTEN_PORT": "8650",
            "WIRELOOM_FABRIC_LISTEN": f"{NET}1",
        }
        command = ("nsenter", f"--net=/run/netns/{HUB}", "--", str(WIRELOOM), "controller")
        self.controllers["controller"] = Program("controller", command, folder / "controller.log", environment)

    @property
    def url(self) -> str:
        return f"https://{NET}1:8650"

    def client(self) -> Client:
        folder = self.folder / "controller" / "data"
        token = (folder / "token").read_text().strip() if (folder / "token").exists() else ""
        return Client(Endpoint(self.url, token, ca=self._authority()))

    def _authority(self) -> str:
        if not self._ca:
            for file in sorted((self.folder / "controller" / "data").rglob("ca.pem")):
                self._ca = file.read_text()
        return self._ca

    async def _answers(self) -> bool:
        async with self.client() as client:
            self.id = (await client.status()).installation
        return True

    async def join(self, host: Host) -> None:
        """Join by a token as a user would, then run the agent."""
        async with self.client() as client:
            made = await client.host.make_token(JoinTokenRequest(host=host.name))
        settings = (f"{key}={value}" for key, value in {**host.environment, "WIRELOOM_JOIN_TOKEN": made.token}.items())
        await asyncio.to_thread(
            host.output, "env", *settings, str(WIRELOOM), "agent", "--join-only", self.url, timeout_s=60
        )
        agent = host.programs["agent"]
        agent.environment["WIRELOOM_DATAPLANE"] = self.dataplane
        agent.start()

    async def alive(self, *names: str, within_s: float = 60) -> None:
        """Wait until both engines of these hosts answer and the controller has heard so, and hears no other hosts."""
        await asyncio.gather(*(asyncio.to_thread(self._ready_engines, self.hosts[name]) for name in names))
        since = time.time()  # what a host said before may be of engines that have died since
        seen: dict[str, HostView] = {}

        async def heard() -> bool:
            seen.clear()
            async with self.client() as client:
                seen.update({host.host: host for host in await client.hosts() if host.alive})
            facts = [host.facts or {} for host in seen.values()]
            return seen.keys() == set(names) and all(
                said.get("time", 0) > since and all(item["available"] for item in said["providers"]) for said in facts
            )

        def show() -> str:
            said = {name: (host.facts or {}).get("time", 0) - since for name, host in seen.items()}
            programs = [program.name for program in self.programs() if not program.runs]
            return f"heard of {said} (seconds since the engines answered); ended by themselves: {programs}"

        await until(heard, f"hosts {', '.join(names)} are not all there", within_s=within_s, show=show)

    def close(self) -> None:
        for controller in self.controllers.values():
            controller.end(signal.SIGTERM)
        for host in self.hosts.values():
            host.close()
        for pid in processes_in(HUB, but=os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run("ip", "netns", "del", HUB, check=False)

    # -- use ---------------------------------------------------------------------------------------------

    async def deploy(self, topology: str) -> None:
        async with self.client() as client:
            await client.deploy(DeployRequest(topology=topology))

    async def lab(self, name: str = "lab") -> LabView:
        async with self.client() as client:
            return await client.lab(name)

    async def reach(
        self, check: Callable[[LabView], bool], what: str, *, lab: str = "lab", within_s: float = 90
    ) -> LabView:
        """The lab's first view for which ``check`` holds."""
        found: list[LabView] = []

        async def holds() -> bool:
            found[:] = [await self.lab(lab)]
            return check(found[0])

        await until(holds, what, within_s=within_s, show=lambda: found[0].model_dump_json(indent=1) if found else "")
        return found[0]

    async def wired(self, *, lab: str = "lab", within_s: float = 90) -> LabView:
        """Every node runs, every link is up, and nothing is left to do; no node runs twice."""
        view = await self.reach(is_wired, "the lab is not running and wired", lab=lab, within_s=within_s)
        self.nothing_twice()
        return view

    def nats_pid(self) -> int:
        """Process id of the controller's own NATS server."""
        return int((self.folder / "controller" / "data" / "fabric" / "nats-server.pid").read_text())

    def programs(self) -> Iterator[Program]:
        """Everything that the rig has started, engines first."""
        for host in self.hosts.values():
            yield from host.programs.values()
        yield from self.controllers.values()

    def nothing_twice(self) -> None:
        """No node runs on two hosts."""
        where = [(node, host.name) for host in self.hosts.values() if host.holder for node in host.running(self.id)]
        nodes = [node for node, _ in where]
        assert len(nodes) == len(set(nodes)), f"a node runs twice: {sorted(where)}"

    def cut(self, name: str) -> None:
        """Pull the host's cable: it reaches nobody, and nobody reaches it."""
        run("ip", "-n", HUB, "link", "set", self.hosts[name].cable, "down")

    def mend(self, name: str) -> None:
        """Plug the cable in again."""
        run("ip", "-n", HUB, "link", "set", self.hosts[name].cable, "up")

    async def destroy(self, lab: str = "lab", *, within_s: float = 90) -> None:
        """Remove the lab and see that nothing of it is left anywhere."""
        async with self.client() as client:
            await client.destroy(lab)
        await self.gone(lab, within_s=within_s)

    async def gone(self, lab: str = "lab", *, within_s: float = 90) -> None:
        """The lab is being removed: wait until nothing of it is left anywhere."""

        async def absent() -> bool:
            async with self.client() as client:
                return lab not in {summary.lab for summary in await client.labs()}

        await until(absent, f"lab {lab} is still there", within_s=within_s)

        async def clean() -> bool:
            return not self.debris()

        await until(clean, "debris", within_s=20, show=self.debris)

    async def reset(self) -> None:
        """Plug in, start and remove whatever a test has left otherwise."""
        for host in self.hosts.values():
            self.mend(host.name)
        for program in self.programs():
            if not program.runs:
                program.start()
        await self.alive(*self.hosts)
        async with self.client() as client:
            for host in await client.hosts():
                if host.cordoned:
                    await client.host.uncordon(host.host)
            for summary in await client.labs():
                await self.destroy(summary.lab)

    def debris(self) -> list[str]:
        return [item for host in self.hosts.values() for item in host.debris(self.id)]

    async def execute(self, node: str, *command: str, lab: str = "lab") -> str:
        """What a command prints in a node, of either technology."""
        async with self.client() as client:
            done = await client.exec(lab, node, command)
        return done.stdout


def is_wired(view: LabView) -> bool:
    return (
        view.converged
        and all(node.state == "running" for node in view.nodes)
        and all(link.state == "up" for link in view.links)
    )


def remove_leftovers() -> None:
    """What an earlier run that was killed has left."""
    names = run("ip", "netns", "list", check=False).split("\n")
    for name in (line.split(" ")[0] for line in names if line.startswith("wlt-mh-")):
        for pid in processes_in(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run("ip", "netns", "del", name, check=False)


@contextlib.asynccontextmanager
async def many_hosts(
    *, dataplane: str = "kernel", kind: Callable[..., ManyHosts] = ManyHosts
) -> AsyncIterator[ManyHosts]:
    """Three hosts that have joined; all gone at the end. ``kind`` makes the rig, of a folder."""
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix="wlt-mh-", dir="/var/tmp"))
    folder.chmod(0o755)
    rig = kind(folder, dataplane=dataplane)
    try:
        # The hub's network must be there before anybody stands in it.
        run("ip", "netns", "add", HUB)
        with living_in(f"/run/netns/{HUB}"):
            await rig.up()
            yield rig
    finally:
        rig.close()
        _show_logs(sorted(folder.rglob("*.log")))
        shutil.rmtree(folder, ignore_errors=True)


def _show_logs(logs: Sequence[Path]) -> None:
    for log in logs:
        if log.name in {"agent.log", "controller.log"}:
            print(f"--- {log.parent.name}/{log.name}\n{log.read_text(errors='replace')[-6000:]}")
