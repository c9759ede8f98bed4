"""Captures through the API: ``client.captures``."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from urllib.parse import quote

from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from wireloom.client.calls import Calls
from wireloom.errors import Unavailable, from_wire
from wireloom.model.capture import CaptureMessage, CaptureOptions

if TYPE_CHECKING:
    from wireloom.client.transport import Query

__all__ = ["Captures"]


class Captures(Calls):
    """Calls on captures; errors as of :class:`~wireloom.client.client.Client`.

    What is captured is named as a port (``r1:eth1``), a link (``r1:eth1 -- r2:eth1``) or a segment.
    """

    def read(self, lab: str, of: str, options: CaptureOptions | None = None) -> AsyncGenerator[bytes, None]:
        """A capture in the pcapng format, as it comes, until a limit is reached or the iterator is closed.

        :raises InvalidInput: the filter is none. :raises CapacityExceeded: too many captures run on the host.
        """
        return self._transport().read_stream(_path(lab), query=_query(of, options))

    async def decoded(
        self, lab: str, of: str, options: CaptureOptions | None = None
    ) -> AsyncGenerator[CaptureMessage, None]:
        """Decoded frames as they come; the last message tells how the capture ended.

        :raises Unsupported: the host has no decoder.
        """
        socket = await self._transport().open_socket(_path(lab), query=_query(of, options))
        try:
            while True:
                document = json.loads(await socket.recv())
                if "error" in document:
                    raise from_wire(document["error"])
                yield CaptureMessage.model_validate(document)
        except ConnectionClosedOK:
            return
        except ConnectionClosedError as error:
            raise Unavailable("the controller ended the capture", hint="look at `wireloom status`") from error
        finally:
            await socket.close()


def _path(lab: str) -> str:
    return f"/labs/{quote(lab, safe='')}/capture"


def _query(of: str, options: CaptureOptions | None) -> Query:
    chosen = options or CaptureOptions()
    return {
        "of": of,
        "filter": chosen.filter or None,
        "packets": chosen.packets or None,
        "seconds": str(chosen.seconds) if chosen.seconds else None,
        "snaplen": chosen.snaplen,
    }
