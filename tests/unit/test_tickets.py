"""Tickets: good once, for half a minute, made by those who know the token."""

from __future__ import annotations

from wireloom.api.tickets import TICKET_S, Tickets


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_ticket_is_good_once() -> None:
    tickets = Tickets("token")
    first, second = tickets.issue()[0], tickets.issue()[0]
    assert [tickets.take(first), tickets.take(first), tickets.take(second)] == [True, False, True]


def test_a_ticket_is_good_for_half_a_minute_and_is_then_forgotten() -> None:
    clock = Clock()
    tickets = Tickets("token", clock)
    early, late = tickets.issue()[0], tickets.issue()[0]
    clock.now += TICKET_S - 1
    assert tickets.take(early)
    clock.now += 2
    assert not tickets.take(late)
    assert tickets.take(tickets.issue()[0])
    assert early not in tickets._used


def test_every_replica_takes_a_ticket_of_another_and_nobody_elses() -> None:
    ticket, _ = Tickets("token").issue()
    assert Tickets("token").take(ticket)
    assert not Tickets("another").take(ticket)
    for wrong in (
        "",
        "x",
        "...",
        ticket + "0",
        ticket[:-1],
        ticket.replace(".", "", 1),
        "9" + ticket,
        "\u00e4." + ticket,
    ):
        assert not Tickets("token").take(wrong)
