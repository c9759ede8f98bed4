"""The libvirt side of the provider conformance suite: the reference ``linux`` machine on this host's libvirtd."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from wireloom.model.identity import short_hash
from wireloom.model.runtime import ConsoleRequest, RuntimeSpec
from wireloom.providers.contract import ByteStream, Provider
from wireloom.providers.libvirt import LibvirtProvider
from wireloom.testing.conformance.provider import ConsoleTalk, GuestCommands

IMAGE_FOLDER: Final = Path(os.environ.get("WIRELOOM_IMAGES", "/var/lib/wireloom/images"))

LINE: Final = ConsoleRequest(kind="serial")

#: What the login programme and the shell of the reference machine ask with, and how long an answer may take.
LOGIN: Final = rb"login: $"
PASSWORD: Final = rb"[Pp]assword: $"
SHELL: Final = rb"# $"
ANSWER_S: Final = 30.0


class LibvirtHarness:
    """See :class:`~wireloom.testing.conformance.provider.ProviderHarness`."""

    image = "linux.qcow2"
    missing_image = "nowhere-9.qcow2"
    settings: dict[str, Any] = {"rng": True}
    wrong_settings: dict[str, Any] = {"machin": "pc"}
    privileged_settings: dict[str, Any] | None = None
    boot_pattern = rb"login:"
    boot_s = 90.0
    memory_mb = 192
    memory_overhead_mb = 200
    talks = (ConsoleTalk(LINE, b"\n", rb"login:"),)
    commands: GuestCommands | None = None
    not_images = (b"", b"no disk at all" * 100)

    async def provider(self, installation: str) -> Provider:
        return LibvirtProvider(installation, image_folder=IMAGE_FOLDER)

    async def debris(self, installation: str) -> list[str]:
        label = f">{installation}<"
        names = (await run("virsh", "list", "--all", "--name")).split()
        definitions = [(name, await run("virsh", "dumpxml", name, fails=True)) for name in names]
        return [name for name, xml in definitions if label in xml]

    async def make_ports(self, spec: RuntimeSpec) -> None:
        # The suite's own folder lets nobody in; a node's real folder does.
        spec.folder.parent.chmod(0o711)
        for port in spec.ports:
            await run("ip", "tuntap", "add", port.device, "mode", "tap")
            await run("ip", "link", "set", port.device, "up")

    async def remove_ports(self, spec: RuntimeSpec) -> None:
        for port in spec.ports:
            await run("ip", "link", "del", port.device, fails=True)

    async def kill(self, runtime_id: str) -> None:
        name = (await run("virsh", "domname", runtime_id)).strip()
        os.kill(int(Path(f"/run/libvirt/qemu/{name}.pid").read_text()), signal.SIGKILL)

    async def restart(self, runtime_id: str) -> None:
        await run("virsh", "reset", runtime_id)

    async def write_file(self, provider: Provider, runtime_id: str, name: str, content: bytes) -> None:
        text = base64.b64encode(content).decode()
        await self._type(provider, runtime_id, f"echo {text} | base64 -d >/{name}; sync")

    async def read_file(self, provider: Provider, runtime_id: str, name: str) -> bytes:
        answer = await self._type(provider, runtime_id, f"base64 </{name}")
        return base64.b64decode(answer)

    async def limits(self, runtime_id: str) -> tuple[float, int]:
        domain = ET.fromstring(await run("virsh", "dumpxml", runtime_id))  # noqa: S314 (from libvirt)
        schedule = dict(re.findall(r"^(\w+)\s*: (\S+)$", await run("virsh", "schedinfo", runtime_id), re.MULTILINE))
        quota, period = float(schedule["global_quota"]), float(schedule["global_period"])
        vcpus = float(domain.findtext("vcpu", "0"))
        unlimited = not 0 < quota < 1e12
        memory_kib = int(domain.findtext("memory", "0"))
        return (vcpus if unlimited else quota / period), memory_kib // 1024

    def spare_image(self, mark: str) -> str:
        return f"wl-test-spare-{mark}.qcow2"

    async def image_file(self, folder: Path, mark: str) -> Path:
        file = folder / f"image-{mark}.qcow2"
        raw = folder / f"image-{mark}.raw"
        raw.write_bytes(mark.encode() + bytes(1 << 20))
        await run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(file))
        raw.unlink()
        file.chmod(0o444)
        return file

    async def content_of(self, file: Path) -> str:
        return f"sha256:{(await run('sha256sum', str(file))).split()[0]}"

    async def damage_image(self, image: str) -> None:
        file = IMAGE_FOLDER / image
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.unlink()  # it may be one with the file that it was loaded from
        file.write_bytes(content)

    async def image_traces(self, installation: str, images: Sequence[str], contents: Sequence[str]) -> list[str]:
        marks = [*images, short_hash("images", installation)]
        files = [file for file in IMAGE_FOLDER.iterdir() if "wl-test-spare" in file.name]
        digests = {file: await self.content_of(file) for file in files}
        return [file.name for file in files if digests[file] in contents or any(mark in file.name for mark in marks)]

    async def reboot(self, provider: Provider, runtime_id: str) -> None:
        """Have the guest reboot itself, at once."""
        stream = await provider.console(runtime_id, LINE)
        try:
            await self._log_in(stream)
            await stream.write(b"reboot -f\n")
            await read_until(stream, rb"reboot -f\r")
        finally:
            await stream.close()

    async def _type(self, provider: Provider, runtime_id: str, command: str) -> bytes:
        """Run ``command`` in a shell on the serial line, logged in for it; gives what it wrote."""
        stream = await provider.console(runtime_id, LINE)
        try:
            await self._log_in(stream)
            await stream.write(f"echo wl-$((1))-begin; {command}; echo wl-$((1))-end\n".encode())
            text = await read_until(stream, rb"wl-1-end\s+.*" + SHELL)
            await stream.write(b"exit\n")
            await read_until(stream, LOGIN)
        finally:
            await stream.close()
        found = re.search(rb"wl-1-begin\s+(.*?)wl-1-end", text, re.DOTALL)
        assert found is not None, text
        return found.group(1)

    async def _log_in(self, stream: ByteStream) -> None:
        await stream.write(b"\n")
        await read_until(stream, LOGIN)
        await stream.write(b"root\n")
        await read_until(stream, PASSWORD)
        await stream.write(b"frr\n")
        await read_until(stream, SHELL)


async def read_until(stream: ByteStream, pattern: bytes) -> bytes:
    text = b""
    try:
        async with asyncio.timeout(ANSWER_S):
            while not re.search(pattern, text, re.DOTALL):
                data = await stream.read()
                assert data, f"the line ended: {text!r}"
                text += data
    except TimeoutError:
        raise AssertionError(f"{pattern!r} not on the line: {text!r}") from None
    return text


async def run(*command: str, fails: bool = False) -> str:
    """Run a tool that knows nothing of the provider; gives its output. ``fails`` allows a non-zero exit."""
    async with asyncio.timeout(60):
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, errors = await process.communicate()
    assert fails or process.returncode == 0, errors.decode()
    return output.decode()


@asynccontextmanager
async def harness() -> AsyncIterator[LibvirtHarness]:
    """A harness on this host's libvirtd; the reference images must have been built."""
    image = IMAGE_FOLDER / LibvirtHarness.image
    assert image.is_file(), f"{image} is missing: build the reference images first"
    yield LibvirtHarness()
