"""Numbers of links between hosts: one each, kept while anybody may use it, and free again afterwards."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_store_links import edit

from wireloom.controller.store import Store, tunnels
from wireloom.errors import CapacityExceeded


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'wireloom.sqlite'}")
    yield opened
    await opened.close()


def drawn(monkeypatch: pytest.MonkeyPatch, draw: Callable[[], int]) -> None:
    """Have numbers drawn so."""
    write = tunnels.write
    monkeypatch.setattr(tunnels, "write", lambda connection, edit: write(connection, edit, draw))


async def test_each_link_between_hosts_gets_a_number_and_keeps_it(store: Store) -> None:
    first = (await store.apply(edit("one", tunnelled=frozenset({"x", "y"})))).vnis
    assert set(first) == {"x", "y"}
    assert len(set(first.values())) == 2
    assert all(1 <= vni <= tunnels.VNI_MOST for vni in first.values())
    again = await store.apply(edit("one", 2, tunnelled=frozenset({"x", "y", "z"})))
    assert first.items() <= again.vnis.items()
    assert (await store.snapshots())[0].vnis == again.vnis


async def test_no_two_labs_have_a_number_in_common(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is drawn: what others have is drawn again."""
    numbers = itertools.cycle(range(1, 7))
    drawn(monkeypatch, lambda: next(numbers))
    one = await store.apply(edit("one", tunnelled=frozenset("abc")))
    two = await store.apply(edit("two", tunnelled=frozenset("def")))
    assert sorted([*one.vnis.values(), *two.vnis.values()]) == [1, 2, 3, 4, 5, 6]


async def test_a_number_that_was_given_up_is_nobodys_until_all_hosts_have_come_that_far(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(monkeypatch, itertools.cycle((1, 2)).__next__)
    one = await store.apply(edit("one", tunnelled=frozenset({"x"})))
    gone = await store.apply(edit("one", 2, tunnelled=frozenset()))
    assert (gone.vnis, gone.released) == ({}, {"x": 2})
    two = await store.apply(edit("two", tunnelled=frozenset({"y"})))
    assert two.vnis["y"] != one.vnis["x"]
    with pytest.raises(CapacityExceeded, match="no free numbers"):
        await store.apply(edit("three", tunnelled=frozenset({"z"})))
    assert await store.free_tunnels("one", 1) is None
    freed = await store.free_tunnels("one", 2)
    assert freed is not None
    assert freed.released == {}
    three = await store.apply(edit("three", tunnelled=frozenset({"z"})))
    assert three.vnis["z"] == one.vnis["x"]


async def test_a_link_that_comes_back_gets_its_own_number_back(store: Store) -> None:
    before = await store.apply(edit("one", tunnelled=frozenset({"x"})))
    await store.apply(edit("one", 2, tunnelled=frozenset()))
    after = await store.apply(edit("one", 3, tunnelled=frozenset({"x"})))
    assert (after.vnis, after.released) == (before.vnis, {})


async def test_a_lab_that_is_being_removed_gives_up_nothing(store: Store) -> None:
    before = await store.apply(edit("one", tunnelled=frozenset({"x"})))
    assert (await store.apply(edit("one", 2))).vnis == before.vnis


async def test_there_are_no_more_numbers_than_there_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "VNI_MOST", 2)
    with pytest.raises(CapacityExceeded, match="3 links between hosts need a number each, and only 2 of 2 are left"):
        await store.apply(edit("one", tunnelled=frozenset("abc")))
    assert await store.snapshots() == []


async def test_the_secret_of_an_installation_is_made_once(store: Store) -> None:
    await store.installation()
    secret = await store.pair_secret()
    assert len(secret) == 32
    assert await store.pair_secret() == secret


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(st.sampled_from(["one", "two"]), st.frozensets(st.sampled_from("abcd"))), max_size=8))
async def test_whatever_labs_do_no_number_has_two_owners(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[str, frozenset[str]]]
) -> None:
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('s') / 'wireloom.sqlite'}")
    try:
        generation = {"one": 0, "two": 0}
        owners: dict[int, str] = {}
        for lab, links in turns:
            generation[lab] += 1
            wanted = frozenset(f"{lab}-{link}" for link in links)
            found = await store.apply(edit(lab, generation[lab], tunnelled=wanted))
            assert found.vnis.keys() == wanted
            for link, vni in found.vnis.items():
                assert owners.setdefault(vni, link) == link
    finally:
        await store.close()
