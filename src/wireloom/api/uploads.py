"""Uploads by the tus protocol, version 1.0.0 (tus.io/protocols/resumable-upload), with its extensions creation,
creation-defer-length, termination, expiration and checksum.

Any client of that protocol will do, a browser's too; the SDK has its own. A complete upload becomes an image by
``POST /images/imports``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Literal, cast

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from wireloom.api.failures import ERROR_RESPONSES, error_response
from wireloom.api.routes import API_PREFIX, TheController
from wireloom.api.upload_headers import CONTINUE, CREATE, DELETE, LOOK, OPTIONS, TUS_VERSION, answers
from wireloom.controller.library.uploads import CHECKSUMS, Checksum, ChecksumMismatch, Upload, Uploads
from wireloom.errors import CapacityExceeded, Conflict, InvalidInput, NotFound, WireloomError
from wireloom.library.values import ImageRefused, Limits
from wireloom.model.images import UploadView

__all__ = ["TUS_VERSION", "upload_id_of", "upload_router"]

_EXTENSIONS: Final = "creation,creation-defer-length,termination,expiration,checksum"
_CONTENT_TYPE: Final = "application/offset+octet-stream"
_CHECKSUM_MISMATCH: Final = 460
_PATH: Final = re.compile(re.escape(API_PREFIX) + r"/uploads/([0-9a-f]{32})")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")

upload_router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES, tags=["images"])


def upload_id_of(path: str) -> str | None:
    """Which upload a request's path is about."""
    found = _PATH.fullmatch(path)
    return found[1] if found else None


@upload_router.options("/uploads", operation_id="uploadOptions", status_code=204, responses=OPTIONS)
async def options() -> Response:
    """What this server speaks."""
    return _answer(
        HTTPStatus.NO_CONTENT,
        {
            "Tus-Version": TUS_VERSION,
            "Tus-Extension": _EXTENSIONS,
            "Tus-Max-Size": str(Limits().size),
            "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
        },
    )


@upload_router.get("/uploads", operation_id="listUploads")
async def uploads(controller: TheController) -> list[UploadView]:
    """Files that were sent, or are being sent, and are no images yet; oldest first. Not of the tus protocol."""
    return [_view(upload) for upload in await controller.library.uploads.all()]


@upload_router.post(
    "/uploads",
    operation_id="createUpload",
    status_code=201,
    response_class=Response,
    openapi_extra=CREATE,
    responses=answers(201, "Location", "Upload-Expires"),
)
async def create(request: Request, controller: TheController) -> Response:
    """Begin an upload: `Upload-Length` or `Upload-Defer-Length: 1`, and `Upload-Metadata` with `filename`, and
    `sha256` if it is known. Refused where the disk has no room for it.
    """
    try:
        _check_version(request)
        uploads = controller.library.uploads
        upload_id = await uploads.create(_length(request), _metadata(request.headers.get("upload-metadata", "")))
        upload = await uploads.get(upload_id)
    except WireloomError as error:
        return _refusal(error)
    headers = {"Location": f"{API_PREFIX}/uploads/{upload_id}", **_expiry(upload)}
    return _answer(HTTPStatus.CREATED, headers)


@upload_router.head(
    "/uploads/{upload_id}",
    operation_id="lookAtUpload",
    response_class=Response,
    openapi_extra=LOOK,
    responses=answers(
        200, "Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Expires"
    ),
)
async def look(upload_id: str, request: Request, controller: TheController) -> Response:
    """How many bytes have arrived: `Upload-Offset`."""
    try:
        _check_version(request)
        upload = await controller.library.uploads.get(upload_id)
    except WireloomError as error:
        return _refusal(error)
    size = {"Upload-Defer-Length": "1"} if upload.size is None else {"Upload-Length": str(upload.size)}
    headers = {"Upload-Offset": str(upload.offset), "Cache-Control": "no-store", **size, **_expiry(upload)}
    if upload.metadata:
        headers["Upload-Metadata"] = _written(upload.metadata)
    return _answer(HTTPStatus.OK, headers)


@upload_router.patch(
    "/uploads/{upload_id}",
    operation_id="continueUpload",
    status_code=204,
    openapi_extra=CONTINUE,
    responses=answers(204, "Upload-Offset", "Upload-Expires"),
)
async def patch(upload_id: str, request: Request, controller: TheController) -> Response:
    """Add bytes at `Upload-Offset`, which must be where it ends. What has come is kept when the connection is lost."""
    try:
        _check_version(request)
        return await _written_on(controller.library.uploads, upload_id, request)
    except WireloomError as error:
        return _refusal(error)


@upload_router.delete(
    "/uploads/{upload_id}", operation_id="endUpload", status_code=204, openapi_extra=DELETE, responses=answers(204)
)
async def delete(upload_id: str, request: Request, controller: TheController) -> Response:
    """Drop an upload and what has come of it."""
    try:
        _check_version(request)
        await controller.library.uploads.delete(upload_id)
    except WireloomError as error:
        return _refusal(error)
    return _answer(HTTPStatus.NO_CONTENT, {})


@upload_router.post("/uploads/{upload_id}", include_in_schema=False)
async def overridden(upload_id: str, request: Request, controller: TheController) -> Response:
    """For clients that can only POST, as the protocol wants it."""
    method = request.headers.get("x-http-method-override", "").upper()
    if method == "PATCH":
        return await patch(upload_id, request, controller)
    if method == "DELETE":
        return await delete(upload_id, request, controller)
    return _refusal(InvalidInput("an upload is continued with PATCH"))


async def _written_on(uploads: Uploads, upload_id: str, request: Request) -> Response:
    if request.headers.get("content-type") != _CONTENT_TYPE:
        refusal = InvalidInput(f"the bytes of an upload come as {_CONTENT_TYPE}")
        return _refusal(refusal, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    offset = _number(request, "upload-offset")
    checksum = _checksum(request.headers.get("upload-checksum"))
    if "upload-length" in request.headers:
        await uploads.finish_length(upload_id, _number(request, "upload-length"))
    reached = await uploads.write(upload_id, offset, _body(request), checksum=checksum)
    upload = await uploads.get(upload_id)
    return _answer(HTTPStatus.NO_CONTENT, {"Upload-Offset": str(reached), **_expiry(upload)})


async def _body(request: Request) -> AsyncIterator[bytes]:
    """What comes, until it ends or the sender has gone."""
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        return


# --- headers ----------------------------------------------------------------------------------


class _OtherVersionError(InvalidInput):
    """The sender speaks another version of the protocol, or none."""


def _check_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != TUS_VERSION:
        raise _OtherVersionError(f"uploads speak tus {TUS_VERSION}", hint=f"send `Tus-Resumable: {TUS_VERSION}`")


def _length(request: Request) -> int | None:
    deferred = request.headers.get("upload-defer-length")
    if (deferred is None) == ("upload-length" not in request.headers):
        raise InvalidInput("say Upload-Length or Upload-Defer-Length, one of the two")
    if deferred is None:
        return _number(request, "upload-length")
    if deferred != "1":
        raise InvalidInput("Upload-Defer-Length can only be 1")
    return None


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise InvalidInput(f"{name.title()} is not a number of bytes")
    return int(text)


def _metadata(text: str) -> dict[str, str]:
    """``key base64,key base64``; a key may have no value."""
    found: dict[str, str] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        key, _, value = pair.partition(" ")
        if key in found:
            raise InvalidInput(f"Upload-Metadata has the key {key!r} twice")
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode()
        except ValueError:  # not Base64, signs beyond ASCII, or no text in it
            raise InvalidInput(f"the value of {key!r} in Upload-Metadata is not text in Base64") from None
    return found


def _written(metadata: Mapping[str, str]) -> str:
    pairs = ((key, base64.b64encode(value.encode()).decode()) for key, value in metadata.items())
    return ",".join(f"{key} {value}".rstrip() for key, value in pairs)


def _checksum(text: str | None) -> Checksum | None:
    if text is None:
        return None
    algorithm, _, encoded = text.partition(" ")
    if algorithm not in CHECKSUMS:
        raise InvalidInput(f"Upload-Checksum can be of {', '.join(CHECKSUMS)}")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except ValueError:  # also for signs beyond ASCII
        raise InvalidInput("Upload-Checksum is not in Base64") from None
    return Checksum(cast('Literal["sha1", "sha256"]', algorithm), digest)


def _view(upload: Upload) -> UploadView:
    return UploadView(
        id=upload.id,
        file=upload.file,
        size=upload.size,
        offset=upload.offset,
        job=upload.job_id or "",
        created_at=upload.created_at,
        expires_at=upload.expires_at,
    )


def _expiry(upload: Upload) -> dict[str, str]:
    return {"Upload-Expires": formatdate(upload.expires_at, usegmt=True)}


# --- answers ----------------------------------------------------------------------------------


def _answer(status: int, headers: Mapping[str, str]) -> Response:
    return Response(status_code=status, headers={"Tus-Resumable": TUS_VERSION, **headers})


def _refusal(error: WireloomError, status: int | None = None) -> Response:
    """The error as everywhere, with the status that the protocol has for it."""
    answer = error_response(error)
    answer.status_code = status or _status(error)
    answer.headers["Tus-Resumable"] = TUS_VERSION
    if isinstance(error, _OtherVersionError):
        answer.headers["Tus-Version"] = TUS_VERSION
    return answer


def _status(error: WireloomError) -> int:
    match error:
        case _OtherVersionError():
            return HTTPStatus.PRECONDITION_FAILED
        case ChecksumMismatch():
            return _CHECKSUM_MISMATCH
        case CapacityExceeded():
            return HTTPStatus.INSUFFICIENT_STORAGE
        case ImageRefused():
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        case NotFound():
            return HTTPStatus.NOT_FOUND
        case Conflict():
            return HTTPStatus.CONFLICT
        case InvalidInput():
            return HTTPStatus.BAD_REQUEST
        case _:
            return error.http_status
