"""Structured logging of the long-running processes: key=value on a terminal, JSON lines elsewhere, never a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from wireloom.settings import Settings

__all__ = ["configure", "hide_secrets"]

_SECRET_KEY: Final = re.compile(r"token|password|secret|authorization|credential|private_key|seed", re.IGNORECASE)
#: A password inside a URL, e.g. of the fabric or the database.
_URL_PASSWORD: Final = re.compile(r"(\w+://[^/\s:@]*:)[^/\s@]+@")
HIDDEN: Final = "[hidden]"
#: What asyncio says each time that the far end closes a connection that became TLS by `start_tls`; it means nothing.
_TLS_CLOSED: Final = "returning true from eof_received() has no effect when using ssl"


def configure(settings: Settings) -> None:
    """Send all logs of this process, ours and those of libraries, to stderr in one form."""
    terminal = sys.stderr.isatty() if settings.log_format == "auto" else settings.log_format == "console"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "logger", "event"], bool_as_flag=False)
        if terminal
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("httpx", "httpcore", "nats", "websockets", "asyncssh", "uvicorn.access", "aiosqlite", "alembic"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("asyncio").addFilter(_says_something)


def _says_something(record: logging.LogRecord) -> bool:
    return record.msg != _TLS_CLOSED


def hide_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank out values under tell-tale keys, and passwords inside URLs."""
    for key, value in event.items():
        if _SECRET_KEY.search(key) and value:
            event[key] = HIDDEN
        elif isinstance(value, str):
            event[key] = _URL_PASSWORD.sub(rf"\1{HIDDEN}@", value)
    return event
