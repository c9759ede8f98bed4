"""The kinds of probe that readiness is made of. Each says why it does not hold yet; nothing is no reason."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from wireloom.agent.channels import Channels, ChannelTarget
from wireloom.dialogue import at_prompt, strip_terminal
from wireloom.errors import WireloomError
from wireloom.model.device import Probe, Step
from wireloom.model.slice import NodeIntent

if TYPE_CHECKING:
    import httpx

__all__ = ["HOLDS", "Failed", "Probes", "describe", "unheard"]

#: The reason of a probe that holds.
HOLDS: Final = ""
#: How much of the log is kept to match a pattern that arrives in pieces, in bytes.
_WINDOW: Final = 16_384
_TRY_S: Final = 10.0
_REACH_S: Final = 60.0
_QUIET_S: Final = 3.0
_BODY_MOST: Final = 64 << 10
_REASON_LENGTH: Final = 200
_FIRST_ERROR_STATUS: Final = 400
_NO_ADDRESS: Final = "the node has no management address"


#: Told of a node and what went wrong with one of its probes.
Failed = Callable[[NodeIntent, WireloomError], object]


def unheard(node: NodeIntent, error: WireloomError) -> None:
    """For those who do nothing about it."""


def describe(probe: Probe) -> str:
    """What the probe waits for, as a part of a sentence."""
    match probe.kind:
        case "running":
            return "it runs"
        case "log":
            return f"{probe.pattern!r} in its log"
        case "serial":
            return f"{probe.pattern!r} on its console" if probe.pattern else "a prompt on its console"
        case "exec" | "ssh":
            return f"{probe.expect!r} from {probe.command!r} by {probe.kind}" if probe.expect else f"{probe.command!r}"
        case "tcp":
            return f"port {probe.port}"
        case "http":
            return f"{'https' if probe.tls else 'http'} port {probe.port} {probe.path}"
        case "health":
            return "its health check"


class Probes:
    """Asks probes. No question takes longer than the guest's slowness justifies, but ``log``, which waits.

    :param failed: told of errors: one may ask for a restart of the node.
    """

    def __init__(self, channels: Channels, failed: Failed = unheard) -> None:
        self._channels = channels
        self._failed = failed
        self._kinds: Mapping[str, Callable[[Probe, ChannelTarget], Awaitable[str]]] = {
            "running": self._running,
            "log": self._log,
            "serial": self._serial,
            "exec": self._command,
            "ssh": self._command,
            "tcp": self._tcp,
            "http": self._http,
            "health": self._health,
        }

    async def lacks(self, probe: Probe, target: ChannelTarget) -> str:
        """Why the node has no channel for ``probe``; empty when it has one.

        :raises WireloomError: that cannot be told now.
        """
        if probe.kind in {"tcp", "http"}:
            return "" if target.node.mgmt_ipv4 is not None else _NO_ADDRESS
        if probe.kind == "health":
            return await _lacks_health(target)
        if probe.kind == "serial" and probe.pattern:
            return "" if "serial" in target.capabilities.consoles else "it has no serial lines"
        if probe.kind in {"exec", "ssh", "serial"}:
            return self._channels.lacks(target, _step(probe, target))
        return ""

    async def ask(self, probe: Probe, target: ChannelTarget) -> str:
        """Why it does not hold yet, or :data:`HOLDS`."""
        try:
            return await self._kinds[probe.kind](probe, target)
        except WireloomError as error:
            self._failed(target.node, error)
            return error.message
        except TimeoutError:
            return "no answer in time"
        except OSError as error:
            return os.strerror(error.errno).lower() if error.errno else str(error) or type(error).__name__

    @staticmethod
    async def _running(probe: Probe, target: ChannelTarget) -> str:
        del probe, target  # only running nodes are asked
        return HOLDS

    @staticmethod
    async def _log(probe: Probe, target: ChannelTarget) -> str:
        pattern, window = re.compile(probe.pattern), b""
        async with contextlib.aclosing(target.provider.boot_log(target.runtime_id, follow=True)) as chunks:
            async for chunk in chunks:
                # Stripped as a whole: chunks end anywhere, also within an escape sequence or a character.
                window += chunk
                if pattern.search(strip_terminal(window.decode(errors="replace"))):
                    return HOLDS
                window = window[-_WINDOW:]
        return "the log ended without it"

    async def _serial(self, probe: Probe, target: ChannelTarget) -> str:
        """Read along first. Only a line that has fallen silent elsewhere is typed on, under its lease."""
        serial = self._channels.serial
        shown, is_silent = await serial.read_along(target, quiet_s=_QUIET_S, most_s=_REACH_S)
        if probe.pattern:
            return HOLDS if re.search(probe.pattern, shown) else _ends_with(shown)
        # The last line of a guest that goes on printing is not whole: it may look like a prompt by chance.
        if target.cli is None or at_prompt(target.cli, shown if is_silent else f"{shown}\n") is not None:
            return HOLDS
        if not is_silent:
            return f"it does not stop printing, {_ends_with(shown)}"
        await serial.reach(target, timeout_s=_REACH_S * target.slow_factor)
        return HOLDS

    async def _command(self, probe: Probe, target: ChannelTarget) -> str:
        limit_s = _TRY_S * target.slow_factor
        chain = (_step(probe, target),)
        async with asyncio.timeout(limit_s + 1):
            outcome = await self._channels.run(target, probe.command, timeout_s=limit_s, chain=chain)
        result = outcome.result
        text = result.stdout.decode(errors="replace")
        if result.exit_code != 0:
            said = result.stderr.decode(errors="replace").strip() or text.strip()
            return f"exit code {result.exit_code}" + (f": {said[-_REASON_LENGTH:]}" if said else "")
        return HOLDS if re.search(probe.expect, text) else _ends_with(text)

    @staticmethod
    async def _tcp(probe: Probe, target: ChannelTarget) -> str:
        async with asyncio.timeout(_TRY_S):
            _, writer = await asyncio.open_connection(str(target.node.mgmt_ipv4), probe.port)
            writer.close()
        return HOLDS

    @staticmethod
    async def _http(probe: Probe, target: ChannelTarget) -> str:
        import httpx  # not before a device asks for it: it is large

        scheme = "https" if probe.tls else "http"
        url = f"{scheme}://{target.node.mgmt_ipv4}:{probe.port}{probe.path}"
        verify = await asyncio.to_thread(_any_certificate) if probe.tls else False
        try:
            async with (
                asyncio.timeout(_TRY_S * target.slow_factor),
                httpx.AsyncClient(verify=verify, trust_env=False, timeout=_TRY_S * target.slow_factor) as client,
                client.stream("GET", url) as answer,
            ):
                if answer.status_code >= _FIRST_ERROR_STATUS:
                    return f"it answers with status {answer.status_code}"
                body = await _beginning(answer) if probe.expect else ""
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__
        return HOLDS if re.search(probe.expect, body) else _ends_with(body)

    @staticmethod
    async def _health(probe: Probe, target: ChannelTarget) -> str:
        del probe
        check = target.provider.abilities.health
        if check is None:
            return "there is no health check"
        health = await check.health(target.runtime_id)
        return HOLDS if health == "healthy" else f"it says {health}"


def _step(probe: Probe, target: ChannelTarget) -> Step:
    """The channel of the probe; where the device takes commands in an SSH session only, that session."""
    if probe.kind == "ssh":
        session = next((step for step in target.node.run if step.channel == "ssh"), Step(channel="ssh"))
        return Step(channel="ssh", prompt=session.prompt)
    return Step(channel="serial" if probe.kind == "serial" else "exec")


async def _lacks_health(target: ChannelTarget) -> str:
    check = target.provider.abilities.health
    if check is None or await check.health(target.runtime_id) == "unknown":
        return "it has no health check"
    return ""


async def _beginning(answer: httpx.Response) -> str:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) >= _BODY_MOST:
            break
    return body[:_BODY_MOST].decode(errors="replace")


def _any_certificate() -> ssl.SSLContext:
    """A lab's guests sign for themselves, often with what is out of date elsewhere."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    return context


def _ends_with(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"so far: {lines[-1][-_REASON_LENGTH:]}" if lines else "nothing so far"
