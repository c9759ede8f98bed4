"""Numbers of nodes: each its own on the host, kept over a wipe and restarts of the agent, free again after removal."""

from __future__ import annotations

from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent.folder import FolderStore
from wireloom.errors import NotFound
from wireloom.model.identity import Identity


def identity(name: str) -> Identity:
    return Identity(installation="inst", lab_id="lab-1", lab="lab", node_id=f"id-{name}", node=name)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    made = FolderStore(tmp_path, "inst")
    for name in "abc":
        made.ensure(identity(name))
    return made


def test_each_node_has_another_number_and_keeps_it(store: FolderStore, tmp_path: Path) -> None:
    assert [store.numbered(f"id-{name}").record.number for name in "abab"] == [1, 2, 1, 2]
    store.wipe("id-a")
    assert store.numbered("id-a").record.number == 1
    again = FolderStore(tmp_path, "inst")
    again.load()
    assert again.numbered("id-b").record.number == 2


def test_a_number_is_free_again_when_its_node_is_removed(store: FolderStore) -> None:
    for name in "ab":
        store.numbered(f"id-{name}")
    store.remove("id-a")
    assert store.numbered("id-c").record.number == 1


def test_a_node_without_a_folder_has_none(store: FolderStore) -> None:
    with pytest.raises(NotFound):
        store.numbered("id-x")


async def test_only_nodes_whose_device_asks_get_one(tmp_path: Path) -> None:
    host = Host(tmp_path)
    asking = {"env": {"ID": "{{ number }}"}, "env_templates": ("ID",)}
    async with Agent(host).alive() as agent:
        nodes = (make_node("a"), make_node("b", **asking), make_node("c", **asking))
        agent.reconciler.set_slice("lab-1", make_lab(*nodes))
        await agent.until(settled())
    specs = {runtime.spec.hostname: runtime.spec for runtime in host.worlds["alpha"].runtimes.values()}
    assert {specs["b"].env["ID"], specs["c"].env["ID"]} == {"1", "2"}
    assert specs["a"].env == {}
