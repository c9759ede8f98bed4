"""A client that answers from memory, and the command line over it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from typer.testing import CliRunner, Result

from wireloom.cli.main import app
from wireloom.fabric.documents import Event
from wireloom.fabric.link_documents import MtuAnswer, MtuDirection
from wireloom.model.counters import CountersSample
from wireloom.model.device_views import DeviceView, NodeProfile
from wireloom.model.diagnostic import Diagnostic
from wireloom.model.link_views import Parts, SegmentRequest
from wireloom.model.orphans import AdoptRequest, AdoptView, DiscoverView, Orphan
from wireloom.model.post_boot import BootRecord
from wireloom.model.runtime import Boot
from wireloom.model.views import (
    DeployRequest,
    ExecView,
    HostView,
    LabSummary,
    LabView,
    LinkView,
    NodeView,
    OperationView,
    PlanView,
    StatusView,
    StreamMessage,
)

NODE = NodeView.model_validate(
    {
        "name": "r1",
        "device": "frr",
        "provider": "docker",
        "host": "h1",
        "image": "wireloom/frr:8",
        "state": "running",
        "ready": "yes",
        "mgmt_ipv4": "172.30.128.2",
    }
)
LINK = LinkView.model_validate({"a": "r1:eth1", "b": "r2:eth1", "state": "up", "mtu": 1500})
MTU = MtuDirection(source="r1:eth1", target="r2:eth1", configured=1500, largest=1500, method="sent")
LAB = LabView(lab="demo", nodes=(NODE,), links=(LINK,))
HOST = HostView(
    host="h1",
    alive=True,
    last_seen=2e9,
    facts={
        "cpus": 2,
        "memory_mb": 4096,
        "nodes": 3,
        "providers": [
            {"name": "docker", "available": True, "acceleration": "native"},
            {"name": "libvirt", "available": True, "acceleration": "tcg"},
            {"name": "other", "available": False},
        ],
        "loops": [
            {"name": "resync", "last_success": 1.0, "stale_after_s": 60},
            {"name": "reconcile", "last_success": 0, "stale_after_s": 60},
        ],
        "problems": ["other: no answer"],
    },
)
ORPHAN = Orphan(kind="runtime", provider="docker", id="x", name="wl-old-r1", lab="old", node="r1")
TOPOLOGY = "name: demo\nnodes:\n  r1: {device: frr, startup-config: r1.cfg}\n"


def operation(verb: str, goal: str, **changes: Any) -> OperationView:
    fixed = {"id": "op", "lab": "demo", "verb": verb, "state": "done", "goal": goal, "created_at": 1.0}
    return OperationView.model_validate(fixed | changes)


class FakeLinks:
    """``client.links`` of a :class:`FakeClient`."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client

    async def add(self, lab: str, a: str, b: str, **more: Any) -> OperationView:
        return self._asked("add", lab, a, b, {name: value for name, value in more.items() if value})

    async def move(self, lab: str, a: str, b: str, to: str, *, restart: bool = False) -> OperationView:
        return self._asked("move", lab, a, b, to, restart)

    async def impair(self, lab: str, a: str, b: str, parts: Parts, **more: Any) -> OperationView:
        return self._asked("impair", lab, a, b, parts.model_dump(exclude_none=True), more)

    async def clear(self, lab: str, a: str, b: str) -> OperationView:
        return self._asked("clear", lab, a, b)

    async def add_segment(self, lab: str, request: SegmentRequest) -> OperationView:
        return self._asked("add_segment", lab, request)

    async def remove_segment(self, lab: str, name: str) -> OperationView:
        return self._asked("remove_segment", lab, name)

    async def find(self, lab: str, a: str | None = None, b: str | None = None) -> list[LinkView]:
        self._asked("find", lab, a, b)
        return list(self._client.view.links)

    async def check(self, lab: str, a: str, b: str) -> MtuAnswer:
        self._asked("check", lab, a, b)
        return self._client.mtu

    async def counters(self, lab: str, *, interval_s: float = 1) -> AsyncGenerator[CountersSample, None]:
        self._asked("counters", lab, interval_s)
        for sample in self._client.samples:
            yield sample

    def _asked(self, *asked: Any) -> OperationView:
        self._client._take(*asked)
        return self._client.outcome


class FakeOrphans:
    """Of a :class:`FakeClient`."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client

    async def discover(self) -> DiscoverView:
        self._client._take("discover")
        return self._client.finds

    async def prune(self, *, dry_run: bool = True, images: bool = False, hosts: Any = ()) -> list[Orphan]:
        self._client._take("prune", dry_run, images, tuple(hosts))
        return [orphan.model_copy(update={"removed": not dry_run}) for orphan in self._client.lost]

    async def adopt(self, request: AdoptRequest) -> AdoptView:
        self._client._take("adopt", request.topology, request.lab_id, request.dry_run)
        return self._client.adopted


class FakeClient:
    """Remembers what it was asked, and answers with what the test put in."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.view = LAB
        self.plan_view = PlanView(lab="demo")
        self.exec_view = ExecView(exit_code=0, stdout="out\n", stderr="err\n", channel="exec")
        self.boot_records: list[BootRecord] = []
        self.pending: tuple[str, ...] = ()
        self.outcome = operation("deploy", "running")
        self.lost: list[Orphan] = []
        self.finds = DiscoverView()
        self.adopted = AdoptView(lab="demo", lab_id="l")
        self.samples: list[CountersSample] = []
        self.mtu = MtuAnswer(forward=MTU, backward=MTU)
        self.error: Exception | None = None
        self.request: DeployRequest | None = None

    @property
    def links(self) -> FakeLinks:
        return FakeLinks(self)

    @property
    def orphans(self) -> FakeOrphans:
        return FakeOrphans(self)

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def _take(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error

    async def labs(self) -> list[LabSummary]:
        self._take("labs")
        fixed = {"nodes": 1, "running": 1, "ready": 1, "failed": 0, "links": 1, "revision": 2, "created_at": 1.0}
        return [LabSummary.model_validate({"lab": "demo", "state": "running", **fixed})]

    async def status(self) -> StatusView:
        self._take("status")
        return StatusView(version="1", installation="abc", fabric=True, hosts=(HOST,), labs=1)

    async def hosts(self) -> list[HostView]:
        self._take("hosts")
        return [HOST]

    async def devices(self) -> list[DeviceView]:
        self._take("devices")
        fixed = {"providers": ["docker"], "default_provider": "docker", "cpu": 1, "memory_mb": 256, "ports": 32}
        return [DeviceView.model_validate({"name": "frr", "title": "Router", "vendor": "FRRouting", **fixed})]

    async def device_problems(self, *, reload: bool = False) -> list[Diagnostic]:
        self._take("device-problems", reload)
        return []

    async def lab(self, lab: str) -> LabView:
        self._take("lab", lab)
        return self.view

    async def topology(self, lab: str) -> str:
        self._take("topology", lab)
        return TOPOLOGY

    async def plan(self, request: DeployRequest) -> PlanView:
        self.request = request
        self._take("plan")
        return self.plan_view

    async def deploy(self, request: DeployRequest) -> OperationView:
        self.request = request
        self._take("deploy")
        return self.outcome

    async def operation(self, operation_id: str) -> OperationView:
        self._take("operation", operation_id)
        return self.outcome

    async def stop(self, lab: str, nodes: Any = ()) -> OperationView:
        self._take("stop", lab, tuple(nodes))
        return self.outcome

    async def restart(self, lab: str, nodes: Any = ()) -> OperationView:
        self._take("restart", lab, tuple(nodes))
        return self.outcome

    async def wipe(self, lab: str, nodes: Any) -> OperationView:
        self._take("wipe", lab, tuple(nodes))
        return self.outcome

    async def destroy(self, lab: str) -> OperationView:
        self._take("destroy", lab)
        return self.outcome

    async def node_profile(self, lab: str, node: str) -> NodeProfile:
        self._take("node_profile", lab, node)
        return NodeProfile(node=node, device="linux", provider="docker", image="i", pending=self.pending)

    async def post_boot(self, lab: str, node: str) -> list[BootRecord]:
        self._take("post_boot", lab, node)
        return self.boot_records

    async def exec(self, lab: str, node: str, command: Any, *, timeout_s: float = 60) -> ExecView:
        self._take("exec", lab, node, tuple(command), timeout_s)
        return self.exec_view

    async def events(self, lab: str | None = None) -> list[Event]:
        self._take("events", lab)
        return [Event(time=0, lab="demo", node="r1", kind="node.ready", message="is ready")]

    async def stream(self, lab: str | None = None) -> AsyncGenerator[StreamMessage, None]:
        live = Event(time=1, lab="demo", node="r1", kind="node.exited", message="has ended")
        for event in [*(await self.events(lab)), live]:
            yield StreamMessage(type="event", data=event.model_dump(mode="json"))

    async def boots(self, lab: str, node: str) -> list[Boot]:
        self._take("boots", lab, node)
        return [Boot(number=0, started_at=time.time() - 90), Boot(number=1, started_at=time.time() - 7200)]

    async def log(self, lab: str, node: str, *, follow: bool = False, boot: int = 0) -> AsyncIterator[bytes]:
        self._take("log", lab, node, follow, boot)
        yield b"boot \xff\n"


def wireloom(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))
