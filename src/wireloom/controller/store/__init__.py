"""The database: the only place with SQL. Short transactions; none of them spans network I/O."""

from wireloom.controller.store.records import (
    Definitions,
    LabEdit,
    LabRecord,
    LabSnapshot,
    NodeRecord,
    OperationRecord,
    OperationTargets,
    RevisionRecord,
)
from wireloom.controller.store.repository import Store

__all__ = [
    "Definitions",
    "LabEdit",
    "LabRecord",
    "LabSnapshot",
    "NodeRecord",
    "OperationRecord",
    "OperationTargets",
    "RevisionRecord",
    "Store",
]
