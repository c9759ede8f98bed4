"""What becomes a configuration and what is refused; differences, archives, suggestions and the store's rules."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.configs import (
    MAX_CONFIG_BYTES,
    ArchivedConfig,
    Keeper,
    clean,
    digest,
    normalised,
    suggest,
    unified_diff,
    zip_configs,
)
from wireloom.configs.policy import Kept, expendable, follows, next_due
from wireloom.errors import GuestFailed
from wireloom.model.device import Extract, Step

IOS = Extract(
    steps=(Step(channel="serial", run="show running-config"),),
    begins=r"^!|^version ",
    ends=r"^end$",
    drop=(r"^! Last configuration change", r"^ntp clock-period"),
    refuse=(r"^% ",),
)
PLAIN = Extract(steps=(Step(channel="exec", run="cat /etc/config"),))
IOS_TEXT = "!\nversion 15.9\nhostname r1\n!\ninterface Gi0/0\n description the end is near\n!\nend\n"


def reason(extract: Extract, raw: bytes | str, **options: tuple[str, ...]) -> str:
    with pytest.raises(GuestFailed) as raised:
        clean(extract, raw, prompts=options.get("prompts", ()))
    return str(raised.value.details["reason"])


def test_what_stands_around_a_configuration_is_left_out() -> None:
    raw = (
        "r1#show running-config\r\nBuilding configuration...\r\n\r\nCurrent configuration : 77 bytes\r\r\n"
        "!\r\n! Last configuration change at 10:00:00 UTC\r\nversion 15.9  \r\nhostname r1\r\n!\r\ninterface Gi0/0\r\n"
        " description the end is near\r\n!\r\nend\r\n\r\nr1#"
    )
    assert clean(IOS, raw.encode()) == IOS_TEXT


@pytest.mark.parametrize(
    ("extract", "raw", "expected"),
    [
        (IOS, b"", "empty"),
        (IOS, b" \r\n \r\n", "empty"),
        (IOS, b"x" * (MAX_CONFIG_BYTES + 1), "too-large"),
        (IOS, b"!\nhostname \xff\xfe\nend\n", "not-text"),
        (IOS, b"!\nhostname \x00r1\nend\n", "not-text"),
        (IOS, b"!\nhostname \x1b[1mr1\nend\n", "not-text"),
        (IOS, "!\n\ud800\nend\n", "not-text"),
        (IOS, b"!\nversion 15.9\nhostname r1\n", "incomplete"),
        (IOS, b"nothing that begins\nend\n", "incomplete"),
        (IOS, b"end\n", "incomplete"),
        (IOS, b"!\n% Invalid input detected\nend\n", "error-text"),
        (IOS, b"% Ambiguous command\n!\nend\n", "error-text"),
        (IOS, b"!\n --More-- \nend\n", "pager"),
        (PLAIN, b"a\n---(more 45%)---\nb\n", "pager"),
        (PLAIN, b"a\n<--- More --->\nb\n", "pager"),
        (PLAIN, b"cat /etc/config\nhostname r1\n", "echo"),
        (PLAIN, b"hostname r1\nroot@r1:~# cat /etc/config\n", "echo"),
        (PLAIN, b"hostname r1\nroot@r1:~#\n", "prompt"),
        (PLAIN, b"r1>\nhostname r1\n", "prompt"),
    ],
)
def test_what_is_no_configuration_is_refused_with_the_reason(extract: Extract, raw: bytes | str, expected: str) -> None:
    assert reason(extract, raw) == expected


def test_the_devices_own_prompts_are_known() -> None:
    assert reason(PLAIN, "hostname r1\n[admin@MikroTik] /ip>>\n", prompts=(r"\[.*\] /\w+>>",)) == "prompt"
    assert clean(PLAIN, "hostname r1\n[admin@MikroTik] /ip>>\n") == "hostname r1\n[admin@MikroTik] /ip>>\n"


def test_a_command_named_in_a_configuration_is_no_echo() -> None:
    text = "!\nalias exec sr show running-config\nend\n"
    assert clean(IOS, text) == text


def test_nothing_but_lines_to_drop_is_empty() -> None:
    assert reason(Extract(drop=("^!",)), "! a\n! b\n") == "empty"


config_lines = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=30)


@given(st.lists(config_lines, max_size=20), st.sampled_from(["\n", "\r\n", "\r\r\n"]), st.binary(max_size=3))
def test_cleaning_what_is_clean_changes_nothing(lines: list[str], line_end: str, tail: bytes) -> None:
    raw = line_end.join(["!", *lines, "end"]).encode() + tail
    with contextlib.suppress(GuestFailed):
        once = clean(IOS, raw)
        assert clean(IOS, once) == once
        assert once.endswith("end\n")
        assert "\r" not in once


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_configuration_or_a_reason(noise: bytes) -> None:
    for extract in (IOS, PLAIN, Extract()):
        with contextlib.suppress(GuestFailed):
            text = clean(extract, noise)
            assert text == normalised(text)


@given(st.lists(config_lines, min_size=1, max_size=10), st.lists(config_lines, min_size=1, max_size=10))
def test_a_difference_says_which_lines_came_and_went(one: list[str], other: list[str]) -> None:
    before, after = "\n".join(one) + "\n", "\n".join(other) + "\n"
    diff = unified_diff(before, after, before_name="a", after_name="b")
    assert bool(diff) == (before != after)
    changed = [line for line in diff.splitlines() if line[:1] in "+-"][2:]
    assert len(after.splitlines()) - len(before.splitlines()) == sum(
        1 if line.startswith("+") else -1 for line in changed
    )


def test_a_difference_reads_as_patch_does() -> None:
    diff = unified_diff("a\nb\n", "a\nc\n", before_name="r1 revision 1", after_name="r1 revision 2")
    assert diff == "--- r1 revision 1\n+++ r1 revision 2\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"


def test_an_archive_is_the_same_for_the_same_content_in_any_order() -> None:
    configs = [
        ArchivedConfig(node, "frr", 3, 17.0, digest(f"hostname {node}\n"), f"hostname {node}\n")
        for node in ("r2", "r1")
    ]
    archive = zip_configs("lab", configs)
    assert archive == zip_configs("lab", list(reversed(configs)))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == ["lab/configs.json", "lab/r1.cfg", "lab/r2.cfg"]
        assert opened.read("lab/r1.cfg") == b"hostname r1\n"
        assert [item["revision"] for item in json.loads(opened.read("lab/configs.json"))["configs"]] == [3, 3]


def test_configurations_go_to_the_namesake_then_to_the_most_alike_of_the_same_device() -> None:
    sources = [Keeper("core-1", "frr"), Keeper("r1", "frr"), Keeper("sw", "linux"), Keeper("r9", "iosv")]
    targets = [Keeper("core1", "frr"), Keeper("r1", "frr"), Keeper("sw", "frr"), Keeper("r8", "frr")]
    assert [(item.source, item.target, item.why) for item in suggest(sources, targets)] == [
        ("r1", "r1", "same-name"),
        ("core-1", "core1", "alike"),
    ]


def test_the_only_one_left_of_a_device_is_suggested_whatever_its_name() -> None:
    gone, there = [Keeper("r1", "frr")], [Keeper("edge", "frr"), Keeper("host", "linux")]
    assert [(item.target, item.why) for item in suggest(gone, there)] == [("edge", "only-one")]
    assert suggest([*gone, Keeper("r2", "frr")], there) == ()
    assert suggest(gone, [*there, Keeper("core", "frr")]) == ()


# -------------------------------------------------------------------- rules of the store


@pytest.mark.parametrize(
    ("chosen", "by_user", "made_with", "expected"),
    [(0, False, 0, True), (2, False, 1, False), (2, False, 2, True), (2, True, 1, True)],
)
def test_an_extract_never_takes_the_place_of_a_choice_that_was_not_used_yet(
    chosen: int, by_user: bool, made_with: int, expected: bool
) -> None:
    assert follows(by_user=by_user, chosen=chosen, made_with=made_with) is expected


DAY = 86400.0


@pytest.mark.parametrize(
    ("keep", "days", "active", "gone"),
    [
        (0, 0, None, ()),
        (2, 0, None, (1, 2, 3)),
        (2, 0, 1, (2, 3)),
        (2, 3, None, (1, 2, 3)),
        (0, 3, None, (1, 2, 3)),
        (0, 0.5, None, (1, 2, 3, 4)),
        (1, 0, 5, (1, 2, 3, 4)),
    ],
)
def test_retention_keeps_the_newest_and_the_active(
    keep: int, days: float, active: int | None, gone: tuple[int]
) -> None:
    revisions = [Kept(number, created_at=(number - 1) * DAY) for number in range(1, 6)]  # 1 is oldest
    assert expendable(revisions, active=active, keep=keep, keep_days=days, now=5 * DAY + 1) == gone


@given(st.sets(st.integers(1, 50)), st.integers(0, 20), st.floats(0, 20), st.integers(0, 60))
def test_retention_never_takes_the_active_nor_the_newest(
    numbers: set[int], keep: int, days: float, active: int
) -> None:
    revisions = [Kept(number, number * DAY) for number in numbers]
    gone = expendable(revisions, active=active, keep=keep, keep_days=days, now=100 * DAY)
    assert active not in gone
    assert max(numbers, default=0) not in gone
    assert set(gone) <= numbers


def test_an_extract_is_due_an_interval_after_the_last_one_and_pauses_after_a_failure() -> None:
    def due(extracted: float | None, tried: float | None) -> float:
        return next_due(every_s=100, extracted_at=extracted, tried_at=tried, pause_s=30)

    assert due(None, None) == 0
    assert due(1000, None) == 1100
    assert due(1000, 1000) == 1100
    assert due(1000, 1090) == 1120
    assert due(None, 50) == 80
