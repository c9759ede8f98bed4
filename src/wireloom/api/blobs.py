"""Stored files of images, for hosts: by digest, from any byte on."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import FileResponse

from wireloom.api.failures import ERROR_RESPONSES
from wireloom.api.routes import API_PREFIX, TheController
from wireloom.errors import NotFound
from wireloom.model.images import DIGEST, check_digest

__all__ = ["blob_router", "is_blob_path"]

blob_router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES, tags=["images"])

_PATH = re.compile(re.escape(API_PREFIX) + r"/blobs/" + DIGEST.pattern)
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The part that `Range` asked for"},
}


class _BlobResponse(FileResponse):
    """In pieces that keep the disk and the network busy."""

    chunk_size = 1 << 20


def is_blob_path(path: str) -> bool:
    """Whether a request's path names a stored file."""
    return _PATH.fullmatch(path) is not None


@blob_router.head("/blobs/{digest}", include_in_schema=False)
@blob_router.get("/blobs/{digest}", operation_id="getBlob", response_class=FileResponse, responses=_FILE)
async def blob(digest: Annotated[str, Path()], controller: TheController) -> FileResponse:
    """The bytes of a stored file; what they are is told by its digest. `Range` and `If-Range` are honoured.

    Hosts show the token that they were given for it; the user's token does as well.
    """
    check_digest(digest)
    blobs = controller.library.blobs
    if not blobs.has(digest):
        raise NotFound(f"the library has no file {digest}", hint="it was deleted; look at `wireloom images`")
    headers = {"ETag": f'"{digest}"', "Cache-Control": "private, immutable"}
    return _BlobResponse(blobs.path(digest), media_type="application/octet-stream", headers=headers)
