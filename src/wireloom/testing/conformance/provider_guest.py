"""Checks of the provider suite that talk to a booted guest: commands, consoles, log, statistics, files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Sequence

from wireloom.errors import DeadlineExceeded, InvalidInput, NotFound, Unsupported, WireloomError
from wireloom.model.runtime import ConsoleRequest, ExecResult, GuestFile
from wireloom.model.slice import Bind
from wireloom.model.state import RuntimePhase
from wireloom.providers.boots import KEPT_BOOTS
from wireloom.providers.contract import ByteStream
from wireloom.testing.conformance.provider_rig import ConsoleTalk, GuestCommands, Rig, eventually, gather_log

__all__ = [
    "check_boot_log",
    "check_console",
    "check_environment",
    "check_exec",
    "check_file_reading",
    "check_files",
    "check_health",
    "check_previous_boots",
    "check_stats",
    "whole_log",
]

_COMMAND_S = 20.0
_OVERRUN_S = 1.0
_OVERRUN_SLACK_S = 5.0
_TALK_S = 20.0
_BOOTS = KEPT_BOOTS + 2
_MIB = 1024 * 1024


async def whole_log(rig: Rig, runtime_id: str) -> bytes:
    """What the boot log holds now."""
    return b"".join([chunk async for chunk in rig.provider.boot_log(runtime_id)])


async def check_exec(rig: Rig) -> None:
    """Commands have an exit code, an input and two outputs apart, and end at their deadline; or none are declared."""
    commands = rig.harness.commands
    if not rig.capabilities.exec:
        async with rig.created(rig.spec()) as runtime_id:
            await _expect_unsupported(rig.provider.exec(runtime_id, ["true"], timeout_s=1))
        return
    assert commands is not None
    async with rig.booted(rig.spec()) as runtime_id:
        await check_exit_codes(rig, runtime_id, commands)
        await check_outputs(rig, runtime_id, commands)
        await check_input(rig, runtime_id, commands)
        await check_overrun(rig, runtime_id, commands)


async def check_exit_codes(rig: Rig, runtime_id: str, commands: GuestCommands) -> None:
    """A failing command, or one that is not there, is a result and not an error."""
    for code in (0, 1, 42):
        assert (await _exec(rig, runtime_id, commands.exit_with(code))).exit_code == code
    missing = await _exec(rig, runtime_id, ["no-such-command"])
    assert (missing.exit_code, missing.stdout) == (127, b"")
    assert b"no-such-command" in missing.stderr


async def check_outputs(rig: Rig, runtime_id: str, commands: GuestCommands) -> None:
    """Standard output and standard error do not mix."""
    said = await _exec(rig, runtime_id, commands.say("hello there"))
    assert (said.stdout, said.stderr, said.channel) == (b"hello there\n", b"", "exec")
    warned = await _exec(rig, runtime_id, commands.warn("beware"))
    assert (warned.stdout, warned.stderr) == (b"", b"beware\n")


async def check_input(rig: Rig, runtime_id: str, commands: GuestCommands) -> None:
    """Input arrives whole and byte-exact, and ends; no input is an empty one."""
    for content in (b"\x00\xff line\r\n", bytes(range(256)) * 4096):
        copied = await rig.provider.exec(runtime_id, commands.copy_input, timeout_s=_COMMAND_S, stdin=content)
        assert copied.stdout == content
    assert (await _exec(rig, runtime_id, commands.copy_input)).stdout == b""


async def check_overrun(rig: Rig, runtime_id: str, commands: GuestCommands) -> None:
    """A command that overruns its time is ended, and the guest goes on."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        await rig.provider.exec(runtime_id, commands.sleep(60), timeout_s=_OVERRUN_S)
    except DeadlineExceeded:
        assert loop.time() - began < _OVERRUN_S + _OVERRUN_SLACK_S
    else:
        raise AssertionError("a command ran past its deadline")
    assert (await _exec(rig, runtime_id, commands.exit_with(0))).exit_code == 0


async def check_console(rig: Rig) -> None:
    """Each declared console carries what is typed and what the guest answers, and can be opened again."""
    async with rig.booted(rig.spec()) as runtime_id:
        for talk in rig.harness.talks:
            for _ in range(2):
                await check_talk(rig, runtime_id, talk)
            await check_alive(rig, runtime_id)
            await check_recent(rig, runtime_id, talk)
        for kind in {"exec", "serial"} - rig.capabilities.consoles:
            request = ConsoleRequest.model_validate({"kind": kind, "command": ["sh"]})
            await _expect_unsupported(rig.provider.console(runtime_id, request))


async def check_talk(rig: Rig, runtime_id: str, talk: ConsoleTalk) -> None:
    """One session: type, see the answer, resize, close twice; a closed stream has ended."""
    stream = await rig.provider.console(runtime_id, talk.request)
    try:
        await stream.resize(120, 40)
        await stream.write(talk.type)
        await _read_until(stream, talk.answer)
    finally:
        await stream.close()
        await stream.close()


async def check_alive(rig: Rig, runtime_id: str) -> None:
    """Leaving a console ends no input and sends no signal: the guest goes on."""
    (status,) = await rig.provider.observe(runtime_id)
    assert status.phase is RuntimePhase.RUNNING, f"leaving a console ended the guest: {status}"


async def check_recent(rig: Rig, runtime_id: str, talk: ConsoleTalk) -> None:
    """A line that nobody holds shows what it wrote lately, bounded; a line that is not there shows nothing."""
    ability = rig.provider.abilities.recent
    if talk.request.kind != "serial" or ability is None:
        return

    async def shown() -> bool:
        return re.search(talk.answer, await ability.recent(runtime_id, talk.request.line, 64 * 1024)) is not None

    await eventually(shown, _TALK_S, "the recent screen")
    assert len(await ability.recent(runtime_id, talk.request.line, 10)) == 10
    assert await ability.recent(runtime_id, 97, 10) == b""


async def check_boot_log(rig: Rig) -> None:
    """Everything since power-on, while it comes, afterwards, and after a stop; a followed log ends with the run."""
    async with rig.created(rig.spec()) as runtime_id:
        assert await whole_log(rig, runtime_id) == b"", "a log before the first power-on"
        await rig.provider.start(runtime_id)
        following = asyncio.create_task(_follow_to_end(rig, runtime_id))
        await rig.provider.release(runtime_id)
        await gather_log(rig.provider, runtime_id, rig.harness.boot_pattern, rig.harness.boot_s)
        assert re.search(rig.harness.boot_pattern, await whole_log(rig, runtime_id))
        await rig.provider.stop(runtime_id, 0)
        async with asyncio.timeout(_TALK_S):
            followed = await following
        assert re.search(rig.harness.boot_pattern, followed)
        kept = await whole_log(rig, runtime_id)
        assert kept.startswith(followed[: len(kept)]) or followed.startswith(kept)
        assert re.search(rig.harness.boot_pattern, kept)


async def check_previous_boots(rig: Rig) -> None:
    """The log of each boot is its own; those of the last three before are kept, and no more is promised."""
    async with rig.created(rig.spec()) as runtime_id:
        assert list(await rig.provider.boots(runtime_id)) == []
        await _expect_not_found(rig, runtime_id, 1)
        logs: list[bytes] = []
        for number in range(_BOOTS):
            await rig.provider.start(runtime_id)
            assert await whole_log(rig, runtime_id) == b"", "a new boot begins with an empty log"
            await rig.provider.release(runtime_id)
            await gather_log(rig.provider, runtime_id, rig.harness.boot_pattern, rig.harness.boot_s)
            assert len(await rig.provider.boots(runtime_id)) == min(number, KEPT_BOOTS) + 1
            await rig.provider.stop(runtime_id, 0)
            logs.insert(0, await whole_log(rig, runtime_id))
        boots = await rig.provider.boots(runtime_id)
        assert [boot.number for boot in boots] == list(range(KEPT_BOOTS + 1))
        assert sorted((boot.started_at for boot in boots), reverse=True) == [boot.started_at for boot in boots]
        for boot in boots:
            kept = b"".join([chunk async for chunk in rig.provider.boot_log(runtime_id, boot=boot.number, follow=True)])
            assert kept == logs[boot.number], f"boot {boot.number}"
            assert re.search(rig.harness.boot_pattern, kept)
        await _expect_not_found(rig, runtime_id, KEPT_BOOTS + 1)


async def _expect_not_found(rig: Rig, runtime_id: str, boot: int) -> None:
    try:
        async for _ in rig.provider.boot_log(runtime_id, boot=boot):
            pass
    except NotFound:
        return
    raise AssertionError(f"there is a log of {boot} boots ago")


async def check_stats(rig: Rig) -> None:
    """CPU time grows, memory is more than nothing and within the limit; zero when it is off."""
    async with rig.created(rig.spec()) as runtime_id:
        await rig.provider.start(runtime_id)
        await rig.provider.release(runtime_id)

        async def used() -> bool:
            return (await rig.provider.stats(runtime_id)).cpu_seconds > 0

        await eventually(used, rig.harness.boot_s, "any use of the CPU")
        first = await rig.provider.stats(runtime_id)
        limit = (rig.harness.memory_mb + rig.harness.memory_overhead_mb) * _MIB
        assert 0 < first.memory_bytes <= limit
        assert (await rig.provider.stats(runtime_id)).cpu_seconds >= first.cpu_seconds
        await rig.provider.stop(runtime_id, 0)
        off = await rig.provider.stats(runtime_id)
        assert (off.cpu_seconds, off.memory_bytes) == (0, 0)


async def check_files(rig: Rig) -> None:
    """Files are in the guest before its first start, in folders that need not exist, with their mode."""
    files = (
        GuestFile(path="/etc/wl-conformance/deep/one", content=b"first\n"),
        GuestFile(path="/wl-two", content=b"\x00\x01", mode=0o600),
    )
    async with rig.booted(rig.spec(files=files)) as runtime_id:
        for file in files:
            assert await rig.harness.read_file(rig.provider, runtime_id, file.path) == file.content


async def check_file_reading(rig: Rig) -> None:
    """A guest's files are read byte by byte, links stay inside, and what is no file is said; or it is not declared."""
    access = rig.provider.abilities.files
    if access is None:
        return
    content = bytes(range(256)) * 64
    async with rig.booted(rig.spec(files=(GuestFile(path="/wl-read/me", content=content),))) as runtime_id:
        assert await access.read(runtime_id, "/wl-read/me") == content
        await _expect(NotFound, access.read(runtime_id, "/wl-read/not-me"))
        await _expect(InvalidInput, access.read(runtime_id, "wl-read/me"))
        await rig.provider.stop(runtime_id, 0)
        assert await access.read(runtime_id, "/wl-read/me") == content
    await _expect(NotFound, access.read(runtime_id, "/wl-read/me"))


async def check_health(rig: Rig) -> None:
    """A guest without a check of its own is neither well nor ill, and one that is gone is said to be."""
    check = rig.provider.abilities.health
    if check is None:
        return
    async with rig.booted(rig.spec()) as runtime_id:
        assert await check.health(runtime_id) == "unknown"
    await _expect(NotFound, check.health(runtime_id))


async def check_environment(rig: Rig) -> None:
    """Host name, environment, binds and name servers of the spec are what the guest sees."""
    commands = rig.harness.commands
    assert commands is not None
    source = rig.folder / "shown"
    source.mkdir(exist_ok=True)
    (source / "note").write_bytes(b"from the host")
    spec = rig.spec(
        hostname="conf-host",
        env={"WL_COLOUR": "dark green"},
        binds=(Bind(source=str(source), target="/shown", read_only=True),),
        dns_servers=("192.0.2.53",),
        dns_search=("conf.example",),
    )
    async with rig.booted(spec) as runtime_id:
        facts = await commands.facts(rig.provider, runtime_id)
        assert facts.hostname == "conf-host"
        assert facts.env["WL_COLOUR"] == "dark green"
        assert "192.0.2.53" in facts.resolver
        assert "conf.example" in facts.resolver
        assert await rig.harness.read_file(rig.provider, runtime_id, "/shown/note") == b"from the host"


async def _exec(rig: Rig, runtime_id: str, command: Sequence[str]) -> ExecResult:
    return await rig.provider.exec(runtime_id, command, timeout_s=_COMMAND_S)


async def _expect(error: type[WireloomError], awaitable: Awaitable[object]) -> None:
    try:
        await awaitable
    except error:
        return
    raise AssertionError(f"{error.__name__} is missing")


async def _expect_unsupported(awaitable: Awaitable[object]) -> None:
    await _expect(Unsupported, awaitable)


async def _read_until(stream: ByteStream, pattern: bytes) -> None:
    text = b""
    try:
        async with asyncio.timeout(_TALK_S):
            while not re.search(pattern, text):
                data = await stream.read()
                assert data, f"the console ended: {text!r}"
                text += data
    except TimeoutError:
        raise AssertionError(f"{pattern!r} not on the console: {text!r}") from None


async def _follow_to_end(rig: Rig, runtime_id: str) -> bytes:
    return b"".join([chunk async for chunk in rig.provider.boot_log(runtime_id, follow=True)])
