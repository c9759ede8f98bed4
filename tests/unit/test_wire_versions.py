"""Processes one version apart: what earlier versions wrote is read, and what later ones add is no obstacle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RECORDED = sorted((Path(__file__).parent / "golden" / "wire").glob("*/*.json"))

sys.path.insert(0, str(ROOT / "scripts"))
from record_wire import DOCUMENTS, sample  # noqa: E402


def name_of(file: Path) -> str:
    return f"{file.parent.name}-{file.stem}"


def lost(before: Any, after: Any, where: str = "") -> list[str]:
    """Places of ``before`` that ``after`` has not, or has with another value."""
    if isinstance(before, dict):
        if not isinstance(after, dict):
            return [where]
        return [place for key, value in before.items() for place in lost(value, after.get(key), f"{where}.{key}")]
    if isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            return [where]
        return [
            place
            for number, (one, other) in enumerate(zip(before, after, strict=True))
            for place in lost(one, other, f"{where}[{number}]")
        ]
    return [] if before == after else [where]


def of_a_later_version(document: Any) -> Any:
    """``document`` with a field more in every object. Mappings with keys of users' own are told by their one key."""
    if isinstance(document, list):
        return [of_a_later_version(each) for each in document]
    if not isinstance(document, dict):
        return document
    inner = {key: of_a_later_version(value) for key, value in document.items()}
    return inner if len(inner) == 1 else inner | {"of_a_later_version": {"deep": [1]}}


@pytest.mark.parametrize("file", RECORDED, ids=name_of)
def test_every_document_of_an_earlier_version_is_read_without_loss(file: Path) -> None:
    before = json.loads(file.read_text(encoding="utf-8"))
    read = DOCUMENTS[file.stem].model_validate_json(json.dumps(before))
    assert lost(before, json.loads(read.model_dump_json(by_alias=True))) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_fields_of_a_later_version_are_passed_over(name: str) -> None:
    document = sample(DOCUMENTS[name])
    later = of_a_later_version(document)
    read = DOCUMENTS[name].model_validate_json(json.dumps(later))
    assert lost(document, json.loads(read.model_dump_json(by_alias=True))) == []


def test_a_sample_says_something_in_every_field_of_an_intent() -> None:
    document = sample(DOCUMENTS["Slice"])
    for part in ("nodes", "wires", "segments", "plugs", "departures", "arrivals", "images"):
        assert document[part], part
    assert document["wires"][0]["remote"]
    assert document["arrivals"][0]["node"]["ports"]
