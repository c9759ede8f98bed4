"""One of the hosts of :mod:`many_hosts_rig`: a network and files of its own, and programs that may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wireloom.testing.installation import IMAGES

HUB = "wlt-mh-hub"
NET = "10.213.0."
BRIDGE = "wltunder"
WIRELOOM = Path(sys.executable).with_name("wireloom")
_FOLDERS = ("/var/lib/libvirt", "/etc/libvirt/qemu")
_LIBVIRT_STATE = ("boot", "dnsmasq", "images", "qemu", "sanlock", "swtpm")


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
    #: Holds the number of a child that dies with the program, though not at once.
    child: Path | None = None

    def start(self) -> None:
        self._await_child()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _await_child(self, within_s: float = 20) -> None:
        """A dockerd that finds a containerd which is about to end waits for it in vain, and gives up."""
        if self.child is None or not self.child.exists():
            return
        process = Path("/proc", self.child.read_text().strip(), "exe")
        deadline = time.monotonic() + within_s
        while process.exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def ended(self) -> bool:
        """Whether it ended without having been asked to."""
        return self.process is not None and self.process.poll() is not None

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
        return f"{NET}{10 + self.number}"

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
        run("ip", "-n", HUB, "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.netns)
        run("ip", "-n", HUB, "link", "set", self.cable, "master", BRIDGE, "up")
        for command in (
            ("address", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "lo", "up"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", f"{NET}1"),
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
        self.programs["dockerd"].child = self.folder / "exec" / "containerd" / "containerd.pid"
        self._add("virtlogd", ("virtlogd", f"--pid-file={self.folder}/virtlogd.pid"))
        self._add("libvirtd", ("libvirtd", f"--pid-file={self.folder}/libvirtd.pid"))
        self._add("agent", (str(WIRELOOM), "agent"))

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

    def last_words(self) -> str:
        """How its programs are, and what they logged last."""
        return "\n".join(
            f"--- {program.name}, {'runs' if program.runs else 'ended'}\n"
            + "\n".join(program.log.read_text(errors="replace").splitlines()[-8:])
            for program in self.programs.values()
        )

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

    def emulators(self) -> list[int]:
        """Process ids of the emulators of machines here."""
        found = []
        for pid in processes_in(self.netns):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/exe").rsplit("/", 1)[-1].startswith("qemu-system"):
                    found.append(pid)
        return found

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
        for pid in naming(str(self.folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.holder is not None:
            self.holder.kill()
            self.holder.wait()
            if self.holder.stdout is not None:
                self.holder.stdout.close()
        run("ip", "netns", "del", self.netns, check=False)


def processes_in(netns: str, *, but: int = 0) -> list[int]:
    """Processes that live in a network namespace."""
    shown = run("ip", "netns", "pids", netns, check=False)
    return [int(pid) for pid in shown.split() if int(pid) != but]


def naming(text: str) -> list[int]:
    """Processes whose command line holds ``text``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.fsencode(text) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found
