"""Errors as HTTP: ``{"error": <wire form>}`` with the status of the error's class."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from wireloom.errors import InvalidInput, NotFound, NotPermitted, WireloomError

__all__ = ["ERROR_RESPONSES", "ErrorAnswer", "error_response", "install"]


class ErrorDocument(BaseModel):
    """The wire form of an error. ``code`` is stable; ``hint`` says what to do; ``node`` is whom it concerns."""

    code: str
    message: str
    hint: str = ""
    node: str | None = None
    retryable: bool = False
    details: dict[str, Any] = {}


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDocument


#: For the OpenAPI document: any route may answer with any error.
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The request cannot be carried out as it is"},
    "5XX": {"model": ErrorAnswer, "description": "The controller, a host or an engine failed"},
}


def error_response(error: WireloomError) -> JSONResponse:
    """The answer that carries ``error``."""
    headers = {"WWW-Authenticate": "Bearer"} if error.http_status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse({"error": error.to_wire()}, status_code=error.http_status, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` in the one form."""

    @app.exception_handler(WireloomError)
    async def _ours(_request: Request, error: WireloomError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [f"{_where(item['loc'])}: {item['msg']}" for item in error.errors()]
        return error_response(
            InvalidInput(
                f"the request is wrong: {'; '.join(problems)}",
                hint="the API's reference says what it takes",
                details={"problems": problems},
            )
        )

    @app.exception_handler(HTTPException)
    async def _framework(request: Request, error: HTTPException) -> JSONResponse:
        path = request.url.path
        if error.status_code == HTTPStatus.NOT_FOUND:
            return error_response(NotFound(f"there is nothing at {path}"))
        answer = NotPermitted(f"{request.method} is not possible at {path}: {error.detail}")
        return JSONResponse({"error": answer.to_wire()}, status_code=error.status_code, headers=error.headers)


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part != "body") or "body"
