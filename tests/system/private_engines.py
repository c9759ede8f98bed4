"""Container engine and hypervisor of a test's own, which may be killed and started again as no shared one may.

They live in a mount namespace of their own, where private folders lie over those in which libvirt keeps its sockets,
definitions and state. Everything else (kernel, network, processes) is the host's, so an agent of this host that enters
that namespace runs nodes on them as it does on the host's own engines.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from wireloom.testing.installation import IMAGES

#: What libvirt would share with the host's own: a folder of ours is laid over each.
LIBVIRT_FOLDERS = ("/run/libvirt", "/var/lib/libvirt", "/etc/libvirt/qemu")
LIBVIRT_STATE = ("boot", "dnsmasq", "images", "qemu", "sanlock", "swtpm")

_DEADLINE_S = 30.0


class PrivateEngines:
    """Programs by name: ``containerd``, ``dockerd``, ``virtlogd``, ``libvirtd``. Nothing runs until it is started.

    :param folder: for everything that they keep; it must be reachable for a hypervisor under another user.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[str, ...]] = {}
        for path in LIBVIRT_FOLDERS:
            self._own(path).mkdir(parents=True)
        for name in LIBVIRT_STATE:
            (self._own("/var/lib/libvirt") / name).mkdir()
        self._holder = self._hold_namespace()

    def _own(self, path: str) -> Path:
        """The folder that lies over the host's ``path``."""
        return self.folder / "over" / path.strip("/").replace("/", "-")

    def _hold_namespace(self) -> subprocess.Popen[bytes]:
        """A process that keeps the mount namespace alive, whichever engine is dead."""
        mounts = "; ".join(f"mount --bind {self._own(path)} {path}" for path in LIBVIRT_FOLDERS)
        script = f"set -e; {mounts}; echo ready; exec sleep infinity"
        holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        return holder

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command line begins with to run beside these engines."""
        return ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--")

    @property
    def environment(self) -> dict[str, str]:
        """Settings of an installation that uses these engines."""
        return {
            "WIRELOOM_DOCKER_URL": f"unix://{self._docker_socket}",
            "WIRELOOM_LIBVIRT_URI": f"qemu+unix:///system?socket={self._libvirt_socket}",
        }

    @property
    def _docker_socket(self) -> Path:
        return self.folder / "docker.sock"

    @property
    def _libvirt_socket(self) -> Path:
        return self._own("/run/libvirt") / "libvirt-sock"

    # -- docker --------------------------------------------------------------------------------------------

    def start_docker(self, *, live_restore: bool = False, image: str = "linux") -> None:
        """Start containerd and, beside it as on users' machines, dockerd; load the reference image ``image``."""
        socket_of_containerd = self.folder / "containerd.sock"
        self._start(
            "containerd",
            "--config=/dev/null",
            "--log-level=warn",
            f"--address={socket_of_containerd}",
            f"--root={self.folder}/containerd",
            f"--state={self.folder}/containerd-state",
        )
        _until(lambda: _answers(socket_of_containerd), "containerd does not answer")
        self._start(
            "dockerd",
            f"--containerd={socket_of_containerd}",
            f"--host=unix://{self._docker_socket}",
            f"--data-root={self.folder}/docker",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/docker.pid",
            "--log-level=warn",
            "--bridge=none",
            "--iptables=false",
            *(["--live-restore"] if live_restore else []),
        )
        self._await_docker()
        self.docker("load", "--quiet", "--input", str(IMAGES / f"{image}.tar"))

    def _await_docker(self) -> None:
        _until(lambda: _answers(self._docker_socket) and self._pings(), "dockerd does not answer")

    def _pings(self) -> bool:
        command = ["docker", "--host", f"unix://{self._docker_socket}", "version"]
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0

    def docker(self, *arguments: str) -> str:
        """Output of the Docker client on this engine."""
        command = ["docker", "--host", f"unix://{self._docker_socket}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    # -- libvirt -------------------------------------------------------------------------------------------

    def start_libvirt(self) -> None:
        """Start virtlogd and libvirtd."""
        self._start("virtlogd", f"--pid-file={self.folder}/virtlogd.pid")
        _until(lambda: _answers(self._own("/run/libvirt") / "virtlogd-sock"), "virtlogd does not answer")
        self._start("libvirtd", f"--pid-file={self.folder}/libvirtd.pid")
        _until(lambda: _answers(self._libvirt_socket), "libvirtd does not answer")

    # -- both ----------------------------------------------------------------------------------------------

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End one program, and wait until it is gone."""
        process = self._processes.pop(name)
        process.send_signal(number)
        process.wait(_DEADLINE_S)

    def start_again(self, name: str) -> None:
        """The same program with the same arguments, on what its former life left behind."""
        self._start(name, *self._commands[name])
        if name == "dockerd":
            self._await_docker()
        else:
            _until(lambda: _answers(self._libvirt_socket), "libvirtd does not answer")

    def _start(self, name: str, *arguments: str) -> None:
        self._commands[name] = arguments
        # An engine told to have no bridge removes the one that it finds: the host's. So it gets a network of its own.
        apart = ("unshare", "--net") if name == "dockerd" else ()
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*self.inside, *apart, name, *arguments], stdout=log, stderr=log, start_new_session=True
            )

    def close(self) -> None:
        """End everything, also what a killed engine left running; with the last process the mounts go too."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        for pid in _processes_of(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()


@contextlib.contextmanager
def private_engines(folder: Path) -> Iterator[PrivateEngines]:
    """Engines below ``folder``, all gone at the end."""
    (folder / "engines").mkdir()
    engines = PrivateEngines(folder / "engines")
    try:
        yield engines
    finally:
        engines.close()
        for log in sorted(engines.folder.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-3000:]}")


def _processes_of(folder: Path) -> list[int]:
    """Processes that name ``folder`` on their command line, and the children of container shims among them."""
    named, parents = set(), {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if os.fsencode(folder) in (entry / "cmdline").read_bytes():
                named.add(int(entry.name))
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
    return sorted(named | {pid for pid, parent in parents.items() if parent in named})


def _answers(path: Path) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True


def _until(check: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _DEADLINE_S
    while not check():
        assert time.monotonic() < end, what
        time.sleep(0.05)
