"""One life of a host that has an image brought into its engine; run as a program, so that it can be killed.

``python agent_bring_process.py TECHNOLOGY FOLDER URL TOKEN PIN``; says ``loading`` when the engine is given the file.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path

from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.http import ThreadedHttp
from wireloom.agent.library.ledger import Ledger
from wireloom.agent.library.sources import Sources
from wireloom.agent.library.stock import Stock
from wireloom.agent.reporter import untold
from wireloom.fabric.image_documents import BlobSource
from wireloom.library.blobs import BlobStore
from wireloom.model.images import ImagePin, PresenceState

INSTALLATION = "agent-library"


async def main(technology: str, folder: Path, url: str, token: str, pin: ImagePin) -> None:
    async with importlib.import_module(f"{technology}_harness").harness() as harness:
        provider = await harness.provider(INSTALLATION)
        sources = Sources("here")
        sources.update((BlobSource(url=url, token=token),))
        told = False

        def changed() -> None:
            nonlocal told
            flight = stock.flight(pin)
            if flight is not None and flight.phase == PresenceState.LOADING and not told:
                told = True
                print("loading", flush=True)

        stock = Stock(
            {technology: provider},
            Fetcher(BlobStore(folder), sources, ThreadedHttp()),
            Ledger(folder / "ledger.json"),
            keeps_files=False,
            tell=untold,
            changed=changed,
        )
        await stock.bring(pin)


if __name__ == "__main__":
    _, engine, at, source, shown, wanted = sys.argv
    asyncio.run(main(engine, Path(at), source, shown, ImagePin.model_validate_json(wanted)))
