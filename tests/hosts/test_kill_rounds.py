"""Processes are killed at random moments while labs come, move and go: nothing is lost, and nothing runs twice.

``WIRELOOM_KILL_ROUNDS`` says how many rounds (8), ``WIRELOOM_KILL_SEED`` what they are drawn from: a round that failed
is drawn again by the seed that its name shows.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest
from many_hosts_rig import ManyHosts, is_wired

from wireloom.model.views import DeployRequest
from wireloom.testing.installation import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS = int(os.environ.get("WIRELOOM_KILL_ROUNDS", "8"))
SEED = os.environ.get("WIRELOOM_KILL_SEED", "first")
SETTLED_S = 180

_LAB = """\
name: lab
defaults: {device: linux, restart: always}
nodes:
  a: {provider: docker, host: h1}
  b: {provider: docker}
  v: {provider: libvirt}
links:
  - [a:eth1, b:eth1]
  - [a:eth2, v:eth1]
  - [b:eth2, v:eth2]
"""
VICTIMS = ("controller", "nats-server", "agent", "dockerd", "libvirtd", "emulator")


def kill(rig: ManyHosts, draw: random.Random) -> str:
    """Kill a process somewhere; what it was."""
    victim, host = draw.choice(VICTIMS), rig.hosts[draw.choice(sorted(rig.hosts))]
    if victim == "controller":
        rig.controllers["controller"].end(signal.SIGKILL)
        return "controller"
    if victim == "nats-server":  # the controller brings it back
        os.kill(rig.nats_pid(), signal.SIGKILL)
        return victim
    if victim == "emulator":  # each machine has one
        for pid in host.emulators():
            os.kill(pid, signal.SIGKILL)
        return f"emulators of {host.name}"
    host.programs[victim].end(signal.SIGKILL)
    return f"{victim} of {host.name}"


def revive(rig: ManyHosts) -> None:
    for program in rig.programs():
        if not program.runs:
            program.start()


async def begin(rig: ManyHosts, deed: str, draw: random.Random) -> None:
    """Ask for something that takes a while; whoever should hear it may be dead already."""
    async with rig.client() as client:
        if deed == "destroy":
            await client.destroy("lab")
        elif deed == "move":
            there = {node.name: node.host for node in (await client.lab("lab")).nodes}
            node = draw.choice(("b", "v"))
            await client.moves.move("lab", [node], draw.choice([host for host in rig.hosts if host != there[node]]))
        else:
            await client.deploy(DeployRequest(topology=_LAB))


@pytest.mark.parametrize("number", range(ROUNDS), ids=lambda number: f"{SEED}-{number}")
async def test_whatever_is_killed_the_lab_becomes_what_it_should_be(rig: ManyHosts, number: int) -> None:
    draw = random.Random(f"{SEED}-{number}")  # noqa: S311 - repeatable
    deed = draw.choice(("deploy", "move", "destroy"))
    if deed != "deploy":
        await rig.deploy(_LAB)
        await rig.wired(within_s=SETTLED_S)
    await begin(rig, deed, draw)
    await asyncio.sleep(draw.uniform(0, 2))
    killed = [kill(rig, draw)]
    await asyncio.sleep(draw.uniform(0, 1))
    if draw.random() < 0.5:
        killed.append(kill(rig, draw))
    revive(rig)
    await rig.alive(*rig.hosts, within_s=90)
    if deed == "destroy":
        await rig.gone(within_s=SETTLED_S)
        return
    await rig.reach(is_wired, f"the lab does not recover from {deed} without {killed}", within_s=SETTLED_S)
    rig.nothing_twice()

    async def nothing_left_to_do() -> bool:
        async with rig.client() as client:
            return not (await client.plan(DeployRequest(topology=_LAB))).changes

    await until(nothing_left_to_do, "the plan of a lab that has converged is not empty", within_s=30)
    await rig.destroy(within_s=SETTLED_S)
