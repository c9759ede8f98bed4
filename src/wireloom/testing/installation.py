"""A whole installation of its own for a test or benchmark: private fabric, controller and agent as real processes.

It has its own data and run folders, port, host name and management subnet, so it stands beside any other
installation on the machine; the debris that it leaves is counted by its own id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wireloom.agent.gateway.firewall import installation_mark
from wireloom.agent.management import ManagementNetwork
from wireloom.app import data_planes
from wireloom.client import Client, Endpoint
from wireloom.errors import WireloomError
from wireloom.model.views import DeployRequest, LabView

IMAGES = Path("/var/lib/wireloom/images")
#: One of many, so that a run that was killed with its bridge still up does not hinder the next one.
SUBNET = f"172.30.{64 + os.getpid() % 48}.0/24"
WIRELOOM = Path(sys.executable).with_name("wireloom")


def run(*argv: str) -> str:
    """Output of a command that must succeed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout


@dataclass
class Installation:
    """Processes by name: ``controller`` and ``agent``.

    :ivar wrapper: what their command lines begin with, for instance to enter the namespace of private engines.
    """

    folder: Path
    extra_environment: dict[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    started_at: dict[str, float] = field(default_factory=dict)  # by name of the process, UNIX seconds
    id: str = ""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "WIRELOOM_DATA_DIR": str(self.data),
            "WIRELOOM_RUN_DIR": str(self.folder / "run"),
            "WIRELOOM_LOG_DIR": str(self.folder / "log"),
            "WIRELOOM_LISTEN_PORT": str(self._port),
            "WIRELOOM_HOST": "h1",
            "WIRELOOM_MANAGEMENT_SUBNET": SUBNET,
            "WIRELOOM_HEARTBEAT_S": "0.5",
            **self.extra_environment,
        }

    def __post_init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.data.mkdir(parents=True)
        (self.data / "images").symlink_to(IMAGES)

    # -- processes -----------------------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        """Start a program of ours; its log is kept beside the data."""
        self.started_at[name] = time.time()
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *self.wrapper, str(WIRELOOM), name, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    async def kill(self, name: str) -> None:
        """kill -9, and wait until it is gone."""
        if name == "nats-server":
            os.kill(self.nats_pid(), signal.SIGKILL)
            return
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def replace(self, name: str) -> None:
        """kill -9 and a new life; the private nats-server is brought back by the controller itself."""
        await self.kill(name)
        if name != "nats-server":
            await self.start(name)

    def nats_pid(self) -> int:
        """Process id of the private nats-server."""
        return int((self.data / "fabric" / "nats-server.pid").read_text())

    async def up(self) -> None:
        for name in ("controller", "agent"):
            await self.start(name)
        await self.answering()

    async def answering(self) -> None:
        """Wait until the controller answers and has heard of the host's present agent."""

        async def seen() -> bool:
            async with self.client() as client:
                status = await client.status()
                self.id = status.installation
                since = self.started_at.get("agent", 0.0)
                return any(host.alive and host.facts and host.facts["time"] >= since for host in status.hosts)

        await until(seen, "the installation did not come up", within_s=40)

    async def down(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in self.processes.values():
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()

    # -- use -----------------------------------------------------------------------------------------------

    def client(self) -> Client:
        token = (self.data / "token").read_text().strip() if (self.data / "token").exists() else ""
        return Client(Endpoint(f"http://127.0.0.1:{self._port}", token))

    async def deploy(self, topology: str) -> None:
        async with self.client() as client:
            await client.deploy(DeployRequest(topology=topology))

    async def lab(self, name: str = "lab") -> LabView:
        async with self.client() as client:
            return await client.lab(name)

    async def reach(
        self, check: Callable[[LabView], bool], what: str, *, lab: str = "lab", within_s: float = 60
    ) -> LabView:
        """The lab's first view for which ``check`` holds; a controller that is away is waited for."""
        found: list[LabView] = []

        async def holds() -> bool:
            view = await self.lab(lab)
            found[:] = [view]
            return check(view)

        try:
            await until(holds, what, within_s=within_s)
        except AssertionError as error:
            last = found[0].model_dump_json(indent=1) if found else "none"
            raise AssertionError(f"{error}; last view: {last}") from None
        return found[0]

    async def wired(self, *, lab: str = "lab", within_s: float = 60) -> LabView:
        """Every node runs, every link is up, nothing is left to do."""

        def check(view: LabView) -> bool:
            return (
                view.converged
                and all(node.state == "running" for node in view.nodes)
                and all(link.state == "up" for link in view.links)
            )

        return await self.reach(check, "the lab is not running and wired", lab=lab, within_s=within_s)

    async def destroy(self, lab: str = "lab", *, within_s: float = 60) -> None:
        async with self.client() as client:
            with contextlib.suppress(WireloomError):
                await client.destroy(lab)
        await self.gone(lab, within_s=within_s)

    async def gone(self, lab: str = "lab", *, within_s: float = 60) -> None:
        async def absent() -> bool:
            async with self.client() as client:
                return lab not in {summary.lab for summary in await client.labs()}

        await until(absent, f"lab {lab} is still there", within_s=within_s)

    # -- what is on the host -------------------------------------------------------------------------------

    def runtimes(self) -> dict[str, tuple[str, str]]:
        """Node → (engine's id, when it was started), of both technologies; what goes meanwhile is left out."""
        found = {}
        for details in self._inspected(self.containers()):
            found[details["Config"]["Labels"]["wireloom.node"]] = (details["Id"], details["State"]["StartedAt"])
        for name in self.domains():
            pid = next(iter(self.emulators(name)), 0)
            found[name.split("-")[-2]] = (name, str(pid))
        return found

    def _inspected(self, containers: Sequence[str]) -> list[dict[str, Any]]:
        """The engine's own view of those that still exist: it prints them, and fails for the others."""
        if not containers:
            return []
        command = ["docker", *self.docker_host(), "inspect", *containers]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
        return list(json.loads(shown or "[]"))

    def containers(self) -> list[str]:
        """Ids of our containers."""
        if self._never_started("WIRELOOM_DOCKER_URL"):
            return []
        label = f"label=wireloom.installation={self.id}"
        return run("docker", *self.docker_host(), "ps", "-aq", "--no-trunc", "--filter", label).split()

    def domains(self) -> list[str]:
        """Names of our domains; those of others may go while we look."""
        if self._never_started("WIRELOOM_LIBVIRT_URI"):
            return []
        names = run("virsh", "-c", self.libvirt_uri(), "list", "--all", "--name").split()
        return [name for name in names if name.startswith("wl-lab-") and self.id in self._definition(name)]

    def _definition(self, name: str) -> str:
        command = ["virsh", "-c", self.libvirt_uri(), "dumpxml", name]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout

    def emulators(self, domain: str) -> list[int]:
        """Process ids of the QEMU that runs a domain."""
        found = subprocess.run(
            ["pgrep", "-f", f"guest={domain},"], capture_output=True, text=True, timeout=10, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    def debris(self) -> list[str]:
        """Everything of this installation on the host: must be empty at the end."""
        files = self.data / "nodes"
        mark = installation_mark(self.id)
        return [
            *(f"runtime {node}" for node in self.runtimes()),
            *(f"device {name}" for name in self.devices()),
            *(f"bridge {name}" for name in self.switches()),
            *(f"folder {path}" for path in (files.iterdir() if files.exists() else ())),
            *(f"rule {line}" for line in run("iptables-save").splitlines() if mark in line),
            *(f"name {line}" for line in Path("/etc/hosts").read_text().splitlines() if self.id in line),
        ]

    def devices(self) -> list[str]:
        """Names of our network devices."""
        links = json.loads(run("ip", "-json", "-details", "link"))
        return [link["ifname"] for link in links if self.id in link.get("ifalias", "")]

    def switches(self) -> list[str]:
        """Names of our bridges in Open vSwitch; none where it does not run."""
        owner = f"external_ids:wireloom-installation={self.id}"
        command = ["ovs-vsctl", "--timeout=5", "--bare", "--columns=name", "find", "Bridge", owner]
        if not Path("/var/run/openvswitch/db.sock").is_socket():
            return []
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.split()

    def _never_started(self, setting: str) -> bool:
        """Whether the private engine that a setting names has not made its socket yet: then nothing can be on it."""
        socket_file = self.extra_environment.get(setting, "").removeprefix("unix://").rpartition("socket=")[2]
        return bool(socket_file) and not Path(socket_file).exists()

    def docker_host(self) -> list[str]:
        """Options that make the Docker client talk to this installation's engine."""
        url = self.extra_environment.get("WIRELOOM_DOCKER_URL")
        return ["-H", url] if url else []

    def libvirt_uri(self) -> str:
        """Where this installation's hypervisor answers."""
        return self.extra_environment.get("WIRELOOM_LIBVIRT_URI", "qemu:///system")


@contextlib.contextmanager
def own_folder(*, show_logs: bool = True) -> Iterator[Path]:
    """A folder that a hypervisor under another user can pass through, unlike pytest's; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="wlt-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for log in sorted(folder.glob("*.log")) if show_logs else ():
            print(f"--- {log.name}\n{log.read_text()[-6000:]}")
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def installed(
    folder: Path,
    *,
    wrapper: tuple[str, ...] = (),
    prepare: Callable[[], None] = lambda: None,
    **environment: str,
) -> AsyncIterator[Installation]:
    """An installation that is up; at the end it is down, and nothing of it is left on the host.

    :param prepare: called when its folders are there and nothing of it runs.
    """
    installation = Installation(folder, environment, wrapper)
    try:
        prepare()
        await installation.up()
        yield installation
        await installation.answering()
        for lab in ("lab",):
            await installation.destroy(lab)
        await until(lambda: _empty(installation), "debris", within_s=20, show=installation.debris)
    finally:
        await installation.down()
        await _scrub(installation)


async def _empty(installation: Installation) -> bool:
    return not installation.debris()


async def _scrub(installation: Installation) -> None:
    """A test that failed leaves the machine clean all the same, also when an engine is gone."""
    if not installation.id:
        return
    for name in installation.devices():
        _try("ip", "link", "del", name)
    for make in data_planes().values():
        dataplane = make(installation.id)
        with contextlib.suppress(WireloomError):
            await ManagementNetwork(installation.id, dataplane, installation.folder / "run" / "management").remove()
            await dataplane.withdraw()
        await dataplane.close()
    with contextlib.suppress(subprocess.SubprocessError):
        for runtime in installation.containers():
            _try("docker", *installation.docker_host(), "rm", "-f", runtime)
    with contextlib.suppress(subprocess.SubprocessError):
        for name in installation.domains():
            for verb in ("destroy", "undefine"):
                _try("virsh", "-c", installation.libvirt_uri(), verb, name)


def _try(*argv: str) -> None:
    """A command that may fail, and must end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(argv, check=False, capture_output=True, timeout=30)


async def until(
    check: Callable[[], object],
    what: str,
    *,
    within_s: float = 30,
    show: Callable[[], object] = lambda: "",
) -> None:
    """Wait until the async ``check`` is true; errors of ours while waiting count as not yet."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while True:
                with contextlib.suppress(WireloomError):
                    if await check():  # type: ignore[misc]
                        return
                await asyncio.sleep(0.1)
    raise AssertionError(f"{what} within {within_s:g} s {show()}")
