"""Intents of a schema that this agent does not know: they are told of, and what runs goes on as it was."""

from __future__ import annotations

from typing import Final

import structlog

from wireloom.model.slice import SLICE_SCHEMA, Slice

__all__ = ["LaterIntents"]

log: Final = structlog.get_logger(__name__)


class LaterIntents:
    """By lab id. Half an understanding of an intent would be worse than none."""

    def __init__(self) -> None:
        self._refused: dict[str, str] = {}

    def take(self, lab_id: str, document: Slice | None) -> bool:
        """Whether the agent can go by ``document``; ``None``: the lab has gone."""
        if document is None or document.schema_version <= SLICE_SCHEMA:
            self._refused.pop(lab_id, None)
            return True
        if lab_id not in self._refused:
            log.warning("an intent of a later version", lab=document.lab, schema=document.schema_version)
        self._refused[lab_id] = (
            f"lab {document.lab} is asked for in a form (schema {document.schema_version}) that this agent does not"
            " know; what it has of the lab stays as it is: upgrade this host"
        )
        return False

    @property
    def problems(self) -> tuple[str, ...]:
        """For people, one for each lab."""
        return tuple(self._refused[lab_id] for lab_id in sorted(self._refused))
