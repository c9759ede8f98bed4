"""Leases between one host and a controller, both real, over a network that delays, loses and reorders everything.

Whatever happens, when the controller gives nodes away the host has known for long that it may not run them.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wireloom.agent.fencing import LeaseBook
from wireloom.controller.recovery import LeaseKeeper
from wireloom.errors import Unavailable
from wireloom.fabric.documents import HostFacts, Lease
from wireloom.model.slice import NodeIntent, Slice
from wireloom.planning.leases import FENCE_S, lease_s

LAB, HOST, LOSS_S = "lab", "h1", 60.0
TTL_S = 15.0
NODE = NodeIntent(id="n", name="n", device="d", provider="p", image="i")


def intent(generation: int) -> Slice:
    return Slice(installation="i", lab_id=LAB, lab="l", generation=generation, nodes=(NODE,), lease_s=lease_s(LOSS_S))


class Play:
    """True time, and two machines whose clocks run at speeds of their own."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a play that can be repeated
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], Any]]] = []
        self._numbers = itertools.count()
        self.host_speed = self.random.uniform(0.996, 1.004)
        self.controller_speed = self.random.uniform(0.996, 1.004)
        self.file = folder / "leases.json"
        self.generation = 1
        self.connected = True
        self.alive_until = 0.0
        self.cut_up = self.cut_down = False
        self.given_up_at: list[float] = []
        self.lapses: list[float] = []
        self._lapsed_since: float | None = None
        self.start_agent()
        self.start_controller()

    # -- machines ------------------------------------------------------------------------------------------

    def host_clock(self) -> float:
        return 5000.0 + self.now * self.host_speed

    def controller_clock(self) -> float:
        return 77.0 + self.now * self.controller_speed

    def start_agent(self) -> None:
        """A new life of the agent, on what it has written down."""
        self.book = LeaseBook(self.file, "boot", self.host_clock)
        self.book.load()
        self.book.follow(LAB, intent(self.generation))

    def start_controller(self) -> None:
        """A new controller, which knows what the database and the fabric hold."""
        everything = cast(Any, self)
        self.keeper = LeaseKeeper(fabric=everything, board=everything, live=everything, clock=self.controller_clock)

    # -- what a controller knows ---------------------------------------------------------------------------

    lab_ids = (LAB,)

    @property
    def alive(self) -> frozenset[str]:
        return frozenset({HOST}) if self.now < self.alive_until else frozenset()

    def statuses(self, _lab: str) -> dict[str, Any]:
        return {HOST: SimpleNamespace(lease_s=lease_s(LOSS_S))}

    def intents(self, _lab: str) -> dict[str, Slice]:
        return {HOST: intent(self.generation)}

    def snapshot(self, _lab: str) -> Any:
        return SimpleNamespace(hosts=(HOST,), lab=SimpleNamespace(generation=self.generation))

    # -- the network ---------------------------------------------------------------------------------------

    def later(self, seconds: float, action: Callable[[], Any]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._numbers), action))

    def delay(self) -> float:
        """Mostly short; now and then something is stuck for long and comes all the same."""
        return self.random.choice((0.01, 0.05, 0.5, 3.0, 20.0, 70.0)) * self.random.random()

    def send_heartbeat(self) -> None:
        word = self.book.beat()
        if not self.cut_up and self.random.random() < 0.95:
            self.later(self.delay(), lambda: self.heartbeat_came(word))
        self.later(2.0, self.send_heartbeat)

    def heartbeat_came(self, word: str) -> None:
        if self.connected:
            self.alive_until = self.now + TTL_S
            keeper = self.keeper
            facts = HostFacts(host=HOST, version="1", installation="i", time=1.0, beat=word)
            coroutine = keeper.heard(HOST, facts)
            with pytest.raises(StopIteration):
                coroutine.send(None)

    async def send_lease(self, lease: Lease) -> None:
        if not self.connected:
            raise Unavailable("cut off")
        if not self.cut_down and self.random.random() < 0.95:
            self.later(self.delay(), lambda: self.book.heard(lease))

    # -- what happens --------------------------------------------------------------------------------------

    def look(self) -> None:
        for silence in self.keeper.look():
            if silence.over:
                self.check_given_up()
        self.later(1.0 / self.controller_speed, self.look)

    def check_given_up(self) -> None:
        assert self._lapsed_since is not None, f"given up at {self.now:.1f} while the host may run it"
        since = self.now - self._lapsed_since
        assert since >= FENCE_S - 2, f"the host had {since:.1f} s to stop it"
        self.given_up_at.append(self.now)

    def trouble(self) -> None:
        match self.random.randrange(7):
            case 0:
                self.cut_up = not self.cut_up
            case 1:
                self.cut_down = not self.cut_down
            case 2:
                self.cut_up = self.cut_down = False
            case 3:
                self.start_controller()
            case 4:
                self.start_agent()
            case 5:
                self.connected = not self.connected
            case 6:
                self.generation += 1  # an edit, which the host hears of later, or not before it is back
                generation = self.generation
                self.later(self.delay(), lambda: self.book.follow(LAB, intent(generation)))
        self.later(self.random.expovariate(1 / 25.0), self.trouble)

    def run(self, seconds: float) -> None:
        self.send_heartbeat()
        self.look()
        self.later(5.0, self.trouble)
        while self._due and self.now < seconds:
            self.now, _, action = heapq.heappop(self._due)
            action()
            lapsed = LAB in self.book.lapsed()
            if not lapsed:
                self._lapsed_since = None
            elif self._lapsed_since is None:
                # Time alone makes a lease lapse, so it did so when the book says, not when we looked.
                silence = self.book.silence_s(LAB) or 0.0
                held = lease_s(LOSS_S) or 0.0
                self._lapsed_since = self.now - max(silence - held, 0.0) / self.host_speed


@pytest.mark.parametrize("seed", range(60))
def test_nodes_are_given_away_only_after_their_host_has_had_the_time_to_stop_them(seed: int, tmp_path: Path) -> None:
    Play(seed, tmp_path).run(3000.0)


def test_the_play_gives_nodes_away_at_all(tmp_path: Path) -> None:
    total = 0
    for seed in range(10):
        (tmp_path / str(seed)).mkdir()
        play = Play(seed, tmp_path / str(seed))
        play.run(3000.0)
        total += len(play.given_up_at)
    assert total > 50


def test_a_quiet_network_gives_nothing_away(tmp_path: Path) -> None:
    play = Play(1, tmp_path)
    play.trouble = lambda: None  # type: ignore[method-assign]
    play.delay = lambda: 0.05  # type: ignore[method-assign]
    play.run(1000.0)
    assert play.given_up_at == []
    assert play._lapsed_since is None
