"""NETCONF over SSH: reading a datastore (RFC 6241, framed by RFC 6242)."""

from __future__ import annotations

import asyncio

from wireloom.agent.channels.base import Call, ChannelTarget, RemoteShell
from wireloom.agent.channels.netconf_session import NetconfSession
from wireloom.errors import DeadlineExceeded, Unsupported
from wireloom.model.device import Step
from wireloom.model.runtime import ExecResult

__all__ = ["NetconfChannel"]


class NetconfChannel:
    """``Step.run`` names the datastore, ``running`` by default."""

    def __init__(self, shell: RemoteShell) -> None:
        self._shell = shell

    def lacks(self, target: ChannelTarget, step: Step) -> str:
        del step
        return "" if target.node.mgmt_ipv4 is not None else "the node has no management address"

    async def run(self, call: Call) -> ExecResult:
        raise Unsupported("NETCONF takes no commands", node=call.target.node.name)

    async def fetch(self, target: ChannelTarget, step: Step, *, timeout_s: float) -> bytes:
        """The ``data`` of the datastore as XML."""
        login = target.login()
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._shell.subsystem(login, "netconf", timeout_s=timeout_s) as stream,
            ):
                session = await NetconfSession.open(stream)
                return await session.get_config(step.run)
        except TimeoutError:
            raise DeadlineExceeded(f"NETCONF did not end in {timeout_s:g} s", node=target.node.name) from None

    async def load(self, target: ChannelTarget, step: Step, text: str, *, timeout_s: float) -> ExecResult:
        del step, text, timeout_s
        raise Unsupported("configurations are not loaded over NETCONF", node=target.node.name)
