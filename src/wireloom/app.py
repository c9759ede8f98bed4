"""The composition root: the only place that knows concrete providers, data planes and services.

Each program is a function that takes :class:`~wireloom.settings.Settings` and runs until it is told to stop
(SIGTERM, SIGINT). Everything it leaves on the host is found again by its labels.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from wireloom.errors import DeadlineExceeded, Unavailable
from wireloom.settings import Settings

if TYPE_CHECKING:
    from wireloom.agent.fencing.guard import GuardStarter
    from wireloom.agent.library import Rules
    from wireloom.agent.underlay import UnderlayRules
    from wireloom.dataplane.contract import DataPlane
    from wireloom.fabric.documents import HostFacts

__all__ = [
    "collect_rarely",
    "data_planes",
    "make_providers",
    "run_agent",
    "run_controller",
    "settings_schemas",
    "withdraw_others",
]

log = structlog.get_logger(__name__)

_LOGIN_WAIT_S: Final = 60.0
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def run_controller(settings: Settings) -> None:
    """The controller, with a private fabric where no other is configured."""
    from wireloom.logs import configure

    configure(settings)
    collect_rarely()
    asyncio.run(_until_told_to_stop(_controller(settings)))


def collect_rarely() -> None:
    """Look for unused cycles after 50,000 new objects, not 700: a large lab is made of values that hold none.

    To look through hundreds of thousands of them again and again takes as long as planning the lab.
    """
    gc.set_threshold(50_000, 10, 20)


def run_agent(settings: Settings) -> None:
    """This host's agent."""
    from wireloom.logs import configure

    configure(settings)
    asyncio.run(_until_told_to_stop(_agent(settings)))


def run_fence_guard(settings: Settings) -> None:
    """Stops nodes of this host whose lease ran out while its agent is not there; ends when there are none."""
    from wireloom.logs import configure

    configure(settings)
    asyncio.run(_until_told_to_stop(_fence_guard(settings)))


async def _until_told_to_stop(program: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(program)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


# -- controller ------------------------------------------------------------------------------------------------


async def _controller(settings: Settings) -> None:
    from wireloom.api import create_app
    from wireloom.controller.service import ControllerService
    from wireloom.controller_fabric import controller_fabric
    from wireloom.devices import DeviceFolder

    async with controller_fabric(settings) as side:
        service = ControllerService(
            settings,
            fabric=side.fabric,
            make_app=create_app,
            devices=DeviceFolder(settings.paths.device_folder),
            settings_schemas=settings_schemas(),
            logins=side.logins,
        )
        controller = await service.start()
        try:
            api = controller.host_parts.joining.address
            await side.introduce(controller.installation, api_url=service.url, api_ca=api.ca)
            await asyncio.Event().wait()  # until cancelled
        finally:
            await service.stop()


def settings_schemas() -> dict[str, dict[str, Any]]:
    """What each provider understands under ``settings``; read without touching an engine."""
    from wireloom.providers.docker import DockerProvider
    from wireloom.providers.libvirt import LibvirtProvider

    return {"docker": DockerProvider.settings_schema(), "libvirt": LibvirtProvider.settings_schema()}


# -- agent -----------------------------------------------------------------------------------------------------


def make_providers(
    settings: Settings, installation: str, *, whole_frames: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """The providers of this host, by the name that topologies use.

    :param whole_frames: whether guests have to finish their frames themselves, as the data plane says in its abilities.
    """
    from wireloom.providers.docker import DockerProvider
    from wireloom.providers.libvirt import LibvirtProvider

    return {
        "docker": DockerProvider(installation, url=settings.docker_url or None),
        "libvirt": LibvirtProvider(
            installation,
            uri=settings.libvirt_uri,
            image_folder=settings.data_dir / "images",
            accelerate=settings.acceleration,
            whole_frames=whole_frames,
        ),
    }


async def _fence_guard(settings: Settings) -> None:
    from wireloom.agent.fencing.guard import FenceGuard
    from wireloom.agent.folder import FolderStore
    from wireloom.agent.login import AgentLogin

    login = await AgentLogin.wait(settings.data_dir, _LOGIN_WAIT_S)
    guard = FenceGuard(
        settings.paths.lease_file,
        settings.paths.guard_lock,
        host_boot=_BOOT_ID.read_text().strip(),
        providers=lambda: make_providers(settings, login.installation),
        folders=FolderStore(settings.data_dir / "nodes", login.installation),
    )
    await guard.run()


def _guard_starter(settings: Settings) -> GuardStarter:
    from wireloom.agent.fencing.guard import GuardStarter
    from wireloom.processes import program_command

    return GuardStarter(settings.paths.guard_lock, program_command("fence-guard"), settings.to_environment())


def data_planes() -> dict[str, Callable[[str], DataPlane]]:
    """What makes the data plane of an installation, by the name that settings use."""
    from wireloom.dataplane.kernel import KernelDataPlane
    from wireloom.dataplane.ovs import OvsDataPlane

    return {KernelDataPlane.name: KernelDataPlane, OvsDataPlane.name: OvsDataPlane}


async def withdraw_others(settings: Settings, installation: str) -> None:
    """Have the data planes that this host is not to use give up what they hold of the installation's ports.

    One whose daemons do not run holds nothing that frames go through.

    :raises WireloomError: another data plane cannot let go.
    """
    for name, make in data_planes().items():
        if name != settings.dataplane:
            other = make(installation)
            try:
                await other.withdraw()
            except (DeadlineExceeded, Unavailable) as error:
                log.warning("the other data plane does not answer", dataplane=name, error=error.message)
            finally:
                await other.close()


async def _agent_fabric(settings: Settings) -> tuple[Any, Any]:
    """The agent's login, once somebody has introduced it to an installation, and its connection."""
    from wireloom.agent.login import AgentLogin
    from wireloom.fabric.connection import Fabric

    login = await AgentLogin.wait(settings.data_dir, _LOGIN_WAIT_S)
    fabric = await Fabric.connect(
        login.urls,
        name=f"agent {settings.host}",
        login=login.login,
        ca=login.ca,
        creates_stores=False,
        timeout_s=_LOGIN_WAIT_S,
    )
    return login, fabric


def _image_rules(settings: Settings) -> Rules:
    from wireloom.agent.library import Rules

    return Rules(
        policy=settings.image_policy,
        keep_days=settings.image_keep_days,
        fetches=settings.image_fetches,
        serve=settings.image_serve,
        verify_days=settings.image_verify_days,
    )


def _underlay_rules(settings: Settings, installation: str, urls: Sequence[str]) -> UnderlayRules:
    from wireloom.agent.underlay import UnderlayRules
    from wireloom.agent.underlay.wireguard import WireGuardLinks

    key = settings.data_dir / "agent" / "wireguard.key"
    return UnderlayRules(
        address=settings.underlay_address,
        interface=settings.underlay_interface,
        fabric=tuple(urls),
        probe_port=settings.underlay_probe_port,
        secure=WireGuardLinks(installation, key, settings.wireguard_port),
    )


def _facts(settings: Settings, installation: str) -> Callable[[], HostFacts]:
    """What reads this host before each heartbeat."""
    from wireloom.agent.facts import host_facts
    from wireloom.agent.machine import Machine
    from wireloom.providers.libvirt import acceleration

    decision = acceleration.probe(settings.acceleration)
    return partial(
        host_facts,
        settings,
        installation=installation,
        kvm=decision.kind == "kvm",
        kvm_reason=decision.reason,
        machine=Machine({"data": settings.data_dir, "docker": Path("/var/lib/docker")}),
    )


async def _agent(settings: Settings) -> None:
    from wireloom.agent.dataplane_health import DataPlaneHealth
    from wireloom.agent.gateway.forwarding import Forwarding
    from wireloom.agent.library import ControllerWay
    from wireloom.agent.management import ManagementNetwork, segment_name
    from wireloom.agent.renewal import LoginKeeper
    from wireloom.agent.segments import NatSegments
    from wireloom.agent.service import AgentParts, AgentService
    from wireloom.agent.ssh import InstallationKey, SshShell

    structlog.contextvars.bind_contextvars(host=settings.host)
    login, fabric = await _agent_fabric(settings)
    dataplane = data_planes()[settings.dataplane](login.installation)
    health = DataPlaneHealth(dataplane, look_s=settings.resync_s)
    forwarding = Forwarding(settings.run_dir / "forwarding.json")
    bridge = segment_name(login.installation)
    key = await asyncio.to_thread(InstallationKey.ensure, settings.data_dir / "keys")
    parts = AgentParts(
        host=settings.host,
        installation=login.installation,
        host_boot=_BOOT_ID.read_text().strip(),
        data_dir=settings.data_dir,
        fabric=fabric,
        providers=make_providers(settings, login.installation, whole_frames=lambda: health.whole_frames),
        dataplane=dataplane,
        health=health,
        hand_over=partial(withdraw_others, settings, login.installation),
        management=ManagementNetwork(
            login.installation, dataplane, settings.run_dir / "management", forwarding=forwarding
        ),
        segments=NatSegments(
            login.installation, settings.run_dir / "segments", management=bridge, forwarding=forwarding
        ),
        segment=bridge,
        shell=SshShell(key, settings.data_dir / "nodes"),
        authorized_keys=key.public_line,
        facts=_facts(settings, login.installation),
        heartbeat_s=settings.heartbeat_s,
        captures_at_once=settings.captures_at_once,
        images=_image_rules(settings),
        way=ControllerWay(login.api_url, login.api_ca),
        underlay=_underlay_rules(settings, login.installation, login.urls),
        resync_s=settings.resync_s,
        guard_starter=_guard_starter(settings),
    )
    keeper = LoginKeeper(host=settings.host, data_dir=settings.data_dir, login=login, fabric=fabric)
    gc.freeze()  # what is imported by now stays for good: no need to look through it again and again
    keeping = asyncio.create_task(keeper.run())
    try:
        await AgentService(parts).run()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await fabric.close()
