"""The asynchronous client: one method for each verb of the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import quote

from wireloom.client.discovery import Endpoint, find_endpoint
from wireloom.errors import DeadlineExceeded, Unavailable

if TYPE_CHECKING:
    from wireloom.client.captures import Captures
    from wireloom.client.configs import Configs
    from wireloom.client.console import ConsoleStream
    from wireloom.client.hosts import Hosts
    from wireloom.client.images import Images
    from wireloom.client.links import Links
    from wireloom.client.moves import Moves
    from wireloom.client.orphans import Orphans
    from wireloom.client.transport import Transport
    from wireloom.fabric.documents import Event
    from wireloom.model.base import Value
    from wireloom.model.console import ConsoleLine
    from wireloom.model.device_views import (
        DeviceDetails,
        DeviceFileRequest,
        DeviceFileView,
        DeviceView,
        FileKind,
        NodeProfile,
    )
    from wireloom.model.diagnostic import Diagnostic
    from wireloom.model.orphans import Orphan
    from wireloom.model.post_boot import BootRecord
    from wireloom.model.runtime import Boot
    from wireloom.model.views import (
        DeployRequest,
        ExecView,
        HostView,
        LabSummary,
        LabView,
        OperationView,
        PlanView,
        StatusView,
        StreamMessage,
    )

__all__ = ["Client"]

V = TypeVar("V", bound="Value")

#: The controller and the fabric need a little longer than the command that they carry.
EXEC_MARGIN_S = 15.0
#: Preflight and planning of a large lab.
DEPLOY_TIMEOUT_S = 120.0


class Client:
    """Talks to one controller. Use as ``async with Client() as client``.

    Every method raises the errors of :mod:`wireloom.errors`: what the controller answered, ``Unavailable`` when it
    does not answer, ``DeadlineExceeded`` when it takes too long. Safe for concurrent use within one event loop.

    :param endpoint: address and token; ``None`` finds them as :func:`~wireloom.client.find_endpoint` does.
    :param timeout_s: deadline of an ordinary call.
    """

    def __init__(self, endpoint: Endpoint | None = None, *, timeout_s: float = 30) -> None:
        self.endpoint = endpoint or find_endpoint()
        self._timeout_s = timeout_s
        self._opened: Transport | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Release the connections; idempotent."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    # ---------------------------------------------------------------- what is there

    async def status(self) -> StatusView:
        """The installation at a glance."""
        from wireloom.model.views import StatusView

        return await self._one(StatusView, "GET", "/status")

    async def hosts(self) -> list[HostView]:
        """Every host that ever reported since the controller started, alive or not."""
        from wireloom.model.views import HostView

        return await self._many(HostView, "GET", "/hosts")

    async def devices(self) -> list[DeviceView]:
        """The device catalogue, hidden devices included."""
        from wireloom.model.device_views import DeviceView

        return await self._many(DeviceView, "GET", "/devices")

    async def device(self, name: str) -> DeviceDetails:
        """A device with all of its values and where they come from. :raises NotFound:"""
        from wireloom.model.device_views import DeviceDetails

        return await self._one(DeviceDetails, "GET", f"/devices/{quote(name, safe='')}")

    async def device_problems(self, *, reload: bool = False) -> list[Diagnostic]:
        """Mistakes in device files of the user, which are left out; with ``reload`` all files are read again."""
        from wireloom.model.diagnostic import Diagnostic

        return await self._many(Diagnostic, "POST" if reload else "GET", "/device-problems")

    async def add_device_file(self, request: DeviceFileRequest) -> DeviceFileView:
        """Add a device, an override or a command line. :raises InvalidInput: with ``details["diagnostics"]``."""
        from wireloom.model.device_views import DeviceFileView

        return await self._one(DeviceFileView, "POST", "/devices", request)

    async def remove_device_file(self, name: str, *, kind: FileKind = "device") -> DeviceFileView:
        """Remove a file of the user. :raises NotFound: :raises Conflict: something needs it."""
        from wireloom.model.device_views import DeviceFileView

        return await self._one(DeviceFileView, "DELETE", f"/device-files/{kind}/{quote(name, safe='')}")

    async def hide_device(self, name: str, *, hidden: bool = True) -> DeviceView:
        """Leave a device out of lists, or put it back. :raises NotFound:"""
        from wireloom.model.device_views import DeviceView, HiddenRequest

        path = f"/devices/{quote(name, safe='')}/hidden"
        return await self._one(DeviceView, "PUT", path, HiddenRequest(hidden=hidden))

    async def node_profile(self, lab: str, node: str) -> NodeProfile:
        """What a node is made of, and where each value comes from. :raises NotFound:"""
        from wireloom.model.device_views import NodeProfile

        return await self._one(NodeProfile, "GET", _node(lab, node))

    async def labs(self) -> list[LabSummary]:
        """One summary per lab, by name."""
        from wireloom.model.views import LabSummary

        return await self._many(LabSummary, "GET", "/labs")

    async def lab(self, lab: str) -> LabView:
        """A lab with its nodes and links as they are now. :raises NotFound:"""
        from wireloom.model.views import LabView

        return await self._one(LabView, "GET", _lab(lab))

    async def topology(self, lab: str) -> str:
        """The text of the lab's current revision, comments and all. :raises NotFound:"""
        return (await self._transport.request("GET", f"{_lab(lab)}/topology")).decode()

    async def events(self, lab: str | None = None) -> list[Event]:
        """History, oldest first, of one lab or of all."""
        from wireloom.fabric.documents import Event

        return await self._many(Event, "GET", f"{_lab(lab)}/events" if lab else "/events")

    # ---------------------------------------------------------------- changing labs

    async def plan(self, request: DeployRequest) -> PlanView:
        """What deploying would change; changes nothing. :raises TopologyInvalid:"""
        from wireloom.model.views import PlanView

        return await self._one(PlanView, "POST", "/plan", request, timeout_s=DEPLOY_TIMEOUT_S)

    async def deploy(self, request: DeployRequest) -> OperationView:
        """Create the lab, or bring it to this topology. Deploying what is there changes nothing.

        :raises TopologyInvalid: with every mistake in ``details["diagnostics"]``.
        :raises WireloomError: preflight refused it; ``details["problems"]`` has one error per node.
        """
        return await self._operation("POST", "/labs", request, timeout_s=DEPLOY_TIMEOUT_S)

    async def start(self, lab: str, nodes: Iterable[str] = ()) -> OperationView:
        """Power on the named nodes, or all."""
        return await self._act(lab, "start", nodes)

    async def stop(self, lab: str, nodes: Iterable[str] = ()) -> OperationView:
        """Power off the named nodes, or all; disks and configurations stay."""
        return await self._act(lab, "stop", nodes)

    async def restart(self, lab: str, nodes: Iterable[str] = ()) -> OperationView:
        """Power-cycle the named nodes, or all."""
        return await self._act(lab, "restart", nodes)

    async def wipe(self, lab: str, nodes: Iterable[str]) -> OperationView:
        """Make the named nodes anew, with empty disks. :raises InvalidInput: no node named."""
        return await self._act(lab, "wipe", nodes)

    async def destroy(self, lab: str) -> OperationView:
        """Remove the lab and everything it has on any host."""
        return await self._operation("DELETE", _lab(lab))

    async def prune(self, *, dry_run: bool = True) -> list[Orphan]:
        """Find (and unless ``dry_run`` remove) what carries our labels on a host and is in no lab."""
        return await self.orphans.prune(dry_run=dry_run)

    # ---------------------------------------------------------------- operations

    async def operation(self, operation_id: str) -> OperationView:
        """How far an operation is. :raises NotFound:"""
        return await self._operation("GET", f"/operations/{quote(operation_id, safe='')}")

    async def wait(
        self,
        operation: OperationView,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[OperationView], None] | None = None,
    ) -> OperationView:
        """Wait until ``operation`` is done or has failed, and return it in its final state.

        :param on_progress: called with each new view, the final one included.
        :raises DeadlineExceeded: it is still running after ``timeout_s`` seconds; it goes on by itself.
        """
        try:
            async with asyncio.timeout(timeout_s), aclosing(self._operation_views(operation)) as views:
                async for view in views:
                    if on_progress is not None:
                        on_progress(view)
                    if view.state != "running":
                        return view
        except TimeoutError:
            raise DeadlineExceeded(
                f"lab {operation.lab} is not {operation.goal} after {timeout_s:g} s",
                hint=f"it goes on in the background; look with `wireloom inspect {operation.lab}`",
            ) from None
        raise Unavailable("the controller ended the event stream", hint="look at `wireloom status`")

    async def wait_ready(
        self, lab: str, *, timeout_s: float | None = None, on_progress: Callable[[LabView], None] | None = None
    ) -> LabView:
        """Wait until no powered-on node of ``lab`` can still become ready, and return the lab as it is then.

        A node counts as settled when it is ready, or has failed, or its readiness timed out; look at the view.

        :raises DeadlineExceeded: nodes are still on their way after ``timeout_s`` seconds.
        """
        waiting: list[str] = []
        try:
            async with asyncio.timeout(timeout_s), aclosing(self._lab_views(lab)) as views:
                async for view in views:
                    if on_progress is not None:
                        on_progress(view)
                    waiting = _unsettled(view)
                    if not waiting:
                        return view
        except TimeoutError:
            raise DeadlineExceeded(
                f"not ready after {timeout_s:g} s: {', '.join(waiting) or lab}",
                hint=f"look at `wireloom inspect {lab}` and `wireloom logs {lab} NODE`",
            ) from None
        raise Unavailable("the controller ended the event stream", hint="look at `wireloom status`")

    # ---------------------------------------------------------------- live

    async def stream(self, lab: str | None = None) -> AsyncGenerator[StreamMessage, None]:
        """Everything as it is now, then every change, until the iterator is closed.

        ``resync`` says that changes came faster than they were read and some history was dropped; the
        newest value of every lab, host and operation still follows.

        :raises Unavailable: the controller went away.
        """
        from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

        from wireloom.model.views import StreamMessage

        socket = await self._transport.open_socket("/stream", query={"lab": lab})
        try:
            while True:
                yield StreamMessage.model_validate_json(await socket.recv())
        except ConnectionClosedOK:
            return
        except ConnectionClosedError as error:
            raise Unavailable("the controller closed the event stream", hint="look at `wireloom status`") from error
        finally:
            await socket.close()

    async def exec(self, lab: str, node: str, command: Sequence[str], *, timeout_s: float = 60) -> ExecView:
        """Run ``command`` in a node over the first of its channels that answers."""
        from wireloom.model.views import ExecRequest, ExecView

        request = ExecRequest(command=tuple(command), timeout_s=timeout_s)
        path = f"{_node(lab, node)}/exec"
        return await self._one(ExecView, "POST", path, request, timeout_s=timeout_s + EXEC_MARGIN_S)

    async def post_boot(self, lab: str, node: str) -> list[BootRecord]:
        """What post-boot commands did in the node's newest boots, the newest first."""
        from wireloom.model.post_boot import BootRecord

        return await self._many(BootRecord, "GET", f"{_node(lab, node)}/post-boot")

    async def boots(self, lab: str, node: str) -> list[Boot]:
        """The boots of the node of which a log is kept, newest first."""
        from wireloom.model.runtime import Boot

        return await self._many(Boot, "GET", f"{_node(lab, node)}/boots")

    def log(self, lab: str, node: str, *, follow: bool = False, boot: int = 0) -> AsyncIterator[bytes]:
        """The node's console output since power-on; with ``follow`` also what comes. ``boot`` counts back from 0."""
        return self._transport.read_stream(f"{_node(lab, node)}/log", query={"follow": follow, "boot": boot})

    async def console(
        self,
        lab: str,
        node: str,
        *,
        columns: int = 80,
        rows: int = 24,
        read_only: bool = False,
        line: int | None = None,
        who: str = "",
    ) -> ConsoleStream:
        """Open the node's console: ``read``, ``write``, ``resize``, ``close``, and ``receive`` and ``command`` for
        what goes on beside the bytes.

        :param line: a serial line instead of what the device calls its console.
        :param who: how others on the line are told of this one.
        """
        from wireloom.client.console import ConsoleStream

        query = {
            "columns": columns,
            "rows": rows,
            "read_only": read_only,
            "line": line,
            "who": who or None,
            "notices": True,
        }
        return ConsoleStream(await self._transport.open_socket(f"{_node(lab, node)}/console", query=query))

    async def console_lines(self, lab: str, node: str) -> list[ConsoleLine]:
        """The node's open serial lines: who is there, who types, who asks for the keyboard."""
        from wireloom.model.console import ConsoleLine

        return await self._many(ConsoleLine, "GET", f"{_node(lab, node)}/console")

    # ---------------------------------------------------------------- inside

    @property
    def configs(self) -> Configs:
        """Configurations of nodes."""
        from wireloom.client.configs import Configs

        return Configs(lambda: self._transport)

    @property
    def links(self) -> Links:
        """Links and segments of labs, what impairs them and what passes through them."""
        from wireloom.client.links import Links

        return Links(lambda: self._transport)

    @property
    def captures(self) -> Captures:
        """Frames as they pass through labs."""
        from wireloom.client.captures import Captures

        return Captures(lambda: self._transport)

    @property
    def images(self) -> Images:
        """Images of the library, and the work that brings them in."""
        from wireloom.client.images import Images

        return Images(lambda: self._transport)

    @property
    def orphans(self) -> Orphans:
        """What lies on hosts and is in no lab: discover, prune, adopt."""
        from wireloom.client.orphans import Orphans

        return Orphans(lambda: self._transport)

    @property
    def moves(self) -> Moves:
        """Nodes that move from host to host."""
        from wireloom.client.moves import Moves

        return Moves(lambda: self._transport)

    @property
    def host(self) -> Hosts:
        """Hosts: tokens to join, labels, cordon, drain, removal."""
        from wireloom.client.hosts import Hosts

        return Hosts(lambda: self._transport)

    @property
    def _transport(self) -> Transport:
        if self._opened is None:
            from wireloom.client.transport import Transport

            self._opened = Transport(self.endpoint, timeout_s=self._timeout_s)
        return self._opened

    async def _one(
        self, answer: type[V], method: str, path: str, body: Value | None = None, *, timeout_s: float | None = None
    ) -> V:
        text = body.model_dump_json() if body is not None else None
        return answer.model_validate_json(await self._transport.request(method, path, body=text, timeout_s=timeout_s))

    async def _many(
        self, answer: type[V], method: str, path: str, body: Value | None = None, *, timeout_s: float | None = None
    ) -> list[V]:
        from pydantic import TypeAdapter

        text = body.model_dump_json() if body is not None else None
        content = await self._transport.request(method, path, body=text, timeout_s=timeout_s)
        return TypeAdapter(list[answer]).validate_json(content)  # type: ignore[valid-type]

    async def _operation(
        self, method: str, path: str, body: Value | None = None, *, timeout_s: float | None = None
    ) -> OperationView:
        from wireloom.model.views import OperationView

        return await self._one(OperationView, method, path, body, timeout_s=timeout_s)

    async def _act(
        self, lab: str, verb: Literal["start", "stop", "restart", "wipe"], nodes: Iterable[str]
    ) -> OperationView:
        from wireloom.model.views import ActionRequest

        return await self._operation("POST", f"{_lab(lab)}/actions", ActionRequest(verb=verb, nodes=tuple(nodes)))

    async def _operation_views(self, operation: OperationView) -> AsyncGenerator[OperationView, None]:
        from wireloom.model.views import OperationView

        yield await self.operation(operation.id)  # an old or unknown operation is not on the stream
        # The stream begins with everything as it is, so a change between the two calls is not missed.
        async with aclosing(self.stream(operation.lab)) as messages:
            async for message in messages:
                if message.type == "operation" and message.data.get("id") == operation.id:
                    yield OperationView.model_validate(message.data)

    async def _lab_views(self, lab: str) -> AsyncGenerator[LabView, None]:
        from wireloom.model.views import LabView

        yield await self.lab(lab)  # an unknown lab is an error now, not silence until the deadline
        async with aclosing(self.stream(lab)) as messages:
            async for message in messages:
                if message.type == "lab":
                    yield LabView.model_validate(message.data)


def _unsettled(view: LabView) -> list[str]:
    """Names of nodes that may still become ready."""
    return [
        node.name
        for node in view.nodes
        if node.power == "on"
        and node.state != "failed"
        and node.ready not in {"yes", "timeout"}
        and not (node.state == "stopped" and view.converged)  # it ended by itself, and nothing starts it again
    ]


def _lab(lab: str) -> str:
    return f"/labs/{quote(lab, safe='')}"


def _node(lab: str, node: str) -> str:
    return f"{_lab(lab)}/nodes/{quote(node, safe='')}"
