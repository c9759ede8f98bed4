"""A reference disk image in a bare QEMU, for the tests of the images themselves (no libvirt, no Wireloom)."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from pathlib import Path
from typing import Any, Self

import asyncssh
import pycdlib

BOOT_SECONDS = 90
SHUTDOWN_SECONDS = 30
SSH_SECONDS = 30

IDE_CDROM = ("-machine", "pc,accel=tcg", "-cdrom", "{medium}")
SCSI_CDROM_ON_Q35 = (
    *("-machine", "q35,accel=tcg", "-device", "virtio-scsi-pci,id=scsi"),
    *("-drive", "file={medium},format=raw,if=none,id=cd,readonly=on", "-device", "scsi-cd,drive=cd"),
)
VIRTIO_DISK = ("-machine", "pc,accel=tcg", "-drive", "file={medium},format=raw,if=virtio,readonly=on")


def iso_medium(path: Path, files: dict[str, str], label: str = "CIDATA") -> Path:
    """Write an ISO 9660 image (with Joliet and Rock Ridge names)."""
    iso = pycdlib.PyCdlib()
    iso.new(joliet=3, rock_ridge="1.09", vol_ident=label)
    for number, (name, text) in enumerate(files.items()):
        content = text.encode()
        iso.add_fp(io.BytesIO(content), len(content), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}")
    iso.write(str(path))
    iso.close()
    return path


async def run(*command: str | Path) -> str:
    """Run a tool and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{command}: {output.decode()}"
    return output.decode()


def free_port() -> int:
    """A TCP port on loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Machine:
    """One power-on of an overlay disk: ``async with Machine(...) as machine``."""

    def __init__(self, folder: Path, overlay: Path, medium: Path, wiring: tuple[str, ...]) -> None:
        self.port = free_port()
        self._log = folder / f"serial-{self.port}.log"
        self._monitor = folder / f"monitor-{self.port}"
        self._arguments = [
            *("-name", "wl-image-test", "-m", "256", "-smp", "1", "-display", "none", "-nodefaults"),
            *(word.format(medium=medium) for word in wiring),
            *("-drive", f"file={overlay},if=none,id=system,cache=none"),
            *("-device", "virtio-blk-pci,drive=system,bootindex=1"),
            *("-serial", f"file:{self._log}", "-qmp", f"unix:{self._monitor},server,nowait"),
            *("-netdev", f"user,id=management,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *("-device", "virtio-net-pci,netdev=management,romfile="),
            *("-netdev", "hubport,id=spare,hubid=1"),
        ]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec("qemu-system-x86_64", *self._arguments)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @property
    def log(self) -> str:
        """The serial line's output since power-on."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def wait_for(self, text: str) -> float:
        """Wait for a text on the serial line; returns the seconds that it took."""
        began = time.monotonic()
        while text not in self.log:
            assert time.monotonic() - began < BOOT_SECONDS, f"no {text!r} in:\n{self.log}"
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def ssh(self, command: str, *, user: str = "root", **login: Any) -> str:
        """Run a command over SSH; ``login`` is ``password`` or ``client_keys``."""
        options = {"password": None, "client_keys": [], "known_hosts": None, "config": []} | login
        async with (
            asyncio.timeout(SSH_SECONDS),
            asyncssh.connect("127.0.0.1", self.port, username=user, **options) as connection,
        ):
            done = await connection.run(command, check=True)
        return str(done.stdout)

    async def qmp(self, command: str, **arguments: Any) -> None:
        """Give a command to QEMU's monitor and wait until it is accepted."""
        reader, writer = await asyncio.open_unix_connection(str(self._monitor))
        await reader.readline()
        for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
            writer.write(json.dumps(request).encode() + b"\n")
            while "return" not in (answer := json.loads(await reader.readline())):
                assert "error" not in answer, answer
        writer.close()

    async def power_button(self) -> None:
        """Press the power button and wait for the machine to end."""
        assert self._process is not None
        await self.qmp("system_powerdown")
        await asyncio.wait_for(self._process.wait(), SHUTDOWN_SECONDS)
