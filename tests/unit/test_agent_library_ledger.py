"""What a host remembers of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from wireloom.agent.library.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.json", clock=lambda: 1000.0)


def test_what_was_brought_is_forgotten_with_the_image(ledger: Ledger) -> None:
    ledger.note_brought("one")
    ledger.keep(["one"])
    assert ledger.brought("one")
    ledger.keep([])
    assert not ledger.brought("one")


def test_what_was_pulled_is_remembered_until_the_controller_knew_the_image_and_forgot_it(ledger: Ledger) -> None:
    ledger.note_pulled("one")
    ledger.keep([])
    assert ledger.brought("one")
    ledger.keep(["one"])
    assert ledger.brought("one")
    ledger.keep([])
    assert not ledger.brought("one")


def test_what_was_pulled_outlives_a_restart(ledger: Ledger, tmp_path: Path) -> None:
    ledger.note_pulled("one")
    ledger.save()
    again = Ledger(tmp_path / "ledger.json")
    again.load()
    again.keep([])
    assert again.brought("one")
