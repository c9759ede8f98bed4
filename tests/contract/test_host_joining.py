"""A real host joins a real controller over HTTP with TLS: two programs, a veth pair between them, NATS behind.

The host is a network namespace with an agent in it, on the engines of this machine; it runs no nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from wireloom.client import Client, find_endpoint
from wireloom.errors import Conflict, NotPermitted, Unauthenticated
from wireloom.fabric import nkeys
from wireloom.fabric.keys import new_seed
from wireloom.model.host_views import JoinRequest, JoinTokenRequest
from wireloom.model.views import HostView
from wireloom.paths import Paths

HERE, THERE = "198.18.77.1", "198.18.77.2"
START_S = 60.0


@dataclass(frozen=True)
class Folder:
    """Folders and settings of one program."""

    path: Path
    host: str
    settings: dict[str, str]

    @property
    def paths(self) -> Paths:
        return Paths(data_dir=self.path / "data", run_dir=self.path / "run", log_dir=self.path / "log")

    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WIRELOOM_")}
        own = {"DATA_DIR": str(self.paths.data_dir), "RUN_DIR": str(self.paths.run_dir), "HOST": self.host}
        return {**clean, **{f"WIRELOOM_{name}": value for name, value in {**own, **self.settings}.items()}}

    def start(self, *arguments: str, namespace: str = "", stdin: str = "") -> subprocess.Popen[bytes]:
        self.path.mkdir(exist_ok=True)
        inside = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
        command = [*inside, sys.executable, "-m", "wireloom.cli", *arguments]
        with (self.path / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment(), stdin=subprocess.PIPE, stdout=log, stderr=log)
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(stdin.encode())
        return process

    @property
    def log(self) -> str:
        file = self.path / "log.txt"
        return file.read_text() if file.exists() else ""


@contextlib.contextmanager
def wired(namespace: str) -> Iterator[None]:
    """A namespace, and a veth pair into it."""
    outside, inside = f"jh{namespace[-6:]}a", f"jh{namespace[-6:]}b"
    steps = (
        f"ip netns add {namespace}",
        f"ip link add {outside} type veth peer name {inside} netns {namespace}",
        f"ip address add {HERE}/30 dev {outside}",
        f"ip link set {outside} up",
        f"ip -n {namespace} address add {THERE}/30 dev {inside}",
        f"ip -n {namespace} link set {inside} up",
        f"ip -n {namespace} link set lo up",
    )
    try:
        for step in steps:
            subprocess.run(step.split(), check=True, capture_output=True, timeout=10)
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True, timeout=10)
        subprocess.run(["ip", "link", "delete", outside], check=False, capture_output=True, timeout=10)


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


@dataclass(frozen=True)
class Site:
    """A controller that others can reach, and a place where a host can be."""

    controller: Folder
    place: Folder
    namespace: str

    def client(self) -> Client:
        return Client(find_endpoint({}, self.controller.paths), timeout_s=20)

    @property
    def url(self) -> str:
        return find_endpoint({}, self.controller.paths).url

    async def token(self, host: str = "", **request: object) -> str:
        async with self.client() as client:
            made = await client.host.make_token(JoinTokenRequest.model_validate({"host": host, **request}))
        return made.token

    def as_host(self, token: str) -> Client:
        """One that has nothing but a token to join."""
        return Client(replace(find_endpoint({}, self.controller.paths), token=token), timeout_s=20)

    async def join(self, token: str, *, url: str = "") -> tuple[int, str]:
        """Have the host join, without its agent; exit code, and what was said."""
        before = len(self.place.log)
        process = self.place.start(
            "agent", "--join", "-", "--join-only", url or self.url, namespace=self.namespace, stdin=f"{token}\n"
        )
        code = await asyncio.to_thread(process.wait, START_S)
        return code, self.place.log[before:]

    async def view(self, host: str) -> HostView | None:
        async with self.client() as client:
            return next((view for view in await client.hosts() if view.host == host), None)

    async def until_alive(self, host: str) -> HostView:
        async with asyncio.timeout(START_S):
            while (view := await self.view(host)) is None or not view.alive:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
        return view


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("joining")
    namespace = f"join-{secrets.token_hex(3)}"
    here = {"LISTEN_HOST": HERE, "LISTEN_PORT": "0", "FABRIC_LISTEN": HERE}
    there = {"MANAGEMENT_SUBNET": "172.30.112.0/20", "HEARTBEAT_S": "0.5"}
    site = Site(Folder(folder / "controller", "near", here), Folder(folder / "host", "far", there), namespace)
    with wired(namespace):
        process = site.controller.start("controller")
        try:
            until = time.monotonic() + START_S
            while not site.controller.paths.controller_file.exists():
                assert process.poll() is None, site.controller.log
                assert time.monotonic() < until, site.controller.log
                time.sleep(0.1)
            yield site
        finally:
            end(process)


@pytest.fixture(scope="module")
def agent(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """The agent of a host that joined with its token on the command line, as the manual says."""
    token = asyncio.run(site.token(labels={"zone": "far"}))
    process = site.place.start("agent", "--join", token, site.url, namespace=site.namespace)
    try:
        asyncio.run(site.until_alive("far"))
        yield process
    finally:
        end(process)


@pytest.fixture
async def client(site: Site) -> AsyncIterator[Client]:
    async with site.client() as client:
        yield client


async def test_the_api_is_served_by_tls_beyond_loopback(client: Client) -> None:
    assert client.endpoint.url.startswith(f"https://{HERE}:")
    assert "BEGIN CERTIFICATE" in client.endpoint.ca
    assert (await client.status()).fabric


async def test_a_host_joins_and_tells_what_it_is(site: Site, agent: subprocess.Popen[bytes]) -> None:
    view = await site.until_alive("far")
    facts = view.facts or {}
    assert (view.labels, view.closed) == ({"zone": "far"}, "")
    assert facts["memory_free_mb"] > 0
    assert {item["name"]: item["works"] for item in facts["abilities"]}["vxlan"]
    assert [nic["addresses"] for nic in facts["nics"] if nic["name"].startswith("jh")] == [[f"{THERE}/30"]]
    assert {item["name"] for item in facts["engines"]} == {"docker", "libvirt"}
    login = site.place.paths.data_dir / "agent" / "login.json"
    assert login.stat().st_mode & 0o777 == 0o600
    assert b"wl1." not in Path(f"/proc/{agent.pid}/cmdline").read_bytes()


async def test_a_token_is_refused_the_second_time(site: Site, client: Client) -> None:
    token = await site.token()
    async with site.as_host(token) as host:
        await host.host.join(JoinRequest(host="other", public_key=_key()))
        with pytest.raises(NotPermitted, match="used up"):
            await host.host.join(JoinRequest(host="third", public_key=_key()))
    await client.host.remove("other")


async def test_a_token_that_ran_out_is_refused(site: Site, client: Client) -> None:
    token = await site.token(life_s=1)
    async with asyncio.timeout(30):
        while await client.host.tokens():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    code, said = await site.join(token)
    assert (code, "has run out" in said) == (1, True)


async def test_another_fingerprint_is_refused_and_the_tokens_secret_is_not_told(site: Site, client: Client) -> None:
    token = await site.token()
    code, said = await site.join(token[:-8] + "00000000")
    assert (code, "is not the controller that made the token" in said) == (1, True)
    assert len(await client.host.tokens()) == 1
    await client.host.revoke_token(token.split(".")[1])


async def test_a_token_is_not_sent_where_everybody_could_read_it(site: Site) -> None:
    code, said = await site.join(await site.token(), url=site.url.replace("https:", "http:"))
    assert (code, "could be read by others" in said) == (1, True)


async def test_a_name_that_is_taken_is_refused(site: Site, agent: subprocess.Popen[bytes]) -> None:
    async with site.as_host(await site.token()) as host:
        with pytest.raises(Conflict, match="a host far already"):
            await host.host.join(JoinRequest(host="far", public_key=_key()))


async def test_a_token_to_join_opens_nothing_else(site: Site) -> None:
    async with site.as_host(await site.token()) as host:
        with pytest.raises(Unauthenticated):
            await host.hosts()
        assert "BEGIN CERTIFICATE" in await host.host.authority()


async def test_a_host_changes_its_key_while_it_works(
    site: Site, client: Client, agent: subprocess.Popen[bytes]
) -> None:
    before = {key.public_key for key in (await client.host.get("far")).keys if key.revoked_at is None}
    await client.host.rotate("far")
    async with asyncio.timeout(30):
        while True:
            good = {key.public_key for key in (await client.host.get("far")).keys if key.revoked_at is None}
            if len(good) == 1 and not good & before:
                break
            await asyncio.sleep(0.2)
    assert (await site.until_alive("far")).alive


async def test_a_removed_host_is_cut_off_at_once_and_comes_back_with_a_token_for_it(
    site: Site, client: Client, agent: subprocess.Popen[bytes]
) -> None:
    await client.host.remove("far")
    async with asyncio.timeout(10):
        while "fabric.refused" not in site.place.log:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)  # three heartbeats, were they let through
    assert await site.view("far") is None
    code, said = await site.join(await site.token("far"))
    assert code == 0, said
    assert (await site.until_alive("far")).joined_at is not None
    assert agent.poll() is None


def _key() -> str:
    return nkeys.public_key(new_seed(nkeys.Kind.USER))
