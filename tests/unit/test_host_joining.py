"""Tokens and what they buy, and hosts that leave: the controller's side, with logins that are signed by a play."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from controller_rig import TWO_NODES, Rig, make_rig, until

from wireloom.controller.hosts.joining import Joining
from wireloom.controller.hosts.removal import HostRemoval
from wireloom.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable, Unsupported
from wireloom.fabric import nkeys
from wireloom.fabric.keys import new_seed
from wireloom.fabric.logins import KeyRing, Place
from wireloom.model.host_tokens import read_token
from wireloom.model.host_views import JoinAnswer, JoinRequest, JoinTokenRequest
from wireloom.model.views import DeployRequest, HostView


class PlayLogins:
    """Signs by name; ``away``: no server can be told anything, or reached."""

    def __init__(self) -> None:
        self.told = 0
        self.away = False

    def sign(self, host: str, public_key: str) -> str:
        nkeys.check_public_key(public_key, nkeys.Kind.USER)
        return f"{host} is {public_key}"

    async def place(self, *, seen_as: str = "") -> Place:
        if self.away:
            raise Unavailable("no server answers")
        return Place(urls=(f"tls://{seen_as}:4222",), ca="pem")

    async def enforce(self) -> None:
        if self.away:
            raise Unavailable("no server answers")
        self.told += 1

    async def start(self, ring: KeyRing) -> None: ...


class Hosts:
    """A controller that lets hosts in."""

    def __init__(self, rig: Rig, logins: PlayLogins) -> None:
        self.rig = rig
        self.logins = logins

    @property
    def joining(self) -> Joining:
        return self.rig.controller.host_parts.joining

    @property
    def removal(self) -> HostRemoval:
        return self.rig.controller.host_parts.removal

    async def token(self, host: str = "", **request: object) -> str:
        made = await self.joining.make_token(JoinTokenRequest.model_validate({"host": host, **request}))
        return made.token

    async def join(self, token: str, host: str = "h2", key: str = "") -> JoinAnswer:
        request = JoinRequest(host=host, public_key=key or new_key())
        return await self.joining.join(token, request, seen_as="controller.example.net")

    def view(self, host: str) -> HostView:
        return self.rig.controller.registry.view(host)


def new_key() -> str:
    return nkeys.public_key(new_seed(nkeys.Kind.USER))


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[Hosts]:
    logins = PlayLogins()
    rig = Rig(tmp_path)
    rig.logins = logins
    await rig.up()
    try:
        yield Hosts(rig, logins)
    finally:
        await rig.close()


def run_out(hosts: Hosts) -> None:
    """All tokens have come to their end; the rows stay until another token is made."""
    with contextlib.closing(sqlite3.connect(hosts.rig.folder / "wireloom.sqlite", timeout=10)) as database, database:
        database.execute("UPDATE join_tokens SET expires_at = 1")


# -------------------------------------------------------------------- joining


async def test_a_token_buys_a_login_with_where_the_fabric_is_as_the_host_has_reached_us(hosts: Hosts) -> None:
    key = new_key()
    answer = await hosts.join(await hosts.token(labels={"zone": "a"}), key=key)
    assert answer.claims == f"h2 is {key}"
    assert answer.fabric_urls == ("tls://controller.example.net:4222",)
    assert (answer.installation, answer.labels) == (hosts.rig.controller.installation, {"zone": "a"})
    view = hosts.view("h2")
    assert (view.alive, view.labels, view.closed) == (False, {"zone": "a"}, "the host does not answer")


async def test_a_token_is_good_once(hosts: Hosts) -> None:
    token = await hosts.token()
    await hosts.join(token)
    with pytest.raises(NotPermitted, match="used up"):
        await hosts.join(token, "h3")
    assert await hosts.joining.tokens() == []


async def test_of_two_hosts_that_come_with_one_token_at_once_one_joins(hosts: Hosts) -> None:
    token = await hosts.token()
    tries = await asyncio.gather(*(hosts.join(token, f"h{n}") for n in range(2, 8)), return_exceptions=True)
    assert sum(isinstance(item, JoinAnswer) for item in tries) == 1
    assert sum(isinstance(item, NotPermitted) for item in tries) == 5


async def test_a_join_whose_answer_was_lost_is_repeated_with_the_same_key(hosts: Hosts) -> None:
    token, key = await hosts.token(), new_key()
    first = await hosts.join(token, key=key)
    assert await hosts.join(token, key=key) == first
    with pytest.raises(NotPermitted, match="used up"):
        await hosts.join(token, "h3", key)


async def test_a_token_that_ran_out_a_token_that_is_none_and_a_wrong_secret_are_refused(hosts: Hosts) -> None:
    token = await hosts.token()
    await asyncio.to_thread(run_out, hosts)
    other = read_token(await hosts.token(life_s=30))
    with pytest.raises(NotPermitted, match="not known"):
        await hosts.join(token)  # forgotten, when the other one was made
    await asyncio.to_thread(run_out, hosts)
    with pytest.raises(NotPermitted, match="run out"):
        await hosts.join(f"wl1.{other.id}.{other.secret}.")
    with pytest.raises(NotPermitted, match="not known"):
        await hosts.join(f"wl1.{other.id}.{'A' * 43}.")
    with pytest.raises(NotPermitted, match="not known"):
        await hosts.join(f"wl1.{'0' * 12}.{other.secret}.")
    with pytest.raises(InvalidInput, match="no token"):
        await hosts.join(token[:-70])


async def test_a_token_that_was_taken_back_is_good_for_nothing(hosts: Hosts) -> None:
    token = await hosts.token()
    await hosts.joining.revoke_token(read_token(token).id)
    with pytest.raises(NotPermitted, match="not known"):
        await hosts.join(token)
    with pytest.raises(NotFound):
        await hosts.joining.revoke_token(read_token(token).id)


async def test_the_secret_of_a_token_is_nowhere_in_the_database(hosts: Hosts) -> None:
    secret = read_token(await hosts.token()).secret
    await hosts.rig.store.installation()
    stored = b"".join(file.read_bytes() for file in hosts.rig.folder.rglob("*.sqlite*"))
    assert stored
    assert secret.encode() not in stored


async def test_a_name_that_is_taken_is_refused_and_costs_no_token(hosts: Hosts) -> None:
    await hosts.join(await hosts.token())
    token = await hosts.token()
    with pytest.raises(Conflict, match="a host h2 already"):
        await hosts.join(token)
    await hosts.join(token, "h3")


async def test_the_same_host_comes_back_with_a_token_made_for_it_and_its_earlier_key_is_refused(hosts: Hosts) -> None:
    key = new_key()
    await hosts.join(await hosts.token(), key=key)
    await hosts.join(await hosts.token("h2"))
    assert await hosts.rig.store.hosts.revoked() == [key]
    assert hosts.logins.told == 1
    with pytest.raises(NotPermitted, match="not accepted"):
        await hosts.rig.store.hosts.admit("h2", key)


async def test_a_token_made_for_one_host_is_of_no_use_to_another(hosts: Hosts) -> None:
    token = await hosts.token("h7")
    with pytest.raises(NotPermitted, match="made for host h7"):
        await hosts.join(token)
    await hosts.join(token, "h7")


async def test_a_wrong_key_or_a_fabric_that_is_away_costs_no_token(hosts: Hosts) -> None:
    token = await hosts.token()
    with pytest.raises(InvalidInput):
        await hosts.join(token, key=nkeys.public_key(new_seed(nkeys.Kind.ACCOUNT)))
    hosts.logins.away = True
    with pytest.raises(Unavailable):
        await hosts.join(token)
    hosts.logins.away = False
    await hosts.join(token)


@pytest.mark.parametrize(
    "request_",
    [
        {"host": "Not a name"},
        {"uses": 0},
        {"uses": 2, "host": "h2"},
        {"life_s": 0},
        {"life_s": 1e9},
        {"labels": {"a b": "c"}},
    ],
)
async def test_tokens_that_make_no_sense_are_not_made(hosts: Hosts, request_: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        await hosts.joining.make_token(JoinTokenRequest.model_validate(request_))


async def test_without_logins_of_ours_no_token_is_made(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        with pytest.raises(Unsupported, match="cannot join"):
            await rig.controller.host_parts.joining.make_token(JoinTokenRequest())


# -------------------------------------------------------------------- standing


async def test_labels_cordon_and_drain_outlive_the_controller_and_readers_are_told(hosts: Hosts) -> None:
    rig = hosts.rig
    await rig.add_host("h1")
    with rig.controller.hub.subscribe() as box:
        await rig.controller.registry.set_labels("h1", {"zone": "a", "disk": ""})
        await rig.controller.registry.set_labels("h1", {"disk": None})
        await rig.controller.registry.cordon("h1", "a new disk")
        await rig.controller.registry.set_draining("h1", True)
        told = {message.data["host"]: message.data for message in await box.take() if message.type == "host"}
    assert (told["h1"]["labels"], told["h1"]["draining"]) == ({"zone": "a"}, True)
    await rig.restart()
    await until(lambda: "h1" in rig.controller.live.alive)
    assert hosts.view("h1").closed == "the host is being drained"
    assert not rig.controller.registry.schedulable("h1")
    await rig.controller.registry.set_draining("h1", False)
    assert hosts.view("h1").closed == "the host is cordoned: a new disk"
    await rig.controller.registry.uncordon("h1")
    assert rig.controller.registry.schedulable("h1")
    with pytest.raises(NotFound):
        await rig.controller.registry.cordon("h9")
    with pytest.raises(InvalidInput):
        await rig.controller.registry.set_labels("h1", {"a=b": "c"})


async def test_hosts_show_what_labs_take_of_them(hosts: Hosts) -> None:
    await hosts.rig.add_host("h1")
    await hosts.rig.deploy()
    (view,) = hosts.rig.controller.hosts()
    assert view.use is not None
    assert (view.use.labs, view.use.nodes, view.use.running) == (("pair",), 2, 2)
    assert view.use.memory_mb > 0
    details = await hosts.removal.details("h1")
    assert [(lab.lab, lab.nodes, lab.running) for lab in details.labs] == [("pair", 2, 2)]
    assert details.host.use is not None
    assert details.host.use.memory_mb == view.use.memory_mb


# -------------------------------------------------------------------- leaving


async def joined(hosts: Hosts, host: str = "h2") -> str:
    """A host whose agent is there; its key."""
    key = new_key()
    await hosts.join(await hosts.token(), host, key)
    await hosts.rig.add_host(host, management_subnet="172.30.7.0/24")
    return key


async def test_a_removed_host_is_cut_off_and_what_it_said_last_is_not_listened_to(hosts: Hosts) -> None:
    key, rig = await joined(hosts), hosts.rig
    with rig.controller.hub.subscribe() as box:
        await hosts.removal.remove("h2")
        assert ("host-removed", {"host": "h2"}) in [(item.type, item.data) for item in await box.take()]
    assert hosts.logins.told == 1
    assert await rig.store.hosts.revoked() == [key]
    await rig.fabric.put_host(rig.hosts["h2"].facts)  # was on its way
    await rig.fabric.put_host(rig.hosts["h2"].facts.model_copy(update={"management_subnet": "172.30.9.0/24"}))
    await rig.add_host("h1")
    assert [view.host for view in rig.controller.hosts()] == ["h1"]
    with pytest.raises(NotPermitted, match="not accepted"):
        await rig.store.hosts.admit("h2", key)
    with pytest.raises(NotPermitted, match="was removed"):
        await rig.store.hosts.admit("h2", new_key())
    await rig.restart()
    assert [view.host for view in rig.controller.hosts() if view.host == "h2"] == []


async def test_a_removed_host_joins_again_with_a_new_token(hosts: Hosts) -> None:
    await joined(hosts)
    await hosts.removal.remove("h2")
    await hosts.join(await hosts.token())
    assert hosts.rig.controller.registry.removed == frozenset()


async def test_a_host_with_nodes_is_not_removed_and_its_preview_says_what_would_be_lost(hosts: Hosts) -> None:
    await joined(hosts)
    await hosts.rig.deploy()
    preview = await hosts.removal.preview("h2")
    assert preview.refusals == ("lab pair has 2 nodes there",)
    assert [(node.lab, node.node, node.state) for node in preview.nodes] == [
        ("pair", "a", "running"),
        ("pair", "b", "running"),
    ]
    assert preview.wires == ("pair: a:eth1 -- b:eth1",)
    with pytest.raises(Conflict, match="lab pair has 2 nodes there"):
        await hosts.removal.remove("h2")
    assert hosts.view("h2").alive


async def test_a_host_that_is_removed_by_force_keeps_no_lab_from_going(hosts: Hosts) -> None:
    await joined(hosts)
    await hosts.rig.deploy()
    await hosts.removal.remove("h2", force=True)
    await hosts.rig.ended(await hosts.rig.controller.labs.destroy("pair"))
    assert hosts.rig.controller.board.views() == []


async def test_a_removal_that_could_not_tell_the_servers_is_a_removal(hosts: Hosts) -> None:
    key = await joined(hosts)
    hosts.logins.away = True
    await hosts.removal.remove("h2")
    assert await hosts.rig.store.hosts.revoked() == [key]


async def test_the_controllers_own_host_is_not_removed_while_its_agent_is_there(hosts: Hosts) -> None:
    await hosts.rig.add_host("h1")
    with pytest.raises(Conflict, match="the controller stands on it"):
        await hosts.removal.remove("h1", force=True)


async def test_a_new_lab_can_be_planned_after_a_host_with_one_was_removed(hosts: Hosts) -> None:
    await joined(hosts)
    await hosts.rig.deploy()
    await hosts.removal.remove("h2", force=True)
    await hosts.rig.add_host("h1")
    await hosts.rig.ended(await hosts.rig.controller.labs.deploy(DeployRequest(topology=TWO_NODES)))
    view = hosts.rig.controller.lab("pair")
    assert {node.host for node in view.nodes} == {"h1"}
