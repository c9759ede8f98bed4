"""The Docker side of the provider conformance suite. The image is a static busybox, imported as a file tree."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from wireloom.model.identity import short_hash
from wireloom.model.runtime import ConsoleRequest, RuntimeSpec
from wireloom.providers.contract import Provider
from wireloom.providers.docker import DockerProvider
from wireloom.providers.docker.gate import find_busybox
from wireloom.testing.conformance.provider import ConsoleTalk, GuestCommands, GuestFacts

IMAGE = "wireloom-test/busybox:2"  # another tag when the tree below changes
APPLETS = ("sh", "cat", "echo", "env", "hostname", "mkdir", "mount", "ps", "sleep", "stat", "sync", "test", "true")
#: What is typed on the terminal of the first process is run; its end is the guest's end.
BOOT = """trap 'exit 0' TERM; exec 3<&0; echo guest is up; while read -r line <&3; do eval "$line"; done & wait"""


async def guest_facts(provider: Provider, runtime_id: str) -> GuestFacts:
    """What a container says of itself, by commands of the harness's image."""

    async def output(*command: str) -> str:
        return (await provider.exec(runtime_id, command, timeout_s=20)).stdout.decode()

    pairs = (await output("cat", "/proc/1/environ")).split("\0")
    return GuestFacts(
        hostname=(await output("hostname")).strip(),
        env=dict(pair.partition("=")[::2] for pair in pairs if pair),
        resolver=await output("cat", "/etc/resolv.conf"),
    )


class DockerHarness:
    """See :class:`~wireloom.testing.conformance.provider.ProviderHarness`."""

    image = IMAGE
    missing_image = "wireloom-test/nowhere:9"
    settings: dict[str, Any] = {"command": ["/bin/sh", "-c", BOOT]}
    wrong_settings: dict[str, Any] = {"privilegd": True}
    privileged_settings: dict[str, Any] | None = {**settings, "privileged": True}
    boot_pattern = rb"guest is up"
    boot_s = 20.0
    memory_mb = 64
    memory_overhead_mb = 0
    talks: Sequence[ConsoleTalk] = (
        ConsoleTalk(ConsoleRequest(kind="exec", command=("/bin/sh",)), b"echo wl-$((40+2))\n", rb"wl-42"),
        ConsoleTalk(ConsoleRequest(kind="serial"), b"echo wl-$((20+3))\n", rb"wl-23"),
    )
    commands: GuestCommands | None = GuestCommands(
        exit_with=lambda code: ["sh", "-c", f"exit {code}"],
        say=lambda text: ["echo", text],
        warn=lambda text: ["sh", "-c", 'echo "$1" >&2', "warn", text],
        copy_input=["cat"],
        sleep=lambda seconds: ["sleep", str(seconds)],
        facts=guest_facts,
    )
    not_images: Sequence[bytes] = (b"", b"no tar at all" * 100)

    async def provider(self, installation: str) -> Provider:
        return DockerProvider(installation)

    async def debris(self, installation: str) -> list[str]:
        label = f"label=wireloom.installation={installation}"
        return (await docker("ps", "--all", "--filter", label, "--format", "{{.Names}}")).split()

    async def make_ports(self, spec: RuntimeSpec) -> None:
        """Ports come between start and release, so nothing has to be there before."""

    async def remove_ports(self, spec: RuntimeSpec) -> None:
        """They go with the namespace."""

    async def kill(self, runtime_id: str) -> None:
        await docker("kill", runtime_id)

    async def restart(self, runtime_id: str) -> None:
        await docker("restart", "--time", "0", runtime_id)

    async def write_file(self, provider: Provider, runtime_id: str, name: str, content: bytes) -> None:
        done = await provider.exec(
            runtime_id, ["sh", "-c", 'cat >"$1"; sync', "write", name], timeout_s=20, stdin=content
        )
        assert done.exit_code == 0, done.stderr

    async def read_file(self, provider: Provider, runtime_id: str, name: str) -> bytes:
        done = await provider.exec(runtime_id, ["cat", name], timeout_s=20)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    async def limits(self, runtime_id: str) -> tuple[float, int]:
        host = json.loads(await docker("inspect", runtime_id))[0]["HostConfig"]
        assert host["MemorySwap"] == host["Memory"]
        return host["CpuQuota"] / host["CpuPeriod"], host["Memory"] // (1024 * 1024)

    def spare_image(self, mark: str) -> str:
        return f"wireloom-test/spare:{mark}"

    async def image_file(self, folder: Path, mark: str) -> Path:
        file = folder / f"image-{mark}.tar"
        file.write_bytes(image_archive(mark))
        file.chmod(0o444)
        return file

    async def content_of(self, file: Path) -> str:
        with tarfile.open(file) as archive:
            (listed,) = json.loads(_member(archive, "manifest.json"))
            return _digest(_member(archive, listed["Config"]))

    async def damage_image(self, image: str) -> None:
        layer = json.loads(await docker("image", "inspect", image))[0]["GraphDriver"]["Data"]["UpperDir"]
        (Path(layer) / "mark").write_bytes(b"damaged")

    async def image_traces(self, installation: str, images: Sequence[str], contents: Sequence[str]) -> list[str]:
        listed = await docker("images", "--all", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")
        found = [line.split(" ") for line in listed.splitlines()]
        mark = f":{short_hash('images', installation)}-"
        return [name for content, name in found if content in contents or name in images or mark in name]


def image_archive(mark: str, *, tags: Sequence[str] = ("wireloom-test/inside:1",), layer: bytes = b"") -> bytes:
    """An image of one layer with one file, as the engine saves it; it names itself, which is nobody's business."""
    layer = layer or _tar({"mark": mark.encode()})
    told = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created_by": mark}],
    }
    text = json.dumps(told).encode()
    name = f"{hashlib.sha256(text).hexdigest()}.json"
    listed = [{"Config": name, "RepoTags": list(tags), "Layers": ["one/layer.tar"]}]
    return _tar({"one/layer.tar": layer, name: text, "manifest.json": json.dumps(listed).encode()})


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@asynccontextmanager
async def harness() -> AsyncIterator[DockerHarness]:
    """A harness on this host's engine, with its image present."""
    provider = DockerProvider("conf-image")
    try:
        if not await provider.images.has(IMAGE):
            await load_image(provider)
    finally:
        await provider.close()
    yield DockerHarness()


async def load_image(provider: Provider) -> None:
    """Import the test image through the provider's own image store."""
    with tempfile.TemporaryDirectory(prefix="wireloom-conformance-") as folder:
        archive = Path(folder) / "busybox.tar"
        archive.write_bytes(_file_tree(find_busybox().read_bytes()))
        await provider.images.load(IMAGE, archive)


def _file_tree(busybox: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            archive.addfile(folder)
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = len(busybox), 0o755
        archive.addfile(program, io.BytesIO(busybox))
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return buffer.getvalue()


async def docker(*arguments: str) -> str:
    """Run the engine's own command line, which knows nothing of the provider."""
    async with asyncio.timeout(30):
        process = await asyncio.create_subprocess_exec(
            "docker", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
