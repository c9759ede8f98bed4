"""Configurations through API, SDK and command line, over real HTTP, on a controller with a memory fabric."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from config_rig import FIRST, SECOND, TOPOLOGY, Routers
from test_api import Api

from wireloom.cli.main import app
from wireloom.errors import Conflict, InvalidInput, NotFound
from wireloom.model.config_views import ConfigPolicy, MapConfigs
from wireloom.model.views import DeployRequest, OperationState

#: FastAPI silences it while it builds a body's validator; ours are built later, at their first use.
pytestmark = pytest.mark.filterwarnings("ignore:The 'alias' attribute")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async for made in Api(tmp_path).run():
        yield made


@pytest.fixture
async def routers(api: Api) -> Routers:
    made = Routers(api.host)
    await made.serve()
    await api.client.wait(await api.client.deploy(DeployRequest(topology=TOPOLOGY)), timeout_s=5)
    return made


async def extracted(api: Api, *nodes: str) -> None:
    await api.client.wait(await api.client.configs.extract("pair", nodes), timeout_s=5)


async def cli(api: Api, *arguments: str, given: str | None = None) -> Result:
    """Run a command as a user would, in a thread: it has an event loop of its own."""
    endpoint = api.client.endpoint
    environment = {"WIRELOOM_URL": endpoint.url, "WIRELOOM_TOKEN": endpoint.token}
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), input=given, env=environment)


# -------------------------------------------------------------------- API and SDK


async def test_a_configuration_lives_from_extract_to_deletion(api: Api, routers: Routers) -> None:
    configs = api.client.configs
    operation = await api.client.wait(await configs.extract("pair", note="first"), timeout_s=5)
    assert (operation.goal, operation.state, operation.done) == ("configured", OperationState.DONE, 2)
    assert [(view.node, view.active) for view in await configs.of_lab("pair")] == [("a", 1), ("b", 1), ("host", None)]
    found = await configs.text("pair", "a")
    assert (found.text, found.revision and found.revision.note) == (FIRST, "first")
    routers.running["a"] = SECOND
    assert "+ip domain name x" in (await configs.diff("pair", "a", "active", "running")).diff
    await extracted(api, "a")
    assert [item.number for item in await configs.revisions("pair", "a")] == [2, 1]
    assert (await configs.activate("pair", "a", 1)).active == 1
    await configs.delete("pair", "a", 2)
    assert [item.number for item in await configs.revisions("pair", "a")] == [1]
    with pytest.raises(Conflict, match="active"):
        await configs.delete("pair", "a", 1)
    with zipfile.ZipFile(io.BytesIO(await configs.archive("pair"))) as archive:
        assert archive.read("pair/a.cfg").decode() == FIRST


async def test_a_configuration_is_uploaded_restored_and_taken_over(api: Api, routers: Routers) -> None:
    configs = api.client.configs
    uploaded = await configs.upload("pair", "b", "hostname up\r\n", note="mine")
    assert (uploaded.number, uploaded.origin, uploaded.active, uploaded.size) == (1, "upload", True, 12)
    await api.client.wait(await configs.restore("pair", "b", "1"), timeout_s=5)
    assert routers.loaded == [("b", "hostname up\n")]
    taken = await configs.take_over("pair", "a", MapConfigs(source_node="b", revision=1))
    assert [(item.number, item.who) for item in taken] == [(1, "pair/b revision 1")]
    assert {view.node for view in await configs.everything()} == {"a", "b", "host"}


async def test_policies_and_mistakes_come_through(api: Api, routers: Routers) -> None:
    configs = api.client.configs
    assert await configs.policy("pair") == ConfigPolicy()
    policy = ConfigPolicy(extract_every_s=3600, keep=5)
    assert await configs.set_policy("pair", policy) == policy
    assert await configs.policy("pair") == policy
    with pytest.raises(InvalidInput):
        await configs.text("pair", "a", "yesterday" if await _stored(api) else "1")
    with pytest.raises(NotFound):
        await configs.of_lab("nobody")
    with pytest.raises(NotFound):
        await configs.forget("pair", "nobody")


async def _stored(api: Api) -> bool:
    await extracted(api, "a")
    return True


# -------------------------------------------------------------------- command line


async def test_extracting_tells_progress_and_shows_what_is_stored(api: Api, routers: Routers) -> None:
    result = await cli(api, "configs", "extract", "pair")
    assert result.exit_code == 0, result.output
    assert "extract pair: 2 of 2" in result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:4] == ["NODE", "DEVICE", "ACTIVE", "BY"]
    assert [line[:4] for line in lines[1:]] == [
        ["a", "cisco_iosv", "1", "extract"],
        ["b", "cisco_iosv", "1", "extract"],
    ]


async def test_a_failure_says_what_each_channel_said(api: Api, routers: Routers) -> None:
    del routers.running["a"]
    result = await cli(api, "save", "pair", "a")
    assert result.exit_code == 1
    assert "error: a: no channel gave a configuration" in result.stderr
    assert "serial: silent" in result.stderr
    result = await cli(api, "configs", "extract", "pair", "a", "--json")
    assert json.loads(result.stdout)["errors"][0]["node"] == "a"


async def test_what_is_stored_is_listed_shown_and_compared(api: Api, routers: Routers) -> None:
    await extracted(api)
    routers.running["a"] = SECOND
    await extracted(api)
    result = await cli(api, "configs", "list", "pair", "a")
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [["2", "yes"], ["1", "-"]]
    assert (await cli(api, "configs", "show", "pair", "a", "1")).stdout == FIRST
    result = await cli(api, "configs", "diff", "pair", "a", "1", "active", "--exit-code")
    assert (result.exit_code, "+ip domain name x" in result.stdout) == (2, True)
    result = await cli(api, "configs", "diff", "pair", "a")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no difference" in result.stderr
    assert [view["node"] for view in json.loads((await cli(api, "configs", "list", "--json")).stdout)] == [
        "a", "b", "host",
    ]  # fmt: skip


async def test_choices_are_made_and_said(api: Api, routers: Routers, tmp_path: Path) -> None:
    await extracted(api)
    file = tmp_path / "new.cfg"
    file.write_text("hostname new\n")
    assert "a: revision 2, active, 13 bytes" in (await cli(api, "configs", "upload", "pair", "a", str(file))).stdout
    assert "revision 1 is used when it is next made" in (await cli(api, "configs", "activate", "pair", "a", "1")).stdout
    assert "startup-config is used" in (await cli(api, "configs", "activate", "pair", "a", "--none")).stdout
    assert (await cli(api, "configs", "activate", "pair", "a")).exit_code == 1
    assert (await cli(api, "configs", "upload", "pair", "a", "-", given="hostname in\n")).exit_code == 0
    assert "restore pair a: done" in (await cli(api, "configs", "restore", "pair", "a", "2")).stdout
    assert routers.loaded == [("a", "hostname new\n")]
    assert "restore pair a: done" in (await cli(api, "configs", "restore", "pair", "a", "1", "--reboot", "-y")).stdout
    assert "taken over from a as" in (await cli(api, "configs", "map", "pair", "b", "a", "--activate")).stdout
    refused = await cli(api, "configs", "delete", "pair", "a", "2", "77", "-y")
    assert (refused.exit_code, "no revision 77; nothing is deleted" in refused.stderr) == (1, True)
    assert "revision 2 deleted" in (await cli(api, "configs", "delete", "pair", "a", "2", "-y")).stdout
    assert (await cli(api, "configs", "delete", "pair", "a", "-y")).exit_code == 1


async def test_deleted_nodes_are_left_out_of_the_list_and_it_says_so(api: Api, routers: Routers) -> None:
    await extracted(api)
    await api.client.wait(await api.client.destroy("pair"), timeout_s=5)
    result = await cli(api, "configs", "list")
    assert "left out: 2 deleted nodes" in result.stderr
    assert "deleted (" in (await cli(api, "configs", "list", "--all")).stdout


async def test_a_lab_is_downloaded_to_a_private_file(api: Api, routers: Routers, tmp_path: Path) -> None:
    await extracted(api)
    file = tmp_path / "lab.zip"
    result = await cli(api, "configs", "download", "pair", "-o", str(file))
    assert result.exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert zipfile.is_zipfile(file)
    assert "cannot be written" in (await cli(api, "configs", "download", "pair", "-o", "/nowhere/x.zip")).stderr


async def test_policies_are_set_and_shown(api: Api, routers: Routers) -> None:
    assert "read by schedule: never" in (await cli(api, "configs", "schedule", "pair")).stdout
    assert "every 6h00m" in (await cli(api, "configs", "schedule", "pair", "--every", "6h")).stdout
    result = await cli(api, "configs", "retention", "pair", "--keep", "3", "--days", "30")
    assert "the newest 3; others for: 30 days" in result.stdout
    assert "every 6h00m" in result.stdout
    assert "never" in (await cli(api, "configs", "schedule", "pair", "--off")).stdout
    assert "not an interval" in (await cli(api, "configs", "schedule", "pair", "--every", "soon")).stderr
    assert "at least 60 s" in (await cli(api, "configs", "schedule", "pair", "--every", "5s")).stderr
