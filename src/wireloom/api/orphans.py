"""Routes about what lies on hosts and belongs to no lab."""

from __future__ import annotations

from fastapi import APIRouter

from wireloom.api.failures import ERROR_RESPONSES
from wireloom.api.routes import API_PREFIX, TheController
from wireloom.model.orphans import AdoptRequest, AdoptView, DiscoverView, Orphan, PruneRequest

__all__ = ["orphan_router"]

orphan_router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES, tags=["installation"])


@orphan_router.get("/discover", operation_id="discover")
async def discover(controller: TheController) -> DiscoverView:
    """What hosts have that is in no lab, what interrupted steps left, and what other installations have there."""
    return await controller.orphans.discover()


@orphan_router.post("/prune", operation_id="prune")
async def prune(body: PruneRequest, controller: TheController) -> list[Orphan]:
    """Find, and unless it is a dry run remove, what is in no lab and what interrupted steps left."""
    return await controller.orphans.prune(body)


@orphan_router.post("/adopt", operation_id="adopt")
async def adopt(body: AdoptRequest, controller: TheController) -> AdoptView:
    """Make a lab again of what hosts have of it, by its topology."""
    return await controller.adoption.adopt(body)
