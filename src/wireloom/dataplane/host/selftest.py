"""A real frame through a real wire: proof that this host's data plane works."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from dataclasses import dataclass
from typing import Final

from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.host.namespaces import inside, new_namespace
from wireloom.errors import DataPlaneFailed
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.identity import device_name, mac_address
from wireloom.model.network import PathTest, PortAlias, PortPlan, WirePlan

__all__ = ["Stage", "run"]

_ETH_P_ALL: Final = 0x0003
#: Nearest bridge: the group that every ordinary bridge eats (IEEE 802.1Q, table 8-1).
_LLDP_GROUP: Final = "01:80:c2:00:00:0e"
_LLDP_TYPE: Final = b"\x88\xcc"
_DEADLINE_S: Final = 3.0
_WIRE: Final = "wire between containers"
_GUESTS: Final = ("a0", "b0")


@dataclass(frozen=True)
class Stage:
    """A namespace of its own with a packet socket for each of the two guests in it."""

    namespace: int
    sockets: tuple[socket.socket, socket.socket]

    @classmethod
    def open(cls) -> Stage:
        """Make one; for the data plane's worker thread. The caller closes it."""
        namespace = new_namespace()
        try:
            return cls(namespace, inside(namespace, lambda: (_packet_socket(), _packet_socket())))
        except BaseException:
            os.close(namespace)
            raise

    def close(self) -> None:
        for opened in self.sockets:
            opened.close()
        os.close(self.namespace)


def _packet_socket() -> socket.socket:
    # Protocol 0 hears nothing until it is bound to one device.
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)


def _ports(stage: Stage, installation: str) -> list[PortPlan]:
    # A name of its own for each run: two agents may test at the same time.
    run_id = secrets.token_hex(4)
    return [
        PortPlan(
            device=device_name("t", installation, run_id, guest),
            alias=PortAlias(
                installation=installation,
                lab_id="self-test",
                node_id=run_id,
                index=index,
                name=f"self-test/{run_id}/{guest}",
            ),
            attachment=NamespaceAttachment(netns=f"/proc/self/fd/{stage.namespace}"),
            guest_name=guest,
            mac=mac_address(installation, run_id, guest),
            carrier=True,
        )
        for index, guest in enumerate(_GUESTS)
    ]


async def run(plane: DataPlane, stage: Stage, installation: str) -> tuple[PathTest, ...]:
    """Send a link-local frame both ways between two throw-away ports, and remove them again."""
    try:
        await _wire(plane, stage, installation)
    except DataPlaneFailed as error:
        return (PathTest(path=_WIRE, problem=error.message, hint=error.hint),)
    return (PathTest(path=_WIRE),)


async def _wire(plane: DataPlane, stage: Stage, installation: str) -> None:
    ports = _ports(stage, installation)
    devices = [port.device for port in ports]
    try:
        await plane.ensure_ports(ports)
        await plane.ensure_wires([WirePlan(a=devices[0], b=devices[1])])
        for opened, guest in zip(stage.sockets, _GUESTS, strict=True):
            opened.bind((guest, _ETH_P_ALL))
        first, second = stage.sockets
        await _pass_frame(first, second, ports[0])
        await _pass_frame(second, first, ports[1])
    finally:
        await plane.remove_ports(devices)


async def _pass_frame(sender: socket.socket, receiver: socket.socket, port: PortPlan) -> None:
    loop = asyncio.get_running_loop()
    source = bytes.fromhex(port.mac.replace(":", ""))
    frame = bytes.fromhex(_LLDP_GROUP.replace(":", "")) + source + _LLDP_TYPE + secrets.token_bytes(46)
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await loop.sock_sendall(sender, frame)
            while await loop.sock_recv(receiver, 4096) != frame:
                pass
    except TimeoutError:
        raise DataPlaneFailed(
            "a frame sent into a wire did not come out of it",
            hint="the kernel needs tc with the ingress, u32 and mirred modules",
            details={"errno": "ETIMEDOUT", "device": port.device, "operation": "self-test"},
        ) from None
