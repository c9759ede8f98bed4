"""Operations that ended are written, so that it can be asked how."""

from __future__ import annotations

import structlog

from wireloom.controller.board import Board
from wireloom.controller.store import Store
from wireloom.errors import WireloomError

__all__ = ["save_operations"]

log = structlog.get_logger(__name__)


async def save_operations(board: Board, store: Store) -> None:
    """Write each as it ends, for ever."""
    while True:
        record = await board.finished.get()
        try:
            await store.save_operation(record)
        except WireloomError as error:
            # At the next start it is found running, looked at again, and ends again.
            log.warning("operation not saved", operation=record.id, error=str(error))
