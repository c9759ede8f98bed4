"""The API by TLS: which certificate, WebSockets, downloads of agents, and what needs no token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from api_rig import Api

from wireloom.agent.library import ControllerWay
from wireloom.agent.library.http import LostError, ThreadedHttp
from wireloom.api import create_app
from wireloom.client import Client, find_endpoint
from wireloom.controller.api_tls import prepare_tls
from wireloom.controller.service import ControllerService
from wireloom.devices import DeviceFolder
from wireloom.errors import InvalidInput, Unavailable
from wireloom.fabric.authority import Authority, fingerprint
from wireloom.paths import ENV_CA, ENV_TOKEN, ENV_URL
from wireloom.settings import Settings


class TlsApi(Api):
    """One that is served by TLS, on loopback all the same."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = self.settings.model_copy(update={"tls": "on"})
        self.service = ControllerService(
            self.settings,
            fabric=self.fabric,
            make_app=create_app,
            devices=DeviceFolder(self.settings.paths.device_folder),
            settings_schemas={},
        )


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async for api in TlsApi(tmp_path).run():
        yield api


async def test_a_client_on_the_machine_finds_the_address_and_whom_to_trust(api: Api) -> None:
    assert api.client.endpoint.url.startswith("https://127.0.0.1:")
    assert [host.host for host in await api.client.hosts()] == ["h1"]
    async with aclosing(api.client.stream()) as messages:
        assert (await anext(messages)).type == "host"


async def test_a_client_elsewhere_names_whom_to_trust(api: Api, tmp_path: Path) -> None:
    endpoint = api.client.endpoint
    async with Client(replace(endpoint, ca=""), timeout_s=5) as stranger:
        with pytest.raises(Unavailable, match="none that we trust"):
            await stranger.status()
        with pytest.raises(Unavailable, match="none that we trust"):
            await anext(stranger.stream())
        assert (await httpx_get(endpoint.url, endpoint.ca, "/ca")).text == endpoint.ca
    file = tmp_path / "ca.pem"
    file.write_text(endpoint.ca)
    environment = {ENV_URL: endpoint.url, ENV_TOKEN: endpoint.token, ENV_CA: str(file)}
    async with Client(find_endpoint(environment), timeout_s=5) as client:
        assert (await client.status()).fabric
    with pytest.raises(InvalidInput, match="cannot be read"):
        find_endpoint({**environment, ENV_CA: str(tmp_path / "none")})


async def httpx_get(url: str, ca: str, path: str, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(verify=ControllerWay(ca=ca).trust(), trust_env=False) as http:
        return await http.request(method, f"{url}/api/v1{path}")


async def test_only_two_things_need_no_token(api: Api) -> None:
    endpoint = api.client.endpoint
    answers = {
        (method, path): (await httpx_get(endpoint.url, endpoint.ca, path, method)).status_code
        for method, path in (("GET", "/health"), ("GET", "/ca"), ("POST", "/health"), ("GET", "/hosts"))
    }
    assert list(answers.values()) == [200, 200, 401, 401]


async def test_who_knocks_without_a_token_is_not_listened_to_for_long(api: Api) -> None:
    endpoint = api.client.endpoint
    url = f"{endpoint.url}/api/v1/hosts/join"
    async with httpx.AsyncClient(verify=ControllerWay(ca=endpoint.ca).trust(), trust_env=False) as http:
        assert (await http.post(url, content=b"{}")).status_code == 401
        knocking = {"Authorization": "Bearer wl1.x"}
        assert (await http.post(url, content=b"x" * 20_000, headers=knocking)).status_code == 422
        assert (await http.post(url, content=_endless(), headers=knocking)).status_code == 422


async def _endless() -> AsyncIterator[bytes]:
    yield b"{"


async def test_an_agent_elsewhere_reads_files_by_the_address_and_the_authority_by_which_it_joined(api: Api) -> None:
    endpoint = api.client.endpoint
    way = ControllerWay(endpoint.url, endpoint.ca)
    told = "http://127.0.0.1:1/api/v1/health"
    trusting, distrusting = ThreadedHttp(1, way.trust), ThreadedHttp(1)
    try:
        async with trusting.get(way.reach(told), {}) as answer:
            assert answer.status == 200
        with pytest.raises(LostError, match=r"(?i)certificate"):
            async with distrusting.get(way.reach(told), {}):
                pass
    finally:
        await trusting.close()
        await distrusting.close()


def test_a_certificate_of_the_users_own_is_served_and_judged_by_what_machines_trust(tmp_path: Path) -> None:
    mine = Authority(tmp_path / "mine").ensure_server(["c.example.net"])
    settings = Settings(data_dir=tmp_path, tls="on", tls_certificate=mine.chain, tls_key=mine.key)
    tls = prepare_tls(settings)
    assert tls is not None
    assert (tls.certificate, tls.ca) == (mine, "")
    with pytest.raises(InvalidInput, match="go together"):
        prepare_tls(settings.model_copy(update={"tls_key": None}))
    with pytest.raises(InvalidInput, match="no file"):
        prepare_tls(settings.model_copy(update={"tls_key": tmp_path / "none"}))


def test_the_authority_is_made_once_and_its_certificates_name_what_is_asked_for(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, tls="on", api_names="a.example.net, 192.0.2.9", api_url="https://b.example.net"
    )
    first, second = prepare_tls(settings), prepare_tls(settings)
    assert first is not None
    assert second is not None
    assert fingerprint(first.ca) == fingerprint(second.ca)
    text = first.certificate.chain.read_text()
    assert prepare_tls(settings) is not None
    assert first.certificate.chain.read_text() == text


@pytest.mark.parametrize(
    ("listen", "tls", "served"),
    [("127.0.0.1", "auto", False), ("::1", "auto", False), ("0.0.0.0", "auto", True), ("192.0.2.1", "off", False)],  # noqa: S104
)
def test_tls_is_on_beyond_loopback_unless_somebody_says_otherwise(listen: str, tls: str, served: bool) -> None:
    assert Settings.model_validate({"listen_host": listen, "tls": tls}).serves_tls is served
