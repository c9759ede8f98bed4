"""Discover, prune and adopt on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_rig import ORPHAN, TOPOLOGY, FakeClient, operation, wireloom

from wireloom.cli.state import CliState
from wireloom.errors import Unavailable
from wireloom.model.orphans import AdoptedNode, AdoptView, DiscoverView, HostFinds, Orphan, Trouble


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr(CliState, "client", lambda _self, **_: fake)
    return fake


AWAY = Unavailable("host h2 does not answer").to_wire()


def test_prune_only_shows_what_there_is_with_sizes(client: FakeClient) -> None:
    client.lost = [ORPHAN.model_copy(update={"size": 3 << 20})]
    result = wireloom("prune")
    assert result.exit_code == 0
    assert "wl-old-r1" in result.stdout
    assert "3.0 MiB" in result.stdout
    assert "--yes" in result.stderr
    assert client.asked == [("prune", True, False, ())]


def test_prune_removes_with_yes_unless_it_is_a_dry_run(client: FakeClient) -> None:
    client.lost = [ORPHAN]
    assert "1 removed" in wireloom("prune", "--yes").stdout
    wireloom("prune", "--yes", "--dry-run", "--images", "--host", "h1")
    assert client.asked == [("prune", False, False, ()), ("prune", True, True, ("h1",))]


def test_prune_fails_where_a_host_did_not_answer_or_something_stayed(client: FakeClient) -> None:
    client.lost = [Orphan(kind="host", id="h2", name="h2", host="h2", error=AWAY)]
    result = wireloom("prune")
    assert result.exit_code == 1
    assert "h2 does not answer" in result.stderr


def test_an_engine_that_is_down_is_told_and_is_no_failure_of_a_prune(client: FakeClient) -> None:
    client.lost = [Orphan(kind="trouble", id="libvirt", name="libvirt", host="h1", error=AWAY)]
    result = wireloom("prune")
    assert result.exit_code == 0
    assert "h1: libvirt could not be looked at" in result.stderr


def test_discover_lists_all_hosts_and_says_what_could_not_be_looked_at(client: FakeClient) -> None:
    other = Orphan(kind="runtime", id="y", name="wl-x", why="other-installation", installation="abc", running=True)
    client.finds = DiscoverView(
        hosts=(
            HostFinds(host="h1", found=(ORPHAN, other), troubles=(Trouble(source="libvirt", error=AWAY),)),
            HostFinds(host="h2", error=AWAY),
        )
    )
    result = wireloom("discover")
    assert result.exit_code == 1
    assert "of another installation abc, running" in result.stdout
    assert "libvirt could not be looked at" in result.stderr
    assert "h2: host h2 does not answer" in result.stderr


def test_adopt_shows_what_becomes_of_each_node_and_follows_the_deployment(client: FakeClient, tmp_path: Path) -> None:
    file = tmp_path / "demo.yml"
    file.write_text(TOPOLOGY)
    nodes = (AdoptedNode(name="r1", host="h1", outcome="kept"),)
    client.adopted = AdoptView(lab="demo", lab_id="l", nodes=nodes, operation=operation("adopt", "running"))
    result = wireloom("adopt", str(file), "--id", "l")
    assert result.exit_code == 0, result.stderr
    assert "kept" in result.stdout
    assert client.asked[0] == ("adopt", TOPOLOGY, "l", False)


@pytest.mark.parametrize("words", [("discover", "--json"), ("prune", "--json")])
def test_both_speak_json(client: FakeClient, words: tuple[str, ...]) -> None:
    client.lost = [ORPHAN]
    assert wireloom(*words).exit_code == 0
