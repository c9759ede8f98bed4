"""Impairments that end by themselves are forgotten, and every host that is concerned gets to know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from test_store_links import LOSSY, edit

from wireloom.controller.link_timer import LinkTimer
from wireloom.controller.store import Store
from wireloom.errors import TopologyInvalid


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'wireloom.sqlite'}")
    yield opened
    await opened.close()


async def test_a_lab_that_cannot_be_told_holds_up_no_other_and_is_told_later(store: Store) -> None:
    ended = LOSSY.model_copy(update={"forward_until": 5.0})
    for lab in ("one", "two"):
        await store.apply(edit(lab, impairments={"x": ended}))
    told: list[str] = []
    broken = {"one"}

    async def reload(lab_id: str) -> None:
        if lab_id in broken:
            raise TopologyInvalid("a device has gone from the catalogue")
        told.append(lab_id)

    timer = LinkTimer(store=store, reload=reload, clock=lambda: 6.0)
    await timer.end_due()
    assert told == ["two"]
    broken.clear()
    await timer.end_due()
    assert told == ["two", "one"]
    await timer.end_due()
    assert told == ["two", "one"]
