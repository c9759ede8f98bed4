"""A replica of Open vSwitch's database, and transactions on it. Blocking: for the data plane's worker thread."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ovs.poller
from ovs.db.idl import Idl, SchemaHelper, Transaction

from wireloom.dataplane.ovs.daemon import START_HINT, daemon_id, require_daemon
from wireloom.dataplane.ovs.schema import COLUMNS, SCHEMA
from wireloom.errors import DataPlaneFailed, DeadlineExceeded, Unavailable

__all__ = ["Database"]

#: Adding a port takes the userspace datapath some milliseconds.
_DEADLINE_S: Final = 45.0
_CONNECT_S: Final = 5.0


class Database:
    """One connection, made when it is first needed and again when the server has gone.

    Rows are the library's own: a column is an attribute, a reference another row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._idl: Any = None
        self._met: int | None = None

    @property
    def is_there(self) -> bool:
        """Whether a database server has been started on this host."""
        return self._socket.is_socket()

    @property
    def daemon_runs(self) -> bool:
        """Whether ovs-vswitchd runs and does what the database says."""
        return daemon_id(self.folder) is not None

    @property
    def _socket(self) -> Path:
        return self.folder / "db.sock"

    def close(self) -> None:
        if self._idl is not None:
            self._idl.close()
            self._idl = None

    def refresh(self) -> None:
        """Take in what others have changed. :raises Unavailable: the server does not run."""
        if not self.is_there:
            raise Unavailable("the database of Open vSwitch does not run", hint=START_HINT)
        if self._idl is None:
            helper = SchemaHelper(schema_json=copy.deepcopy(SCHEMA))
            for table, columns in COLUMNS.items():
                helper.register_columns(table, columns)
            self._idl = Idl(f"unix:{self._socket}", helper, probe_interval=0)
        self._settle()
        if not self.rows("Open_vSwitch"):
            raise Unavailable("the database of Open vSwitch is empty", hint=START_HINT)
        self._meet_daemon()

    def _meet_daemon(self) -> None:
        """One that has just been started makes all bridges and ports before it carries out a change: wait for that."""
        process = daemon_id(self.folder)
        if process is not None and process != self._met:
            with self.change("meet ovs-vswitchd"):
                pass
            self._met = process

    def _settle(self) -> None:
        """Read until nothing is waiting; after a loss of the server, until the replica is whole again."""
        self._until(self._is_whole, _CONNECT_S, "the database of Open vSwitch does not answer")
        while self._idl.run():
            pass

    def _is_whole(self) -> bool:
        # The library keeps what it has read when a connection is lost, and has no other way to ask for it.
        connected = self._idl._session.is_connected()  # noqa: SLF001
        return bool(connected and self._idl.state == Idl.IDL_S_MONITORING)

    def rows(self, table: str) -> list[Any]:
        """All rows of ``table``, as of the last :meth:`refresh` or transaction."""
        return list(self._idl.tables[table].rows.values())

    def table(self, name: str) -> Any:
        """A table, for a transaction's ``insert``."""
        return self._idl.tables[name]

    @property
    def root(self) -> Any:
        """The one row of table ``Open_vSwitch``."""
        return self.rows("Open_vSwitch")[0]

    @contextmanager
    def change(self, purpose: str, *, wait: bool = True) -> Iterator[Any]:
        """A transaction: all that the block changes, or nothing where it raises.

        :param purpose: goes into the database's log. ``wait`` until ovs-vswitchd has carried it out.
        :raises DataPlaneFailed: the database refused. :raises DeadlineExceeded: no answer.
        :raises Unavailable: ovs-vswitchd does not run, and is to be waited for.
        """
        if wait:
            require_daemon(self.folder)
        transaction = Transaction(self._idl)
        try:
            yield transaction
        except BaseException:
            transaction.abort()
            raise
        transaction.add_comment(f"wireloom: {purpose}")
        root = self.root
        if wait:
            root.increment("next_cfg")
        status = self._commit(transaction)
        if status == Transaction.UNCHANGED:
            return
        if status != Transaction.SUCCESS:
            raise DataPlaneFailed(
                f"Open vSwitch's database refused to {purpose}: {transaction.get_error()}",
                details={"operation": purpose, "errno": "", "device": ""},
            )
        if wait:
            self._await_daemon(transaction.get_increment_new_value())

    def _commit(self, transaction: Any) -> str:
        status = transaction.commit()

        def ended() -> bool:
            nonlocal status
            status = transaction.commit()
            return bool(status != Transaction.INCOMPLETE)

        if status == Transaction.INCOMPLETE:
            self._until(ended, _DEADLINE_S, "the database of Open vSwitch does not answer")
        return str(status)

    def _await_daemon(self, configuration: int) -> None:
        self._until(
            lambda: bool(self.rows("Open_vSwitch")) and self.root.cur_cfg >= configuration,
            _DEADLINE_S,
            "ovs-vswitchd did not carry out a change",
        )

    def _until(self, reached: Callable[[], bool], limit_s: float, complaint: str) -> None:
        deadline = time.monotonic() + limit_s
        while True:
            self._idl.run()
            if reached():
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(f"{complaint} in {limit_s:g} s", hint=START_HINT)
            poller = ovs.poller.Poller()
            self._idl.wait(poller)
            poller.timer_wait(max(1, int(left * 1000)))
            poller.block()
