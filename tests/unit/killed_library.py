"""A library in a process of its own, which a test kills: ``killed_library.py FOLDER [UPLOAD]``.

With a file to upload it begins, and says each stage on a line; without one it goes on with what it finds. At the end it
says how the job ended, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from library_rig import Rig, pieces

from wireloom.controller.library.job import Job
from wireloom.controller.library.tools import Tools
from wireloom.model.images import ImportRequest, JobStage

_PIECE = 64 << 10


def say(line: str) -> None:
    print(line, flush=True)


async def main(folder: Path, file: Path | None) -> None:
    real = Job.progress

    def told(job: Job, stage: JobStage, done: int = 0, total: int = 0) -> None:
        say(stage.value)
        real(job, stage, done, total)

    Job.progress = told  # type: ignore[method-assign]
    rig = Rig(folder)
    rig.tools = Tools()
    await rig.up()
    if file is not None:
        content = file.read_bytes()
        upload = await rig.uploads.create(len(content), {"filename": file.name})
        await rig.uploads.write(upload, 0, pieces(content[: len(content) // 2], _PIECE))
        say("half")
        await rig.uploads.write(upload, len(content) // 2, pieces(content[len(content) // 2 :], _PIECE))
        say("uploaded")
        await rig.imports.import_file(ImportRequest(upload=upload))
    for job in rig.jobs.all():
        ended = await rig.ended(job)
        image = rig.catalogue.get(ended.images[-1])
        say(json.dumps({"job": ended.model_dump(mode="json"), "digest": image.digest, "debris": rig.debris()}))
    await rig.down()


if __name__ == "__main__":
    (Path(sys.argv[1])).mkdir(parents=True, exist_ok=True)
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
