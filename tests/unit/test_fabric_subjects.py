"""Names and permissions on the fabric."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.fabric.subjects import (
    DESIRED,
    HOSTS,
    OBSERVED,
    agent_permissions,
    agent_user,
    decode_token,
    encode_token,
    event_subject,
    inbox_prefix,
    join_key,
    open_subject,
    rpc_subject,
    split_key,
    stream_subject,
)

# What nats-server and every client take as a key-value key.
_VALID_KEY = re.compile(r"[-/_=.a-zA-Z0-9]+")


@given(st.text(min_size=1, max_size=40))
def test_a_token_round_trips_and_is_one_token(text: str) -> None:
    token = encode_token(text)
    assert decode_token(token) == text
    assert _VALID_KEY.fullmatch(token)
    assert "." not in token


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3))
def test_a_key_gives_its_parts_back(parts: list[str]) -> None:
    assert list(split_key(join_key(*parts))) == parts


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        encode_token("")


def test_wildcards_in_a_host_name_name_nobody_else() -> None:
    assert encode_token("*") == "=2A"
    assert encode_token(">") == "=3E"


def test_a_bucket_names_its_subjects() -> None:
    assert DESIRED.subject("h1.lab") == "$KV.desired.h1.lab"
    assert DESIRED.live("h1.lab") == "live.desired.h1.lab"
    assert DESIRED.key_of("live.desired.h1.lab") == "h1.lab"
    assert DESIRED.key_of("$KV.desired.h1.lab") == "h1.lab"
    with pytest.raises(ValueError, match="not in bucket"):
        HOSTS.key_of(OBSERVED.live("h1.lab"))


def test_subjects_read_as_documented() -> None:
    assert rpc_subject("h1", "exec") == "rpc.h1.exec"
    assert open_subject("h1", "console") == "rpc.h1.open.console"
    assert stream_subject("h1", "5f", "up") == "stream.h1.5f.up"
    assert event_subject("") == "events._"
    assert event_subject("h1.example") == "events.h1=2Eexample"


def test_an_agent_may_touch_only_what_names_its_host() -> None:
    permissions = agent_permissions("h1")
    assert permissions.publish == (
        "$JS.API.DIRECT.GET.KV_desired.$KV.desired._epoch",
        "$JS.API.DIRECT.GET.KV_desired.$KV.desired.h1",
        "$JS.API.DIRECT.GET.KV_desired.$KV.desired.h1.*",
        "$KV.observed.h1.*",
        "$KV.hosts.h1",
        "$JS.API.DIRECT.GET.KV_library.$KV.library.h1",
        "$KV.shelves.h1",
        "$JS.API.DIRECT.GET.KV_peers.$KV.peers.h1",
        "$JS.API.DIRECT.GET.KV_ends.$KV.ends.h1.*",
        "$KV.ends.*.h1",
        "events.h1",
        "ctl.h1.*",
        "stream.h1.*.down",
    )
    assert permissions.subscribe == (
        "_INBOX_agent-h1.>",
        "live.desired._epoch",
        "live.desired.h1.*",
        "live.library.h1",
        "live.peers.h1",
        "live.ends.h1.*",
        "lease.h1",
        "rpc.h1.>",
        "stream.h1.*.up",
    )
    assert inbox_prefix(agent_user("h1")) != inbox_prefix(agent_user("h2"))
