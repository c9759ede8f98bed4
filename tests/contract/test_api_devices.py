"""Devices, and where the values of nodes come from, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_rig import Api

from wireloom.errors import InvalidInput, NotFound
from wireloom.model.device_views import DeviceFileRequest

#: FastAPI silences it while it builds a body's validator; ours are built later, at their first use.
pytestmark = pytest.mark.filterwarnings("ignore:The 'alias' attribute")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async for api in Api(tmp_path).run():
        yield api


async def test_devices_are_added_shown_hidden_and_removed(api: Api) -> None:
    text = "name: box\nhardware: {cpu: 1, memory: 256MB}\nproviders: {libvirt: {image: box.qcow2}}\n"
    client = api.client
    added = await client.add_device_file(DeviceFileRequest(text=text))
    assert (added.name, added.device is not None and added.device.origin) == ("box", "own")
    override = DeviceFileRequest(text="hardware: {cpu: 2}", kind="override", source="box.yaml")
    await client.add_device_file(override)
    details = await client.device("BOX")
    origins = {item.path: item.origin.layer for item in details.values}
    assert (details.device.cpu, origins["providers.libvirt.hardware.cpu.default"]) == (2, "override")
    assert (await client.hide_device("box")).hidden
    assert not (await client.hide_device("box", hidden=False)).hidden
    await client.remove_device_file("box", kind="override")
    assert (await client.device("box")).device.cpu == 1
    with pytest.raises(InvalidInput) as caught:
        await client.add_device_file(DeviceFileRequest(text="name: box\nproviders: 3\n", source="mine.yaml"))
    assert caught.value.details["diagnostics"][0]["file"] == "mine.yaml"
    (api.settings.paths.device_folder / "torn.yaml").write_text("a: [")
    assert await client.device_problems() == []
    assert [item.line for item in await client.device_problems(reload=True)] == [1]
    await client.remove_device_file("box")
    with pytest.raises(NotFound):
        await client.device("box")


async def test_a_node_says_where_its_values_come_from(api: Api) -> None:
    await api.deploy()
    profile = await api.client.node_profile("pair", "a")
    assert profile.host == "h1"
    assert {item.path for item in profile.values} >= {"cpu", "memory", "image", "provider"}
    with pytest.raises(NotFound):
        await api.client.node_profile("pair", "nobody")
