"""The wire form of answers."""

from __future__ import annotations

import pytest

from wireloom.errors import GuestFailed, InternalError, InvalidInput
from wireloom.fabric.documents import ExecAnswer, ExecQuestion
from wireloom.fabric.rpc import decode_answer, encode_answer, encode_error, parse_question


def test_an_answer_round_trips_with_its_bytes() -> None:
    answer = ExecAnswer(exit_code=3, stdout=bytes(range(256)), tried={"exec": "no shell"})
    assert decode_answer(encode_answer(answer), ExecAnswer) == answer


def test_an_error_arrives_as_what_it_was() -> None:
    sent = GuestFailed("it refused", hint="log in first", node="r1", details={"exit": 1})
    with pytest.raises(GuestFailed) as caught:
        decode_answer(encode_error(sent), ExecAnswer)
    assert caught.value.to_wire() == sent.to_wire()


def test_an_answer_of_another_kind_is_a_defect() -> None:
    with pytest.raises(InternalError):
        decode_answer(b'{"answer": {"no": "exit code"}}', ExecAnswer)


def test_a_question_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInput):
        parse_question(b'{"lab_id": 7}', ExecQuestion)
