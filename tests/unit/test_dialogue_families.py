"""Each family of command lines against its scripted guest, with the guest's text cut at every byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dialogue_guests import STORIES, Story
from dialogue_rig import Cut, bytewise, command_line, cut_once, talk, whole


def _play(story: Story, cut: Cut, **options: object) -> None:
    talked = talk(command_line(story.command_line), story.guest(), story.script, story.values, cut=cut, **options)
    outcome = talked.outcome
    assert talked.typed == list(story.typed)
    assert [(answer.text, answer.refused) for answer in outcome.answers] == list(story.answers)
    assert outcome.prompt == story.prompt
    assert outcome.recoveries == story.recoveries


@pytest.mark.parametrize("name", STORIES)
def test_the_story_is_played_to_its_end(name: str) -> None:
    _play(STORIES[name], whole)


@pytest.mark.parametrize("name", STORIES)
def test_bytes_may_come_one_by_one(name: str) -> None:
    _play(STORIES[name], bytewise)


@pytest.mark.parametrize("name", STORIES)
def test_the_guests_text_may_be_cut_at_any_byte_by_half_a_second(name: str) -> None:
    story = STORIES[name]
    length = _printed(story)
    assert length > 300
    for position in range(1, length):
        _play(story, cut_once(position), pause_s=0.5)


def _printed(story: Story) -> int:
    """How many bytes the guest prints in this story."""
    passed = 0

    def count(data: bytes) -> Iterator[bytes]:
        nonlocal passed
        passed += len(data)
        yield data

    _play(story, count)
    return passed
