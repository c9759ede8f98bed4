"""How long a lab is without a leader when its controller is killed: two leads on a real PostgreSQL.

Each round starts a process that takes the lead, kills it with SIGKILL, and measures until the other one leads. Needs
PostgreSQL's server programs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from common import measured, median, parser, report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "contract"))

from postgres_rig import postgres_server

from wireloom.controller.leadership import Leadership
from wireloom.controller.store import Store
from wireloom.controller.tasks import Supervisor

TARGET_S = 2.0
_DEADLINE_S = 30.0


async def hold(url: str) -> None:
    """Lead until killed; say when."""
    store = await Store.open(url)
    leadership = Leadership(store.leases)
    await leadership.start(Supervisor())
    while not leadership.leads():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    print("leads", flush=True)
    await asyncio.Event().wait()


async def one_round(store: Store, url: str) -> float:
    """Seconds from the kill to the lead of another one."""
    first = await asyncio.create_subprocess_exec(sys.executable, __file__, "--hold", url, stdout=subprocess.PIPE)
    assert first.stdout is not None
    await asyncio.wait_for(first.stdout.readline(), _DEADLINE_S)
    supervisor, second = Supervisor(), Leadership(store.leases)
    await second.start(supervisor)
    await asyncio.sleep(1)
    assert not second.leads()
    first.kill()
    begun = time.monotonic()
    async with asyncio.timeout(_DEADLINE_S):
        while not second.leads():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    took = time.monotonic() - begun
    await first.wait()
    await supervisor.close()
    await second.stop()
    return took


async def measure(rounds: int) -> list[float]:
    with postgres_server() as server:
        url = server.database("takeover")
        store = await Store.open(url)
        try:
            return [await one_round(store, url) for _ in range(rounds)]
        finally:
            await store.close()


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=9)
    made.add_argument("--hold", help="for the benchmark itself")
    arguments = made.parse_args()
    if arguments.hold:
        asyncio.run(hold(arguments.hold))
        return
    took = asyncio.run(measure(arguments.rounds))
    results = [
        measured("takeover, median", median(took), "s", at_most=TARGET_S),
        measured("takeover, slowest", max(took), "s"),
    ]
    report("takeover", results, arguments.json)


if __name__ == "__main__":
    main()
