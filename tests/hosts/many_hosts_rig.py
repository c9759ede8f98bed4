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
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wireloom.client import Client, Endpoint
from wireloom.model.host_views import JoinTokenRequest
from wireloom.model.views import DeployRequest, LabView
from wireloom.testing.conformance.dataplane_hosts import living_in
from wireloom.testing.installation import IMAGES, until

_HUB = "wlt-mh-hub"
_NET = "10.213.0."
_BRIDGE = "wltunder"
_FOLDERS = ("/var/lib/libvirt", "/etc/libvirt/qemu")
_LIBVIRT_STATE = ("boot", "dnsmasq", "images", "qemu", "sanlock", "swtpm")
_WIRELOOM = Path(sys.executable).with_name("wireloom")
_ENGINES_S = 60.0


def run(*command: str, timeout_s: float = 60, check: bool = True) -> str:
    """What a command prints. :raises AssertionError: it failed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}"
    return done.stdout


@dataclass
class Program:
    """A program of the rig that may be killed and started again."""

    name: str
    command: tuple[str, ...]
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def end(self, number: signal.Signals = signal.SIGKILL, *, within_s: float = 20) -> None:
        """Send a signal, and wait until it is gone."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(within_s)


@dataclass
class Host:
    """One host. ``number`` from 1."""

    number: int
    folder: Path
    programs: dict[str, Program] = field(default_factory=dict)
    holder: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return f"h{self.number}"

    @property
    def netns(self) -> str:
        return f"wlt-mh-{self.name}"

    @property
    def cable(self) -> str:
        """The underlay's device in the hub that leads here."""
        return f"wltc{self.number}"

    @property
    def address(self) -> str:
        return f"{_NET}{10 + self.number}"

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command line begins with to run on this host."""
        assert self.holder is not None
        pid = self.holder.pid
        return ("nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt", "--")

    def output(self, *command: str, timeout_s: float = 60, check: bool = True) -> str:
        """What a command prints that runs on this host."""
        return run(*self.inside, *command, timeout_s=timeout_s, check=check)

    # -- making ------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Its network, its view of the files, and no program yet."""
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", _HUB, "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.netns)
        run("ip", "-n", _HUB, "link", "set", self.cable, "master", _BRIDGE, "up")
        for command in (
            ("address", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "lo", "up"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", f"{_NET}1"),
        ):
            run("ip", "-n", self.netns, *command)
        mounts = ["mount -t tmpfs tmpfs /run", "mkdir -p /run/lock /run/libvirt"]
        for path in _FOLDERS:
            own = self.folder / "over" / path.strip("/").replace("/", "-")
            own.mkdir(parents=True)
            for name in _LIBVIRT_STATE if path == "/var/lib/libvirt" else ():
                (own / name).mkdir()
            mounts.append(f"mount --bind {own} {path}")
        script = f"set -e; {'; '.join(mounts)}; echo ready; exec sleep infinity"
        command = ["nsenter", f"--net=/run/netns/{self.netns}", "unshare", "--mount", "--propagation", "private"]
        self.holder = subprocess.Popen([*command, "sh", "-c", script], stdout=subprocess.PIPE)
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == b"ready\n"
        self._describe()

    def _describe(self) -> None:
        docker = (
            "dockerd",
            f"--data-root={self.folder}/docker",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/docker.pid",
            f"--cgroup-parent=/{self.netns}",
            "--log-level=warn",
        )
        self._add("dockerd", docker)
        self._add("virtlogd", ("virtlogd", f"--pid-file={self.folder}/virtlogd.pid"))
        self._add("libvirtd", ("libvirtd", f"--pid-file={self.folder}/libvirtd.pid"))
        self._add("agent", (str(_WIRELOOM), "agent"))

    def _add(self, name: str, command: tuple[str, ...]) -> None:
        log = self.folder / f"{name}.log"
        self.programs[name] = Program(name, (*self.inside, *command), log, self.environment)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "WIRELOOM_DATA_DIR": str(self.data),
            "WIRELOOM_RUN_DIR": "/run/wireloom",
            "WIRELOOM_LOG_DIR": str(self.folder / "log"),
            "WIRELOOM_HOST": self.name,
            "WIRELOOM_MANAGEMENT_SUBNET": f"172.31.{self.number}.0/24",
            "WIRELOOM_HEARTBEAT_S": "0.5",
        }

    def start_engines(self) -> None:
        self.data.mkdir()
        (self.data / "images").symlink_to(IMAGES)
        for name in ("dockerd", "virtlogd", "libvirtd"):
            self.programs[name].start()

    def engines_answer(self) -> bool:
        docker = subprocess.run([*self.inside, "docker", "version"], capture_output=True, timeout=20, check=False)
        virsh = subprocess.run([*self.inside, "virsh", "version"], capture_output=True, timeout=20, check=False)
        return docker.returncode == 0 and virsh.returncode == 0

    def load_images(self, *names: str) -> None:
        for name in names:
            self.output("docker", "load", "--quiet", "--input", str(IMAGES / f"{name}.tar"), timeout_s=180)

    # -- what is there -----------------------------------------------------------------------------------

    def containers(self, installation: str) -> dict[str, str]:
        """Node → container's state, of those that exist."""
        form = '{{.Label "wireloom.node"}}\t{{.State}}'
        label = f"label=wireloom.installation={installation}"
        lines = self.output("docker", "ps", "-a", "--filter", label, "--format", form)
        return dict(line.split("\t") for line in lines.splitlines())

    def domains(self) -> dict[str, str]:
        """Domain → state."""
        names = self.output("virsh", "list", "--all", "--name").split()
        return {name: self.output("virsh", "domstate", name).strip() for name in names}

    def running(self, installation: str) -> set[str]:
        """Nodes that run here, of both technologies."""
        found = {node for node, state in self.containers(installation).items() if state == "running"}
        return found | {name.split("-")[-2] for name, state in self.domains().items() if state == "running"}

    def started(self, installation: str) -> dict[str, str]:
        """Node → when its runtime was started, of both technologies."""
        form = '{{.Label "wireloom.node"}}\t{{.ID}}'
        label = f"label=wireloom.installation={installation}"
        lines = self.output("docker", "ps", "--no-trunc", "--filter", label, "--format", form).splitlines()
        found = {}
        for node, container in (line.split("\t") for line in lines):
            found[node] = self.output(
                "docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", container
            ).strip()
        for name, state in self.domains().items():
            if state == "running":
                found[name.split("-")[-2]] = self.output("virsh", "domid", name).strip()
        return found

    def devices(self, installation: str) -> list[dict[str, Any]]:
        """Our network devices."""
        links = json.loads(self.output("ip", "-json", "-details", "link"))
        return [link for link in links if installation in link.get("ifalias", "")]

    def debris(self, installation: str) -> list[str]:
        """What is left of an installation; empty after its labs have gone."""
        nodes = self.data / "nodes"
        return [
            *(f"{self.name}: container of {node}" for node in self.containers(installation)),
            *(f"{self.name}: machine {name}" for name in self.domains()),
            *(f"{self.name}: device {link['ifname']} {link['ifalias']}" for link in self.devices(installation)),
            *(f"{self.name}: folder {path.name}" for path in (nodes.iterdir() if nodes.exists() else ())),
        ]

    def close(self) -> None:
        """End everything on it, also what a killed program had left running."""
        for name in ("agent", "dockerd", "libvirtd", "virtlogd"):
            if name in self.programs:
                self.programs[name].end(signal.SIGTERM)
        for pid in processes_in(self.netns):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in _naming(str(self.folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.holder is not None:
            self.holder.kill()
            self.holder.wait()
            if self.holder.stdout is not None:
                self.holder.stdout.close()
        run("ip", "netns", "del", self.netns, check=False)


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
            ("link", "add", _BRIDGE, "type", "bridge"),
            ("address", "add", f"{_NET}1/24", "dev", _BRIDGE),
            ("link", "set", _BRIDGE, "up"),
            ("link", "set", "lo", "up"),
        ):
            run("ip", "-n", _HUB, *command)
        for host in self.hosts.values():
            host.folder.mkdir()
            host.folder.chmod(0o755)
            host.prepare()
            host.start_engines()
        self._make_controllers()
        self.controllers["controller"].start()
        await asyncio.gather(*(asyncio.to_thread(self._ready_engines, host) for host in self.hosts.values()))
        await until(self._answers, "the controller did not come up", within_s=60)
        for host in self.hosts.values():
            await self.join(host)
        await self.alive(*self.hosts)

    def _ready_engines(self, host: Host) -> None:
        deadline = time.monotonic() + _ENGINES_S
        while not host.engines_answer():
            assert time.monotonic() < deadline, f"the engines of {host.name} do not answer"
            time.sleep(0.1)
        host.load_images("frr", "linux")

    def _make_controllers(self) -> None:
        folder = self.folder / "controller"
        folder.mkdir()
        environment = {
            "WIRELOOM_DATA_DIR": str(folder / "data"),
            "WIRELOOM_RUN_DIR": str(folder / "run"),
            "WIRELOOM_LOG_DIR": str(folder / "log"),
            "WIRELOOM_HOST": "hub",
            "WIRELOOM_LISTEN_HOST": f"{_NET}1",
            "WIRELOOM_LISTEN_PORT": "8650",
            "WIRELOOM_FABRIC_LISTEN": f"{_NET}1",
        }
        command = ("nsenter", f"--net=/run/netns/{_HUB}", "--", str(_WIRELOOM), "controller")
        self.controllers["controller"] = Program("controller", command, folder / "controller.log", environment)

    @property
    def url(self) -> str:
        return f"https://{_NET}1:8650"

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
            host.output, "env", *settings, str(_WIRELOOM), "agent", "--join-only", self.url, timeout_s=60
        )
        agent = host.programs["agent"]
        agent.environment["WIRELOOM_DATAPLANE"] = self.dataplane
        agent.start()

    async def alive(self, *names: str, within_s: float = 60) -> None:
        """Wait until the controller hears these hosts with both engines, and no others."""

        async def heard() -> bool:
            async with self.client() as client:
                seen = {host.host: host for host in await client.hosts() if host.alive}
            return seen.keys() == set(names) and all(
                all(item["available"] for item in (host.facts or {})["providers"]) for host in seen.values()
            )

        await until(heard, f"hosts {', '.join(names)} are not all there", within_s=within_s)

    def close(self) -> None:
        for controller in self.controllers.values():
            controller.end(signal.SIGTERM)
        for host in self.hosts.values():
            host.close()
        for pid in processes_in(_HUB, but=os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run("ip", "netns", "del", _HUB, check=False)

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

    def nothing_twice(self) -> None:
        """No node runs on two hosts."""
        where = [(node, host.name) for host in self.hosts.values() if host.holder for node in host.running(self.id)]
        nodes = [node for node, _ in where]
        assert len(nodes) == len(set(nodes)), f"a node runs twice: {sorted(where)}"

    def cut(self, name: str) -> None:
        """Pull the host's cable: it reaches nobody, and nobody reaches it."""
        run("ip", "-n", _HUB, "link", "set", self.hosts[name].cable, "down")

    def mend(self, name: str) -> None:
        """Plug the cable in again."""
        run("ip", "-n", _HUB, "link", "set", self.hosts[name].cable, "up")

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
            for program in host.programs.values():
                if not program.runs:
                    program.start()
        for controller in self.controllers.values():
            if not controller.runs:
                controller.start()
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


def processes_in(netns: str, *, but: int = 0) -> list[int]:
    """Processes that live in a network namespace."""
    shown = run("ip", "netns", "pids", netns, check=False)
    return [int(pid) for pid in shown.split() if int(pid) != but]


def _naming(text: str) -> list[int]:
    """Processes whose command line holds ``text``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.fsencode(text) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def remove_leftovers() -> None:
    """What an earlier run that was killed has left."""
    names = run("ip", "netns", "list", check=False).split("\n")
    for name in (line.split(" ")[0] for line in names if line.startswith("wlt-mh-")):
        for pid in processes_in(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run("ip", "netns", "del", name, check=False)


@contextlib.asynccontextmanager
async def many_hosts(*, dataplane: str = "kernel") -> AsyncIterator[ManyHosts]:
    """Three hosts that have joined; all gone at the end."""
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix="wlt-mh-", dir="/var/tmp"))
    folder.chmod(0o755)
    rig = ManyHosts(folder, dataplane=dataplane)
    try:
        # The hub's network must be there before anybody stands in it.
        run("ip", "netns", "add", _HUB)
        with living_in(f"/run/netns/{_HUB}"):
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
