"""Routes on configurations, one for each row of the table in :mod:`wireloom.model.config_views`."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Query, Response

from wireloom.api.failures import ERROR_RESPONSES
from wireloom.api.routes import API_PREFIX, TheController
from wireloom.model.config_views import (
    ActivateConfig,
    ConfigDiff,
    ConfigPolicy,
    ConfigRevisionView,
    ConfigText,
    ConfigUpload,
    ExtractRequest,
    MapConfigs,
    NodeConfigView,
    RestoreConfig,
)
from wireloom.model.views import OperationView

__all__ = ["config_router"]

config_router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES, tags=["configs"])

_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}
}
_NODE = "/labs/{lab}/nodes/{node}/configs"


@config_router.get("/configs", operation_id="listAllConfigs")
async def everything(controller: TheController) -> list[NodeConfigView]:
    """What is stored of every node, deleted ones included."""
    return await controller.configs.everything()


@config_router.get("/labs/{lab}/configs", operation_id="listConfigs")
async def of_lab(lab: str, controller: TheController) -> list[NodeConfigView]:
    """What is stored of each node of a lab, deleted ones last."""
    return await controller.configs.of_lab(lab)


@config_router.post("/labs/{lab}/configs", operation_id="extractConfigs", status_code=202)
async def extract(lab: str, body: ExtractRequest, controller: TheController) -> OperationView:
    """Read the running configurations and store what is new."""
    return await controller.config_workers.extract(lab, body)


@config_router.get("/labs/{lab}/configs.zip", operation_id="downloadConfigs", response_class=Response, responses=_ZIP)
async def archive(lab: str, controller: TheController, which: Literal["active", "latest"] = "latest") -> Response:
    """The configurations of a lab's nodes in one file."""
    content = await controller.configs.archive(lab, which)
    return Response(
        content,
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{lab}-configs.zip"'},
    )


@config_router.get("/labs/{lab}/config-policy", operation_id="getConfigPolicy")
async def policy(lab: str, controller: TheController) -> ConfigPolicy:
    """What a lab does by itself."""
    return await controller.configs.policy(lab)


@config_router.put("/labs/{lab}/config-policy", operation_id="setConfigPolicy")
async def set_policy(lab: str, body: ConfigPolicy, controller: TheController) -> ConfigPolicy:
    """Extract on a schedule, and keep so many revisions."""
    return await controller.configs.set_policy(lab, body)


@config_router.get(_NODE, operation_id="listConfigRevisions")
async def revisions(lab: str, node: str, controller: TheController) -> list[ConfigRevisionView]:
    """Revisions of a node, newest first."""
    return await controller.configs.revisions(lab, node)


@config_router.post(_NODE, operation_id="uploadConfig", status_code=201)
async def upload(lab: str, node: str, body: ConfigUpload, controller: TheController) -> ConfigRevisionView:
    """Store a text as the newest revision."""
    return await controller.configs.upload(lab, node, body)


@config_router.delete(_NODE, operation_id="forgetConfigs", status_code=204)
async def forget(lab: str, node: str, controller: TheController) -> None:
    """Delete everything that is stored of a deleted node."""
    await controller.configs.forget(lab, node)


@config_router.get(f"{_NODE}/{{which}}", operation_id="getConfig")
async def text(lab: str, node: str, which: str, controller: TheController) -> ConfigText:
    """A configuration: of a revision by number, `active`, `latest`, `startup` or `running`."""
    return await controller.configs.text(lab, node, which)


@config_router.delete(f"{_NODE}/{{revision}}", operation_id="deleteConfig", status_code=204)
async def delete(lab: str, node: str, revision: int, controller: TheController) -> None:
    """Delete a revision that is not active."""
    await controller.configs.delete(lab, node, revision)


@config_router.get("/labs/{lab}/nodes/{node}/config-diff", operation_id="diffConfigs")
async def diff(
    lab: str,
    node: str,
    controller: TheController,
    before: str = Query("active"),
    after: str = Query("running"),
) -> ConfigDiff:
    """How one configuration of a node differs from another."""
    return await controller.configs.diff(lab, node, before, after)


@config_router.post(f"{_NODE}/activate", operation_id="activateConfig")
async def activate(lab: str, node: str, body: ActivateConfig, controller: TheController) -> NodeConfigView:
    """Choose what the node's next making begins with; a running node stays as it is."""
    return await controller.configs.activate(lab, node, body.revision)


@config_router.post(f"{_NODE}/restore", operation_id="restoreConfig", status_code=202)
async def restore(lab: str, node: str, body: RestoreConfig, controller: TheController) -> OperationView:
    """Load a configuration into the running node, or make the node anew with it."""
    return await controller.config_workers.restore(lab, node, body, controller.configs)


@config_router.post(f"{_NODE}/map", operation_id="mapConfigs")
async def take_over(lab: str, node: str, body: MapConfigs, controller: TheController) -> list[ConfigRevisionView]:
    """Take over what another node has, a deleted one for instance."""
    return await controller.configs.take_over(lab, node, body)
