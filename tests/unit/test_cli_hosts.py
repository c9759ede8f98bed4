"""Commands on hosts: what they ask for, what they print, how they exit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from cli_rig import FakeClient, wireloom

from wireloom.cli.state import CliState
from wireloom.model.host_views import (
    HostDetails,
    HostKeyView,
    HostLab,
    JoinTokenRequest,
    JoinTokenView,
    LostNode,
    MadeJoinToken,
    RemovalPreview,
)
from wireloom.model.views import HostUse, HostView

FACTS = {
    "version": "1",
    "cpus": 8,
    "memory_mb": 16384,
    "load": [0.5, 0.4, 0.3],
    "disks": [{"purpose": "data", "path": "/v", "total": 2**40, "free": 2**39}],
    "engines": [{"name": "docker", "version": "20"}, {"name": "libvirt", "version": ""}],
    "abilities": [{"name": "vxlan", "works": True}, {"name": "netem", "works": False, "reason": "absent"}],
    "privileged": False,
    "privileged_reason": "it lacks SYS_RESOURCE",
    "nics": [{"name": "eth0", "addresses": ["192.0.2.2/24"], "mtu": 1500, "up": True}],
}
USE = HostUse(labs=("demo",), nodes=3, running=2, cpus=2.5, memory_mb=2048)
VIEW = HostView(host="h2", alive=True, facts=FACTS, labels={"zone": "a", "ssd": ""}, use=USE)
TOKEN = JoinTokenView(id="0" * 12, host="h2", uses_left=1, created_at=0, expires_at=4e9)
KEYS = (HostKeyView(public_key="UOLD", issued_at=1), HostKeyView(public_key="UNEW", issued_at=2))
PREVIEW = RemovalPreview(
    host="h2",
    alive=True,
    labs=("demo",),
    nodes=(LostNode(lab="demo", node="r1", state="running", what=("its disk and files",)),),
    wires=("demo: r1:eth1 -- r2:eth1",),
    refusals=("lab demo has 1 node there",),
    consequences=("its agent is cut off at once",),
)


class FakeHosts:
    """``client.host``."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.view = VIEW
        self.preview = PREVIEW
        self.nodes = [3, 0]
        self.url = "https://c:7430"

    async def get(self, host: str) -> HostDetails:
        self.asked.append(("get", host))
        count = self.nodes.pop(0) if len(self.nodes) > 1 else self.nodes[0]
        labs = (HostLab(lab="demo", nodes=count, running=2, cpus=2.5, memory_mb=2048),) if count else ()
        return HostDetails(host=self.view, labs=labs, keys=KEYS)

    async def make_token(self, request: JoinTokenRequest) -> MadeJoinToken:
        self.asked.append(("token", request))
        return MadeJoinToken(token="wl1.x", url=self.url, details=TOKEN)  # noqa: S106

    async def tokens(self) -> list[JoinTokenView]:
        return [TOKEN]

    async def revoke_token(self, token_id: str) -> None:
        self.asked.append(("revoke", token_id))

    async def authority(self) -> str:
        return "PEM\n"

    async def label(self, host: str, labels: Mapping[str, str | None]) -> HostView:
        self.asked.append(("label", host, dict(labels)))
        return self.view

    async def cordon(self, host: str, reason: str = "") -> HostView:
        self.asked.append(("cordon", host, reason))
        return self.view.model_copy(update={"cordoned": True})

    async def drain(self, host: str, *, draining: bool = True) -> HostView:
        self.asked.append(("drain", host, draining))
        return self.view

    async def rotate(self, host: str) -> HostDetails:
        return HostDetails(host=self.view, keys=KEYS)

    async def removal(self, host: str) -> RemovalPreview:
        self.asked.append(("removal", host))
        return self.preview

    async def remove(self, host: str, *, force: bool = False) -> RemovalPreview:
        self.asked.append(("remove", host, force))
        return self.preview


class Client(FakeClient):
    def __init__(self) -> None:
        super().__init__()
        self.host = FakeHosts()

    async def hosts(self) -> list[HostView]:
        return [self.host.view]


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> FakeHosts:
    fake = Client()
    monkeypatch.setattr(CliState, "client", lambda _self, **_: fake)
    return fake.host


def test_a_token_is_printed_as_the_command_that_the_host_needs(hosts: FakeHosts) -> None:
    result = wireloom("host", "token", "h2", "--for", "30m", "--label", "zone=a", "--label", "ssd", "--note", "rack 3")
    assert result.stdout == "sudo ./bootstrap agent --join wl1.x https://c:7430\n"
    wanted = JoinTokenRequest(host="h2", labels={"zone": "a", "ssd": ""}, note="rack 3", life_s=1800)
    assert hosts.asked == [("token", wanted)]
    assert json.loads(wireloom("host", "token", "--json").stdout)["token"] == "wl1.x"  # noqa: S105


def test_a_token_of_a_controller_that_nobody_else_reaches_says_so(hosts: FakeHosts) -> None:
    assert "do not reach" not in wireloom("host", "token").stderr
    hosts.url = "http://127.0.0.1:7430"
    assert "listen_host" in wireloom("host", "token").stderr


def test_tokens_are_listed_without_secrets_and_taken_back(hosts: FakeHosts) -> None:
    assert wireloom("host", "tokens").stdout.splitlines()[1].split()[:3] == ["0" * 12, "h2", "1"]
    assert wireloom("host", "revoke-token", "0" * 12).exit_code == 0
    assert ("revoke", "0" * 12) in hosts.asked


def test_hosts_show_capacity_and_what_labs_take_of_it(hosts: FakeHosts) -> None:
    heads, line = wireloom("hosts").stdout.splitlines()
    assert heads.startswith("HOST")
    assert line.split() == ["h2", "alive", "-", "2.5/8", "2/16", "0.5", "1", "2/3", "512", "GiB", "-", "ssd,", "zone=a"]
    hosts.view = VIEW.model_copy(update={"draining": True, "cordoned": True, "alive": False})
    result = wireloom("hosts")
    assert "dead, draining" in result.stdout
    assert "h2: its agent has not been heard" in result.stderr
    assert json.loads(wireloom("hosts", "--json").stdout)[0]["use"]["nodes"] == 3


def test_a_host_is_shown_with_what_it_can_do(hosts: FakeHosts) -> None:
    shown = wireloom("host", "show", "h2").stdout
    for words in ("netem", "it lacks SYS_RESOURCE", "192.0.2.2/24, MTU 1500, up", "libvirt does not answer", "demo"):
        assert words in shown
    assert json.loads(wireloom("host", "show", "h2", "--json").stdout)["host"]["host"] == "h2"


def test_labels_are_set_and_taken_away_in_one_go(hosts: FakeHosts) -> None:
    assert wireloom("host", "label", "h2", "rack=3", "ssd", "zone-", "a-b=c-").stdout == "h2: ssd, zone=a\n"
    assert hosts.asked == [("label", "h2", {"rack": "3", "ssd": "", "a-b": "c-", "zone": None})]
    assert wireloom("host", "label", "h2").stdout == "h2: ssd, zone=a\n"


def test_cordon_says_why(hosts: FakeHosts) -> None:
    assert wireloom("host", "cordon", "h2", "--reason", "new disk").stdout == "h2: alive, cordoned\n"
    assert hosts.asked == [("cordon", "h2", "new disk")]


def test_drain_waits_until_no_node_is_there(hosts: FakeHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.cli.commands.host._LOOK_S", 0)
    result = wireloom("host", "drain", "h2", "--wait")
    assert result.exit_code == 0
    assert "3 nodes are there still: demo" in result.stderr
    assert wireloom("host", "drain", "h2", "--stop").exit_code == 0
    assert [asked for asked in hosts.asked if asked[0] == "drain"] == [("drain", "h2", True), ("drain", "h2", False)]


def test_a_host_that_does_not_get_empty_in_time_is_an_error(hosts: FakeHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.cli.commands.host._LOOK_S", 0)
    monkeypatch.setattr("wireloom.cli.commands.host.time.monotonic", iter(range(0, 100_000, 1000)).__next__)
    hosts.nodes = [3]
    result = wireloom("host", "drain", "h2", "--wait", "--timeout", "5")
    assert (result.exit_code, "3 nodes are on h2 still" in result.stderr) == (1, True)


def test_removal_shows_first_what_it_means_and_is_refused_while_nodes_are_there(hosts: FakeHosts) -> None:
    assert wireloom("host", "remove", "h2", "--dry-run").exit_code == 0
    result = wireloom("host", "remove", "h2", "--yes")
    assert result.exit_code == 1
    assert "r1" in result.stdout
    assert "link without an end: demo: r1:eth1 -- r2:eth1" in result.stdout
    assert "wireloom host drain h2" in result.stderr
    assert ("remove", "h2", False) not in hosts.asked
    assert wireloom("host", "remove", "h2", "--yes", "--force").exit_code == 0
    assert hosts.asked[-1] == ("remove", "h2", True)


def test_a_refused_removal_is_json_where_that_is_asked_for(hosts: FakeHosts) -> None:
    refused = json.loads(wireloom("host", "remove", "h2", "--yes", "--json").stdout)
    assert refused["error"]["details"]["preview"]["refusals"] == ["lab demo has 1 node there"]
    hosts.preview = PREVIEW.model_copy(update={"refusals": ()})
    assert json.loads(wireloom("host", "remove", "h2", "--yes", "--json").stdout)["host"] == "h2"


def test_rotation_names_the_new_key_and_the_authority_is_printed(hosts: FakeHosts) -> None:
    assert wireloom("host", "rotate", "h2").stdout == "h2 has a new key: UNEW\n"
    assert wireloom("host", "ca").stdout == "PEM\n"


@pytest.mark.parametrize("arguments", [("--join", "wl1.x"), ("--join-only",), ("https://c",)])
def test_to_join_takes_a_token_and_an_address(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WIRELOOM_JOIN_TOKEN", raising=False)
    monkeypatch.setattr("wireloom.app.run_agent", lambda _settings: pytest.fail("an agent without a login"))
    result = wireloom("agent", *arguments)
    assert (result.exit_code, "to join takes a token" in result.stderr) == (1, True)
