"""What only containers have: users, terminals, images of every make, an engine that comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tarfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from docker_harness import BOOT, IMAGE, DockerHarness, docker, harness

from wireloom.agent.shown_folder import ShownFolder
from wireloom.errors import Conflict, GuestFailed, ImageMissing, NotPermitted, Unavailable, Unsupported
from wireloom.model.runtime import ConsoleRequest, EventKind, GuestFile
from wireloom.model.slice import Bind
from wireloom.model.state import RuntimePhase
from wireloom.providers.contract import Provider
from wireloom.providers.docker import DockerProvider
from wireloom.providers.docker.process import has_all_capabilities
from wireloom.testing.conformance.provider import Rig, rig_for
from wireloom.testing.conformance.provider_rig import EventLog, gather_log

pytestmark = pytest.mark.docker


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with harness() as made, rig_for(made) as found:
        yield found


async def output(rig: Rig, runtime_id: str, *command: str) -> str:
    done = await rig.provider.exec(runtime_id, command, timeout_s=20)
    assert done.exit_code == 0, done
    return done.stdout.decode()


def settings(command: str, **more: Any) -> dict[str, Any]:
    return {"command": ["/bin/sh", "-c", command], **more}


# ---------------------------------------------------------------------- settings


async def test_a_user_who_is_not_root_gets_through_the_gate(rig: Rig) -> None:
    async with rig.booted(rig.spec(settings=settings(BOOT, user="1234:1234"))) as runtime_id:
        assert "Uid:\t1234" in await output(rig, runtime_id, "cat", "/proc/1/status")


async def test_the_log_of_a_container_without_a_terminal_is_readable(rig: Rig) -> None:
    command = f"echo to stderr >&2; {BOOT}"
    async with rig.booted(rig.spec(settings=settings(command, tty=False))) as runtime_id:
        await rig.provider.stop(runtime_id, 0)
        text = b"".join([chunk async for chunk in rig.provider.boot_log(runtime_id)])
        assert sorted(text.splitlines()) == [b"guest is up", b"to stderr"]  # two pipes, in no order


async def test_a_question_that_waits_is_in_a_followed_log_once(rig: Rig) -> None:
    question = "echo booted; sleep 1; printf 'r1 login: '; read name; echo hello $name; exec sleep 100"
    async with rig.created(rig.spec(settings=settings(question))) as runtime_id:
        await rig.provider.start(runtime_id)
        await rig.provider.release(runtime_id)
        text = b""
        async with asyncio.timeout(20), aclosing(rig.provider.boot_log(runtime_id, follow=True)) as log:
            async for chunk in log:
                text += chunk
                if text.endswith(b"login: "):
                    terminal = await rig.provider.console(runtime_id, ConsoleRequest(kind="serial", line=0))
                    await terminal.write(b"ada\r")
                    await terminal.close()
                if b"hello ada" in text:
                    break
        assert text.splitlines() == [b"booted", b"r1 login: ada", b"hello ada"]


async def test_a_program_that_is_not_in_the_image_is_named_in_the_log(rig: Rig) -> None:
    async with rig.created(rig.spec(settings={"command": ["wget"]})) as runtime_id:
        await rig.provider.start(runtime_id)
        await rig.provider.release(runtime_id)
        await gather_log(rig.provider, runtime_id, rb"no program 'wget'", 20)
        await rig.expect_phase(runtime_id, RuntimePhase.EXITED, within_s=5)
        assert (await rig.status(runtime_id)).exit_code == 127


async def test_environment_names_that_no_shell_knows_reach_the_program(rig: Rig) -> None:
    spec = rig.spec(env={"app.colour": "it's green", "PLAIN": "a b"})
    async with rig.booted(spec) as runtime_id:
        env = (await output(rig, runtime_id, "cat", "/proc/1/environ")).split("\0")
        assert "PLAIN=a b" in env
    async with rig.created(spec.model_copy(update={"settings": {"command": ["cat", "/proc/self/environ"]}})) as other:
        await rig.provider.start(other)
        await rig.provider.release(other)
        await gather_log(rig.provider, other, rb"app.colour=it's green", 20)


async def test_named_capabilities_sysctls_and_mounts_are_granted(rig: Rig) -> None:
    granted = settings(
        BOOT,
        cap_add=["NET_ADMIN"],
        sysctls={"net.ipv4.ip_forward": 1},
        tmpfs={"/scratch": "size=1m"},
        devices=["/dev/null:/dev/zilch"],
        shm_size_mb=32,
    )
    async with rig.booted(rig.spec(settings=granted)) as runtime_id:
        assert await output(rig, runtime_id, "cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"
        assert await output(rig, runtime_id, "cat", "/proc/sys/net/ipv6/conf/all/disable_ipv6") == "0\n"
        await output(rig, runtime_id, "test", "-c", "/dev/zilch")
        mounts = await output(rig, runtime_id, "mount")
        assert "/scratch type tmpfs" in mounts
        assert "size=32768k" in next(line for line in mounts.splitlines() if " /dev/shm " in line)


async def test_a_shown_folder_is_the_guests_own_and_closed_on_the_host(rig: Rig) -> None:
    folder = ShownFolder(rig.folder / "storage", PurePosixPath("/mnt/flash"))
    folder.put({PurePosixPath("/mnt/flash/startup-config"): b"hostname r1\n"}, 0o644)
    bind = Bind(source=str(folder.path), target="/mnt/flash")
    async with rig.booted(rig.spec(binds=(bind,), settings=settings(BOOT, user="1234:1234"))) as runtime_id:
        assert await output(rig, runtime_id, "cat", "/mnt/flash/startup-config") == "hostname r1\n"
    async with rig.booted(rig.spec(binds=(bind,), spec_hash="2")) as runtime_id:
        await output(rig, runtime_id, "sh", "-c", "echo saved >/mnt/flash/startup-config")
    assert (folder.path / "startup-config").read_text() == "saved\n"


async def test_the_gate_cannot_be_changed_by_the_guest(rig: Rig) -> None:
    async with rig.booted(rig.spec()) as runtime_id:
        done = await rig.provider.exec(runtime_id, ["sh", "-c", "echo x >/.wireloom/busybox"], timeout_s=20)
        assert done.exit_code != 0


async def test_privilege_needs_consent_and_a_host_that_has_it(rig: Rig) -> None:
    wish = rig.spec(settings=settings(BOOT, privileged=True))
    with pytest.raises(NotPermitted):
        await rig.provider.create(wish)
    allowed = wish.model_copy(update={"privileged_allowed": True})
    assert rig.capabilities.privileged == has_all_capabilities()
    if rig.capabilities.privileged:
        async with rig.booted(allowed):
            return
    with pytest.raises(Unsupported, match="privileged"):
        await rig.provider.create(allowed)


async def test_files_have_their_mode_and_new_folders_are_not_open_to_all(rig: Rig) -> None:
    files = (GuestFile(path="/root/key", content=b"x", mode=0o600), GuestFile(path="/new/deep/file", content=b"y"))
    async with rig.booted(rig.spec(files=files)) as runtime_id:
        paths = ("/root", "/root/key", "/new", "/new/deep/file")
        modes = await output(rig, runtime_id, "stat", "-c", "%a %U", *paths)
        assert modes.split("\n")[:4] == ["700 UNKNOWN", "600 UNKNOWN", "755 UNKNOWN", "644 UNKNOWN"]


async def test_a_container_that_was_made_before_its_files_gets_them_on_the_next_create(rig: Rig) -> None:
    spec = rig.spec()
    async with rig.created(spec) as runtime_id:
        again = spec.model_copy(update={"files": (GuestFile(path="/late", content=b"here"),)})
        assert await rig.provider.create(again) == runtime_id
        await rig.boot(runtime_id)
        assert await output(rig, runtime_id, "cat", "/late") == "here"


async def test_a_command_that_writes_without_end_is_ended(rig: Rig) -> None:
    async with rig.booted(rig.spec()) as runtime_id:
        with pytest.raises(GuestFailed):
            await rig.provider.exec(runtime_id, ["sh", "-c", "while :; do echo $PATH$PATH; done"], timeout_s=60)
        await until_only_init(runtime_id)


async def test_a_closed_console_leaves_no_process_behind(rig: Rig) -> None:
    async with rig.booted(rig.spec()) as runtime_id:
        stream = await rig.provider.console(runtime_id, ConsoleRequest(kind="exec", columns=91, rows=33))
        await stream.write(b"cat /proc/self/stat | sleep 999\n")
        await stream.read()
        await stream.close()
        await until_only_init(runtime_id)


async def until_only_init(runtime_id: str) -> None:
    """The first process of the test image has one child, its sleep."""
    async with asyncio.timeout(10):
        while len((await docker("top", runtime_id, "-eo", "pid")).split()) > 3:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


# ---------------------------------------------------------------------- images


@pytest.fixture
def spare_name() -> str:
    return f"wireloom-test/spare-{secrets.token_hex(4)}:1"


async def test_an_image_archive_is_loaded_under_the_wanted_name(rig: Rig, tmp_path: Path, spare_name: str) -> None:
    archive = tmp_path / "saved.tar"
    await docker("save", "--output", str(archive), IMAGE)
    info = await rig.provider.images.load(spare_name, archive)
    try:
        known = {image.name: image.digest for image in await rig.provider.images.list()}
        assert known[spare_name] == known[IMAGE] == info.digest
        async with rig.created(rig.spec(image=spare_name)):
            pass
    finally:
        await rig.provider.images.remove(spare_name)
    assert not await rig.provider.images.has(spare_name)


async def test_an_image_in_use_is_not_removed(rig: Rig, tmp_path: Path, spare_name: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "only").write_text("one")
    archive = tmp_path / "tree.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "etc", "etc")
    await rig.provider.images.load(spare_name, archive)
    try:
        async with rig.created(rig.spec(image=spare_name)):
            with pytest.raises(Conflict):
                await rig.provider.images.remove(spare_name)
    finally:
        await rig.provider.images.remove(spare_name)


async def test_a_mistyped_image_is_answered_with_names_that_are_there(rig: Rig) -> None:
    with pytest.raises(ImageMissing) as caught:
        await rig.provider.create(rig.spec(image="wireloom-test/busybix"))
    assert IMAGE in caught.value.details["similar"]
    assert IMAGE in caught.value.hint


async def test_a_file_that_is_no_image_is_refused(rig: Rig, tmp_path: Path, spare_name: str) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"no tar at all" * 100)
    with pytest.raises(ImageMissing):
        await rig.provider.images.load(spare_name, broken)


# ---------------------------------------------------------------------- an engine that comes and goes


class Proxy:
    """Stands before the engine's socket; can be cut, as when the engine stops."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def up(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def down(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection("/var/run/docker.sock")
        ours = {writer, far_writer}
        self._open |= ours
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
        self._open -= ours
        for end in ours:
            end.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class ProxiedHarness(DockerHarness):
    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    async def provider(self, installation: str) -> Provider:
        return DockerProvider(installation, url=f"unix://{self.proxy.path}")


@asynccontextmanager
async def proxied(folder: Path) -> AsyncIterator[tuple[Rig, Proxy]]:
    proxy = Proxy(folder / "engine.sock")
    await proxy.up()
    try:
        async with harness(), rig_for(ProxiedHarness(proxy)) as rig:
            yield rig, proxy
    finally:
        await proxy.down()


async def test_events_go_on_after_the_engine_was_away(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (rig, proxy):
        log = EventLog(rig.provider.watch())
        try:
            await log.wait_for(EventKind.RESYNC)
            spec = rig.spec()
            async with rig.created(spec) as runtime_id:
                await log.wait_for(EventKind.CREATED, node_id=spec.identity.node_id)
                await proxy.down()
                with pytest.raises(Unavailable):
                    await rig.provider.observe()
                assert not (await rig.provider.capabilities()).available
                await proxy.up()
                await log.wait_for(EventKind.RESYNC)
                await rig.provider.start(runtime_id)
                await log.wait_for(EventKind.STARTED, node_id=spec.identity.node_id)
        finally:
            await log.close()


async def test_a_lost_engine_ends_a_command_with_unavailable(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (rig, proxy), rig.booted(rig.spec()) as runtime_id:
        command = asyncio.create_task(rig.provider.exec(runtime_id, ["sleep", "30"], timeout_s=20))
        await asyncio.sleep(0.3)
        await proxy.down()
        with pytest.raises(Unavailable):
            await command
        await proxy.up()
        await rig.expect_phase(runtime_id, (await rig.status(runtime_id)).phase)


async def test_only_an_engine_of_this_host_can_be_used() -> None:
    with pytest.raises(Unsupported):
        DockerProvider("conf", url="tcp://192.0.2.1:2375")
