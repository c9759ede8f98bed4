"""NATS servers by TLS, and several of them: who is trusted, and what outlives the loss of one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fabric_rig import Collector, eventually, rig
from fabric_site import Ring, Site, a_slice, cut_off, site_at, stored

from wireloom.errors import Unauthenticated
from wireloom.fabric import nkeys
from wireloom.fabric.authority import Authority, names_of
from wireloom.fabric.connection import Fabric
from wireloom.fabric.deployment import Deployment, write_deployment
from wireloom.fabric.documents import ExecQuestion
from wireloom.fabric.keys import FabricKeys, new_seed
from wireloom.fabric.login import Login
from wireloom.fabric.logins import SignedLogins
from wireloom.fabric.server import NatsServer

QUESTION = ExecQuestion(lab_id="l1", node_id="n1", command=("true",))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_at(tmp_path / "nats") as made:
        yield made


class TestTls:
    async def test_beyond_loopback_only_who_knows_the_authority_connects(self, tmp_path: Path) -> None:
        server = NatsServer(tmp_path / "nats", listen="0.0.0.0")  # noqa: S104
        await server.start()
        try:
            login = server.controller
            assert server.url.startswith("tls://127.0.0.1:")
            fabric = await Fabric.connect(server.url, name="c", login=login, ca=server.ca)
            await fabric.put_intent("h1", a_slice(1))
            await fabric.close()
            stranger = Authority(tmp_path / "other").certificate
            for ca in (stranger, ""):  # the second: what the machine trusts
                with pytest.raises(Unauthenticated, match="not trusted"):
                    await Fabric.connect(server.url, name="c", login=login, ca=ca, timeout_s=5)
        finally:
            await server.stop()

    async def test_a_server_without_tls_is_told_nothing(self, site: Site) -> None:
        """Somebody in between who hides that the server asks for TLS."""
        login = await site.login("h1")
        url = site.rig.server.url.replace("nats://", "tls://")
        ca = Authority(site.rig.folder / "other").certificate
        with pytest.raises(Unauthenticated, match="does not offer TLS"):
            await Fabric.connect(url, name="x", login=login, ca=ca, creates_stores=False, timeout_s=5)

    async def test_a_name_by_which_hosts_come_is_in_the_certificate_at_once(self, tmp_path: Path) -> None:
        server = NatsServer(tmp_path / "nats", listen="0.0.0.0")  # noqa: S104
        await server.start()
        try:
            fabric = await Fabric.connect(server.url, name="c", login=server.controller, ca=server.ca)
            assert "lab.example" not in await presented_names(server)
            await server.reached_as("lab.example")

            async def named() -> bool:
                return "lab.example" in await presented_names(server)

            await eventually(named)
            assert fabric.connected
            await fabric.put_intent("h1", a_slice(1))
            await fabric.close()
        finally:
            await server.stop()

    async def test_a_reload_forgets_no_revocation(self, tmp_path: Path) -> None:
        async with rig(tmp_path / "nats") as fabric:
            site = Site(fabric)
            await site.logins.start(site.ring)
            old, new = await site.login("h1"), await site.login("h1")
            await site.revoke(old)
            fabric.server._reload()
            await asyncio.sleep(0.5)
            assert await site.refused(old)
            assert not await site.refused(new)
            await site.revoke(new)
            assert await site.refused(new)
            await site.logins.stop()


async def presented_names(server: NatsServer) -> set[str]:
    """The names in the certificate that the server shows now."""
    from cryptography import x509

    context = ssl.create_default_context(cadata=server.ca)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    try:
        await reader.readline()
        await writer.start_tls(context, server_hostname="127.0.0.1")
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return names_of(x509.load_der_x509_certificate(shown))
    finally:
        writer.close()


class TestSeveralServers:
    async def test_a_cluster_outlives_a_server_and_revokes_everywhere(self, tmp_path: Path) -> None:
        ports = free_ports(6)
        deployment = Deployment(
            servers=tuple(f"127.0.0.1:{port}" for port in ports[:3]),
            cluster_port=ports[3],
            listen="127.0.0.1",
            store=tmp_path / "store",
        )
        written = write_deployment(tmp_path / "config", deployment)
        servers = [await started(path) for path in written.configurations]
        keys, ca = FabricKeys.load(written.keys), written.ca.read_text()
        logins, ring = SignedLogins(keys, urls=written.urls, ca=ca), Ring()
        seeds = [new_seed(nkeys.Kind.USER) for _ in range(2)]
        one, two = (Login.signed(logins.sign("h1", nkeys.public_key(seed)), seed) for seed in seeds)
        opened: list[Fabric] = []

        async def connect(login: Login, *urls: str) -> Fabric:
            fabric = await Fabric.connect(
                urls or written.urls, name="a", login=login, ca=ca, creates_stores=False, timeout_s=20
            )
            opened.append(fabric)
            return fabric

        async def all_connected() -> bool:
            return all(fabric.connected for fabric in opened)

        try:
            for url in written.urls:
                await connect(one, url)
            await logins.start(ring)
            anywhere = await connect(two)
            ring.gone.add(one.public_key)
            await logins.enforce()
            for fabric in opened[:3]:
                await eventually(lambda fabric=fabric: cut_off(fabric))
            del opened[:3]
            controller = await Fabric.connect(
                written.urls, name="c", login=keys.controller_login, ca=ca, replicas=3, timeout_s=20
            )
            opened.append(controller)
            await stored(controller, a_slice(1))
            watch = Collector(anywhere.watch_intents("h1"))
            await watch.until(bool)
            for index in range(2):
                servers[index].kill()
                await servers[index].wait()
                await eventually(all_connected, timeout_s=15)
                await stored(controller, a_slice(2 + index))
                await watch.until(lambda seen, index=index: seen[-1].value.generation == 2 + index, timeout_s=30)
                servers[index] = await started(written.configurations[index])
                await asyncio.sleep(2)  # the others take it in again before the next one goes
            await watch.close()
        finally:
            for fabric in opened:
                await fabric.close()
            await logins.stop()
            for server in servers:
                if server.returncode is None:
                    server.kill()
                    await server.wait()


def free_ports(count: int) -> list[int]:
    """Neighbouring ports that nobody uses now."""
    import random
    import socket

    for _ in range(100):
        first = random.randrange(20_000, 30_000)  # noqa: S311
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return list(range(first, first + count))
    raise AssertionError("no free ports")


async def started(configuration: Path) -> asyncio.subprocess.Process:
    log = configuration.with_suffix(".log")
    return await asyncio.create_subprocess_exec("nats-server", "-c", str(configuration), "-l", str(log))
