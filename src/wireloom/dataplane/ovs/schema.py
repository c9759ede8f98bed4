"""What we read and write of Open vSwitch's database, as a schema of its own.

A part of the full schema, kept here so that neither a file of the distribution nor a question to the server is needed
to understand the rows. Names and types are those of ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["COLUMNS", "DATABASE", "SCHEMA"]

DATABASE: Final = "Open_vSwitch"

_MAP: Final = {"key": "string", "value": "string", "min": 0, "max": "unlimited"}
_TEXT: Final = {"key": "string", "min": 0, "max": 1}
_NUMBER: Final = {"key": "integer", "min": 0, "max": 1}


def _references(table: str, least: int = 0, most: int | str = "unlimited") -> dict[str, Any]:
    return {"key": {"type": "uuid", "refTable": table}, "min": least, "max": most}


_TABLES: Final[dict[str, dict[str, Any]]] = {
    "Open_vSwitch": {
        "bridges": _references("Bridge"),
        "next_cfg": "integer",
        "cur_cfg": "integer",
        "other_config": _MAP,
        "external_ids": _MAP,
    },
    "Bridge": {
        "name": "string",
        "datapath_type": "string",
        "fail_mode": _TEXT,
        "ports": _references("Port"),
        "other_config": _MAP,
        "external_ids": _MAP,
    },
    "Port": {
        "name": "string",
        "interfaces": _references("Interface", least=1),
        "tag": _NUMBER,
        "trunks": {"key": "integer", "min": 0, "max": 4096},
        "vlan_mode": _TEXT,
        "qos": _references("QoS", most=1),
        "other_config": _MAP,
        "external_ids": _MAP,
    },
    "Interface": {
        "name": "string",
        "type": "string",
        "ofport": _NUMBER,
        "ofport_request": _NUMBER,
        "mtu_request": _NUMBER,
        "options": _MAP,
        "error": _TEXT,
        "external_ids": _MAP,
    },
    "QoS": {"type": "string", "external_ids": _MAP},
}

#: By table, the columns that are replicated.
COLUMNS: Final = {table: list(columns) for table, columns in _TABLES.items()}

SCHEMA: Final[dict[str, Any]] = {
    "name": DATABASE,
    "version": "8.0.0",
    "tables": {
        table: {"columns": {name: {"type": kind} for name, kind in columns.items()}, "isRoot": True}
        for table, columns in _TABLES.items()
    },
}
