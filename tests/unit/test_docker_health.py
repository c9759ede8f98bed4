"""What an image says of its own health check."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from wireloom.providers.docker.files import Entry
from wireloom.providers.docker.health import ImageCheck

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({}, None),
        ({"Healthcheck": None}, None),
        ({"Healthcheck": {"Test": ["NONE"]}}, None),
        ({"Healthcheck": {"Test": ["CMD"]}}, None),
        ({"Healthcheck": {"Test": ["CMD", "check", "-q"]}}, ImageCheck(("check", "-q"), 30)),
        (
            {"Healthcheck": {"Test": ["CMD-SHELL", "a || b"], "Timeout": 2 * SECOND}},
            ImageCheck(("/bin/sh", "-c", "a || b"), 2),
        ),
        (
            {"Healthcheck": {"Test": ["CMD-SHELL", "a"], "Timeout": 900 * SECOND}, "Shell": ["/bin/bash", "-ec"]},
            ImageCheck(("/bin/bash", "-ec", "a"), 60),
        ),
    ],
)
def test_the_check_of_an_image(config: dict[str, Any], found: ImageCheck | None) -> None:
    assert ImageCheck.of(config) == found


@pytest.mark.parametrize(
    ("mode", "regular", "link"),
    [(0o644, True, False), (1 << 31 | 0o755, False, False), (1 << 27 | 0o777, False, True), (1 << 25, False, False)],
)
def test_what_a_path_is(mode: int, regular: bool, link: bool) -> None:
    header = base64.b64encode(json.dumps({"name": "x", "size": 5, "mode": mode, "linkTarget": "y"}).encode())
    entry = Entry.of(header.decode())
    assert (entry.is_regular, entry.is_link, entry.size) == (regular, link, 5)
