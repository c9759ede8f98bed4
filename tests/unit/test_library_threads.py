"""Heavy work of the library holds up nobody who only brings a piece of a file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from controller_rig import make_rig

from wireloom.controller.library.library import THREADS


async def test_an_upload_goes_on_while_all_that_reads_whole_files_is_busy(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"piece"

    async with make_rig(tmp_path) as rig:
        library = rig.controller.library
        ends = threading.Event()
        busy = [asyncio.create_task(library._threads.run(ends.wait)) for _ in range(THREADS)]
        try:
            async with asyncio.timeout(60):
                upload = await library.uploads.create(5, {})
                assert await library.uploads.write(upload, 0, pieces()) == 5
                await library.uploads.delete(upload)
        finally:
            ends.set()
            await asyncio.gather(*busy)
