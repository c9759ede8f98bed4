"""One life of a host that fetches a file of an image; run as a program, so that it can be killed.

``python agent_fetch_process.py FOLDER URL TOKEN DIGEST SIZE``; says ``bytes N`` while it comes and ``done`` at the end.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.http import ThreadedHttp
from wireloom.agent.library.sources import Sources
from wireloom.fabric.image_documents import BlobSource
from wireloom.library.blobs import BlobStore


async def main(folder: Path, url: str, token: str, digest: str, size: int) -> None:
    sources = Sources("here")
    sources.update((BlobSource(url=url, token=token),))
    http = ThreadedHttp()
    try:
        fetcher = Fetcher(BlobStore(folder), sources, http)
        await fetcher.fetch(digest, size, progress=lambda done, _: print("bytes", done, flush=True))
    finally:
        await http.close()
    print("done", flush=True)


if __name__ == "__main__":
    _, at, source, shown, wanted, length = sys.argv
    asyncio.run(main(Path(at), source, shown, wanted, int(length)))
