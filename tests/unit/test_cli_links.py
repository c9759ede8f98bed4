"""Commands on links, segments and counters: what they ask for, what they print, how they exit."""

from __future__ import annotations

import json
import time

import pytest
from cli_rig import HOST, LAB, LINK, MTU, FakeClient, wireloom

from wireloom.cli.intervals import seconds
from wireloom.cli.link_words import bits, impairment_words, vlan_words
from wireloom.cli.state import CliState
from wireloom.errors import Conflict, InvalidInput
from wireloom.fabric.link_documents import MtuAnswer
from wireloom.model.counters import CountersSample, PortRates, PortSample
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.link_views import ImpairmentView, LinkView, SegmentRequest, SegmentView
from wireloom.model.network import PortCounters
from wireloom.model.presets import PRESETS
from wireloom.model.state import LinkState
from wireloom.model.vlans import Vlans

PLUG = LinkView(
    a="r1:eth2",
    b="lan",
    kind="plug",
    state=LinkState.UP,
    mtu=1500,
    vlans=Vlans(untagged=1, tagged=((10, 10), (20, 29))),
)
LAN = SegmentView(name="lan", kind="nat", state=LinkState.UP, host="h1", links=1, details={"subnet": "10.99.0.0/24"})


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr(CliState, "client", lambda _self, **_: fake)
    return fake


def test_a_link_into_a_segment_says_its_vlans(client: FakeClient) -> None:
    arguments = ["--trunk", "10, 20-29", "--native", "1", "--restart"]
    assert wireloom("link", "add", "demo", "r1:eth2", "lan", *arguments).exit_code == 0
    more = {"trunk": ("10", "20-29"), "native": 1, "restart": True}
    assert client.asked[0] == ("add", "demo", "r1:eth2", "lan", more)


def test_move_says_where_to(client: FakeClient) -> None:
    assert wireloom("link", "move", "demo", "r1:eth1", "r2:eth1", "--to", "r3:eth1").exit_code == 0
    assert client.asked[0] == ("move", "demo", "r1:eth1", "r2:eth1", "r3:eth1", False)
    assert wireloom("link", "move", "demo", "r1:eth1", "r2:eth1").exit_code == 2


def test_a_nic_too_few_is_told_with_the_way_out(client: FakeClient) -> None:
    client.error = Conflict("there is no NIC left", node="r1", hint="`--restart` powers r1 off and on again")
    result = wireloom("link", "add", "demo", "r1:eth9", "r2:eth9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: r1: there is no NIC left\nhint: `--restart` powers r1 off and on again\n"


def test_impair_reads_quantities_with_their_units(client: FakeClient) -> None:
    parts = ["--delay", "0.05s", "--jitter", "5ms", "--loss", "1%", "--rate", "10mbit", "--limit", "50"]
    link = ["link", "impair", "demo", "r1:eth1", "r2:eth1"]
    assert wireloom(*link, *parts, "--direction", "forward", "--for", "10m").exit_code == 0
    asked = {"delay_ms": 50, "jitter_ms": 5, "loss": 1, "rate_kbit": 10_000, "limit": 50}
    more = {"preset": "", "direction": "forward", "for_s": 600}
    assert client.asked[0] == ("impair", "demo", "r1:eth1", "r2:eth1", asked, more)
    assert wireloom(*link, "--preset", "lte").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 1, "say what is to be wrong"),
        (["--delay", "50"], 2, "has no unit"),
        (["--loss", "1", "--delay", "x"], 2, "1"),
        (["--loss", "1%", "--direction", "up"], 1, "'up' is not a direction"),
        (["--loss", "1%", "--for", "soon"], 1, "'soon' is not an interval"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_it_is_asked(
    client: FakeClient, arguments: list[str], code: int, said: str
) -> None:
    result = wireloom("link", "impair", "demo", "r1:eth1", "r2:eth1", *arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert client.asked == []


def test_impairment_shows_configured_and_operational_side_by_side(client: FakeClient) -> None:
    view = ImpairmentView(
        configured=LinkImpairment(forward=Impairment(delay_ms=50, loss=1)),
        operational=LinkImpairment(forward=Impairment(delay_ms=50)),
        forward_origin="user",
    )
    client.view = LAB.model_copy(update={"links": (LINK.model_copy(update={"impairment": view}), PLUG)})
    lines = [line.split() for line in wireloom("link", "impairment", "demo").stdout.splitlines()]
    assert lines[0] == ["FROM", "TO", "CONFIGURED", "OPERATIONAL", "SET", "BY", "ENDS", "IN"]
    assert lines[1] == ["r1:eth1", "r2:eth1", "delay", "50ms,", "loss", "1%", "delay", "50ms", "user", "-"]
    assert lines[2] == ["r2:eth1", "r1:eth1", "-", "-", "topology", "-"]
    assert len(lines) == 3
    documents = json.loads(wireloom("link", "impairment", "demo", "--json").stdout)
    assert documents[0]["impairment"]["operational"]["forward"]["delay_ms"] == 50


def test_each_direction_says_when_it_ends(client: FakeClient) -> None:
    configured = LinkImpairment(
        forward=Impairment(loss=1), backward=Impairment(loss=2), backward_until=time.time() + 7300
    )
    view = ImpairmentView(configured=configured, backward_origin="user")
    client.view = LAB.model_copy(update={"links": (LINK.model_copy(update={"impairment": view}),)})
    rows = [line.split() for line in wireloom("link", "impairment", "demo").stdout.splitlines()]
    assert [row[-1] for row in rows[1:]] == ["-", "2h01m"]


def test_what_a_host_has_not_told_is_unknown(client: FakeClient) -> None:
    view = ImpairmentView(configured=LinkImpairment(forward=Impairment(loss=1)))
    client.view = LAB.model_copy(update={"links": (LINK.model_copy(update={"impairment": view}),)})
    assert "unknown" in wireloom("link", "impairment", "demo", "r1:eth1", "r2:eth1").stdout
    assert client.asked[0] == ("find", "demo", "r1:eth1", "r2:eth1")


def test_clear_takes_a_link_or_all(client: FakeClient) -> None:
    assert wireloom("link", "clear", "demo", "r1:eth1", "r2:eth1").exit_code == 0
    assert client.asked[0] == ("clear", "demo", "r1:eth1", "r2:eth1")
    assert wireloom("link", "clear", "demo", "--all").exit_code == 0
    for arguments in ([], ["r1:eth1"], ["r1:eth1", "r2:eth1", "--all"]):
        assert "--all" in wireloom("link", "clear", "demo", *arguments).stderr


def test_presets_need_no_controller() -> None:
    assert wireloom("link", "presets").stdout.count("\n") == len(PRESETS) + 1
    assert {item["name"] for item in json.loads(wireloom("link", "presets", "--json").stdout)} == set(PRESETS)


def test_check_shows_both_ways_and_fails_on_a_problem(client: FakeClient) -> None:
    result = wireloom("link", "check", "demo", "r1:eth1", "r2:eth1")
    assert (result.exit_code, result.stdout.split()[-6:]) == (0, ["r1:eth1", "r2:eth1", "1500", "1500", "sent", "-"])
    client.mtu = MtuAnswer(forward=MTU, backward=MTU.model_copy(update={"problem": "no frame passed"}))
    assert wireloom("link", "check", "demo", "r1:eth1", "r2:eth1").exit_code == 1


def test_segments_are_listed_and_shown_with_their_lab(client: FakeClient) -> None:
    client.view = LAB.model_copy(update={"links": (LINK, PLUG), "segments": (LAN,)})
    row = ["lan", "nat", "h1", "up", "1", "1500", "-", "subnet", "10.99.0.0/24", "-"]
    assert wireloom("segment", "ls", "demo").stdout.splitlines()[1].split() == row
    assert json.loads(wireloom("segment", "ls", "demo", "--json").stdout)[0]["details"] == LAN.details
    shown = wireloom("inspect", "demo").stdout
    assert "VLAN 10,20-29 native 1" in shown
    assert "10.99.0.0/24" in shown


def test_a_segment_is_added_with_what_its_kind_has(client: FakeClient) -> None:
    arguments = ["--kind", "external", "--interface", "eth0", "--vlan", "20", "--move-addresses"]
    assert wireloom("segment", "add", "demo", "office", *arguments).exit_code == 0
    request = SegmentRequest(verb="add", name="office", kind="external", interface="eth0", vlan=20, move_addresses=True)
    assert client.asked[0] == ("add_segment", "demo", request)
    assert wireloom("segment", "remove", "demo", "office", "--yes").exit_code == 0
    assert wireloom("segment", "add", "demo", "x", "--kind", "hub").exit_code == 1


def sample(node: str, rate: float) -> PortSample:
    return PortSample(
        node_id=node,
        index=1,
        node=node,
        port="eth1",
        counters=PortCounters(rx_packets=10, tx_packets=20, rx_dropped=1),
        rates=PortRates(rx_bits=rate, rx_packets=2),
    )


def test_top_prints_a_table_for_each_look_and_leaves_after_count(client: FakeClient) -> None:
    client.samples = [CountersSample(time=1, ports=(sample("r1", 0), sample("r2", 1_234_000)))] * 3
    tables = wireloom("top", "demo", "-n", "2", "--busy").stdout.split("\n\n")
    assert len(tables) == 2
    rows = [line.split() for line in tables[0].splitlines()[1:]]
    assert rows[0] == ["r2:eth1", "1.2M", "0", "2", "0", "1", "10", "20"]
    assert rows[1][0] == "r1:eth1"
    assert client.asked[0] == ("counters", "demo", 1)


def test_top_gives_lines_of_json_of_the_nodes_that_are_named(client: FakeClient) -> None:
    client.samples = [CountersSample(time=1, ports=(sample("r1", 0), sample("r2", 8)))] * 2
    lines = wireloom("top", "demo", "r2", "--json", "--interval", "0.5").stdout.splitlines()
    assert [[port["node"] for port in json.loads(line)["ports"]] for line in lines] == [["r2"], ["r2"]]


def test_hosts_say_what_they_cannot_do_with_links(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = {"name": "kernel", "vlans": "no filtering", "impairments": {"delay": "no netem", "loss": "no netem"}}
    host = HOST.model_copy(update={"facts": {**(HOST.facts or {}), "dataplane": lacks}})

    async def hosts() -> list[object]:
        return [host]

    monkeypatch.setattr(client, "hosts", hosts)
    result = wireloom("hosts")
    assert "h1: links without VLANs: no filtering\nh1: links without delay, loss: no netem\n" in result.stderr


@pytest.mark.parametrize(
    ("impairment", "words"),
    [
        (None, ""),
        (Impairment(), ""),
        (Impairment(delay_ms=22.5, jitter_ms=7), "delay 22.5ms ±7ms"),
        (Impairment(delay_ms=1500, reorder=25), "delay 1.5s, reorder 25%"),
        (Impairment(rate_kbit=104_710, limit=9), "rate 104.71mbit, limit 9"),
        (Impairment(rate_kbit=768, loss=0.05), "loss 0.05%, rate 768kbit"),
    ],
)
def test_impairments_in_words(impairment: Impairment | None, words: str) -> None:
    assert impairment_words(impairment) == words


@pytest.mark.parametrize(
    ("vlans", "words"), [(None, ""), (Vlans.access(7), "7"), (Vlans(tagged=((5, 5), (8, 9))), "5,8-9")]
)
def test_vlans_in_words(vlans: Vlans | None, words: str) -> None:
    assert vlan_words(vlans) == words


@pytest.mark.parametrize(("rate", "words"), [(0, "0"), (999, "999"), (1200, "1.2k"), (9.4e9, "9.4G")])
def test_rates_in_words(rate: float, words: str) -> None:
    assert bits(rate) == words


def test_intervals_have_units() -> None:
    assert [seconds(text) for text in ("90", "2m", "1.5h", "1d")] == [90, 120, 5400, 86400]
    with pytest.raises(InvalidInput):
        seconds("5 parsecs")
