"""Routes on devices, one for each row of the table in :mod:`wireloom.model.device_views`."""

from __future__ import annotations

from fastapi import APIRouter

from wireloom.api.failures import ERROR_RESPONSES
from wireloom.api.routes import API_PREFIX, TheController
from wireloom.model.device_views import (
    DeviceDetails,
    DeviceFileRequest,
    DeviceFileView,
    DeviceView,
    FileKind,
    HiddenRequest,
    NodeProfile,
)
from wireloom.model.diagnostic import Diagnostic

__all__ = ["device_router"]

device_router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES, tags=["devices"])


@device_router.get("/devices", operation_id="listDevices")
async def devices(controller: TheController) -> list[DeviceView]:
    """The device catalogue, hidden devices included."""
    return controller.devices.views()


@device_router.post("/devices", operation_id="addDeviceFile")
async def add(body: DeviceFileRequest, controller: TheController) -> DeviceFileView:
    """Add a device, an override or a command line of one's own, or with `dry_run` only check it."""
    return await controller.devices.add(body)


@device_router.get("/devices/{name}", operation_id="getDevice")
async def device(name: str, controller: TheController) -> DeviceDetails:
    """Everything that is known of a device, and from where."""
    return controller.devices.details(name)


@device_router.put("/devices/{name}/hidden", operation_id="hideDevice")
async def hide(name: str, body: HiddenRequest, controller: TheController) -> DeviceView:
    """Leave a device out of lists, or put it back."""
    return await controller.devices.set_hidden(name, body.hidden)


@device_router.delete("/device-files/{kind}/{name}", operation_id="removeDeviceFile")
async def remove(kind: FileKind, name: str, controller: TheController) -> DeviceFileView:
    """Remove a device, an override or a command line of one's own; what it stood before is there again."""
    return await controller.devices.remove(name, kind)


@device_router.get("/device-problems", operation_id="listDeviceProblems")
async def problems(controller: TheController) -> list[Diagnostic]:
    """Mistakes in files of one's own, which are left out."""
    return controller.devices.problems()


@device_router.post("/device-problems", operation_id="reloadDevices")
async def reload(controller: TheController) -> list[Diagnostic]:
    """Read all device files again, and say what is wrong with them."""
    return await controller.devices.reload()


@device_router.get("/labs/{lab}/nodes/{node}", operation_id="getNodeProfile", tags=["nodes"])
async def node_profile(lab: str, node: str, controller: TheController) -> NodeProfile:
    """What a node is made of, and where each value comes from."""
    return await controller.devices.node_profile(lab, node)
