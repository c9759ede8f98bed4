"""How a controller comes to its fabric, and how the agent beside it does: a private server, or somebody else's."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from wireloom.agent.login import AgentLogin
from wireloom.controller_fabric import ControllerSide, controller_fabric
from wireloom.errors import InvalidInput, NotFound, Unauthenticated, Unsupported
from wireloom.fabric.authority import fingerprint
from wireloom.fabric.connection import Fabric
from wireloom.fabric.deployment import Deployment, write_deployment
from wireloom.fabric.keys import FabricKeys
from wireloom.fabric.subjects import agent_user
from wireloom.settings import Settings


class Ring:
    def __init__(self) -> None:
        self.gone: set[str] = set()

    async def revoked(self) -> set[str]:
        return self.gone

    async def admit(self, host: str, public_key: str) -> None: ...

    async def settle(self, host: str, public_key: str) -> None: ...


def settings_in(folder: Path, **more: object) -> Settings:
    return Settings(data_dir=folder / "data", run_dir=folder / "run", log_dir=folder / "log", host="h1", **more)  # type: ignore[arg-type]


@asynccontextmanager
async def introduced(settings: Settings, ring: Ring | None = None) -> AsyncIterator[tuple[ControllerSide, AgentLogin]]:
    """A controller's side, and the login that the agent beside it finds."""
    async with controller_fabric(settings) as side:
        if side.logins is not None:
            await side.logins.start(ring or Ring())
        try:
            await side.introduce("i1")
            login = AgentLogin.load(settings.data_dir)
            assert login is not None
            yield side, login
        finally:
            if side.logins is not None:
                await side.logins.stop()


async def comes_in(login: AgentLogin) -> None:
    fabric = await Fabric.connect(login.urls, name="agent", login=login.login, ca=login.ca, creates_stores=False)
    await fabric.close()


class TestIntroduction:
    async def test_the_agent_beside_a_controller_keeps_its_login_over_restarts(self, tmp_path: Path) -> None:
        settings = settings_in(tmp_path)
        async with introduced(settings) as (_, first):
            await comes_in(first)
            assert first.login.user == agent_user("h1")
        async with introduced(settings) as (_, second):
            assert second == first
            await comes_in(second)

    async def test_it_gets_a_new_one_when_its_own_is_revoked_or_of_other_keys(self, tmp_path: Path) -> None:
        settings, ring = settings_in(tmp_path), Ring()
        async with introduced(settings, ring) as (_, first):
            ring.gone.add(first.login.public_key)
        async with introduced(settings, ring) as (_, second):
            assert second.login.public_key != first.login.public_key
            await comes_in(second)
        FabricKeys.new().save(settings.fabric_key_file)  # other keys: none of these logins is good any more
        async with introduced(settings, ring) as (_, third):
            assert third.login.public_key != second.login.public_key
            await comes_in(third)

    async def test_a_password_of_an_earlier_version_is_replaced(self, tmp_path: Path) -> None:
        settings = settings_in(tmp_path)
        AgentLogin("i1", ("nats://127.0.0.1:1",), "agent-h1", "password").save(settings.data_dir)
        async with introduced(settings) as (_, login):
            assert not login.password
            await comes_in(login)


class TestPlaces:
    async def test_on_loopback_another_host_is_told_why_it_cannot_come(self, tmp_path: Path) -> None:
        async with introduced(settings_in(tmp_path)) as (side, _):
            assert side.logins is not None
            with pytest.raises(Unsupported, match="loopback"):
                await side.logins.place(seen_as="lab.example")
            place = await side.logins.place(seen_as="127.0.0.1")
            assert place.urls[0].startswith("nats://127.0.0.1:")
            assert (await side.logins.place()).urls == ()

    async def test_beyond_loopback_hosts_go_where_they_reached_the_controller(self, tmp_path: Path) -> None:
        async with introduced(settings_in(tmp_path, fabric_listen="0.0.0.0")) as (side, login):  # noqa: S104
            assert side.logins is not None
            place = await side.logins.place(seen_as="localhost")
            assert place.urls[0].startswith("tls://localhost:")
            assert fingerprint(place.ca) == fingerprint(login.ca)
            await comes_in(replace(login, urls=place.urls))

    async def test_names_in_the_settings_come_first(self, tmp_path: Path) -> None:
        settings = settings_in(tmp_path, fabric_listen="0.0.0.0", fabric_names="a.example, fd00::1")  # noqa: S104
        async with introduced(settings) as (side, _):
            assert side.logins is not None
            place = await side.logins.place(seen_as="elsewhere")
            assert [url.rsplit(":", 1)[0] for url in place.urls] == ["tls://a.example", "tls://[fd00::1]"]


@asynccontextmanager
async def running(configuration: Path) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        "nats-server", "-c", str(configuration), "-l", str(configuration.with_suffix(".log"))
    )
    try:
        await asyncio.sleep(1)
        yield
    finally:
        process.kill()
        await process.wait()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestExistingServers:
    async def test_servers_that_trust_our_keys(self, tmp_path: Path) -> None:
        deployment = Deployment(servers=(f"127.0.0.1:{free_port()}",), listen="127.0.0.1", store=tmp_path / "store")
        written = write_deployment(tmp_path / "config", deployment)
        settings = settings_in(
            tmp_path, fabric_url=",".join(written.urls), fabric_keys=written.keys, fabric_ca=written.ca
        )
        async with running(written.configurations[0]), introduced(settings) as (side, login):
            await comes_in(login)
            assert side.logins is not None
            assert (await side.logins.place(seen_as="anything")).urls == written.urls
            with pytest.raises(Unauthenticated):
                await comes_in(replace(login, ca=write_deployment(tmp_path / "other", deployment).ca.read_text()))

    async def test_servers_with_passwords_have_no_logins_of_ours(self, tmp_path: Path) -> None:
        port = free_port()
        configuration = tmp_path / "plain.conf"
        configuration.write_text(
            f'host: 127.0.0.1\nport: {port}\nmax_payload: 8388608\njetstream {{ store_dir: "{tmp_path}/store" }}\n'
            'authorization { users = [ { user: "wireloom", password: "secret" } ] }\n'
        )
        settings = settings_in(
            tmp_path,
            fabric_url=f"nats://127.0.0.1:{port}",
            fabric_user="wireloom",
            fabric_password=SecretStr("secret"),
        )
        async with running(configuration), introduced(settings) as (side, login):
            assert side.logins is None
            assert stat.S_IMODE(AgentLogin.path(settings.data_dir).stat().st_mode) == 0o600
            await comes_in(login)

    async def test_missing_keys_and_certificates_are_said(self, tmp_path: Path) -> None:
        missing = settings_in(tmp_path, fabric_url="tls://127.0.0.1:1", fabric_keys=tmp_path / "no")
        with pytest.raises(NotFound):
            async with controller_fabric(missing):
                pass
        with pytest.raises(InvalidInput):
            async with controller_fabric(settings_in(tmp_path, fabric_url="tls://x:1", fabric_ca=tmp_path / "no")):
                pass
