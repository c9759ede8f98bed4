"""``client.images`` that answers from memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from typing import Any

from cli_rig import FakeClient

from wireloom.client.discovery import Endpoint
from wireloom.errors import NotFound, WireloomError
from wireloom.model.images import (
    AdoptRequest,
    Choice,
    CollectView,
    DeviceProposal,
    EngineImageView,
    ImageUpdate,
    ImageUse,
    ImageView,
    ImportRequest,
    JobState,
    JobView,
    Presence,
    PresenceState,
    Provenance,
    PullRequest,
    SaveRequest,
    ServedDevice,
    UploadView,
)
from wireloom.model.views import StreamMessage

URL = "http://127.0.0.1:7430"
DIGEST = f"sha256:{'ab' * 32}"

ORIGIN = Provenance(origin="upload", source="vios.zip", kind="qcow2", notes=("unpacked from zip", "converted"))
KNOWN = ImageView(
    id="i1",
    name="vios-159.qcow2",
    provider="libvirt",
    format="qcow2",
    digest=DIGEST,
    content=DIGEST,
    size=3 << 20,
    virtual_size=2 << 30,
    version="15.9",
    devices=(ServedDevice(device="iosv", default=True), ServedDevice(device="iosvl2")),
    provenance=ORIGIN,
    presence=(
        Presence(host="h1", state=PresenceState.PRESENT),
        Presence(host="h2", state=PresenceState.FETCHING, done=1, total=4),
    ),
    used_by=(ImageUse(kind="node", name="r1", lab="demo"), ImageUse(kind="device", name="iosv")),
)
GUESSED = ImageView(
    id="i2",
    name="vendor/box:1",
    provider="docker",
    format="docker-archive",
    digest=DIGEST,
    content=DIGEST,
    size=512,
    needs=("privileged",),
    proposals=(DeviceProposal(device="frr", version="9", confidence=0.6, reasons=("its labels say so",)),),
    provenance=Provenance(origin="pull", source="vendor/box:1", kind="docker-archive"),
)


def job(state: JobState = JobState.DONE, **more: Any) -> JobView:
    ended = {"finished_at": 2.0} if state in {JobState.DONE, JobState.FAILED, JobState.CANCELLED} else {}
    return JobView(id="j1", kind="import", title="import vios.zip", state=state, **{**ended, **more})


class FakeImages:
    """Remembers what it was asked.

    :ivar known: images; :ivar job_: what every verb that begins work answers.
    :ivar ends: how a job that goes on ends, as the stream tells it.
    :ivar arrived: URL of each upload there is → bytes that have arrived. :ivar cuts: what each sending goes on after.
    :ivar fail: how the next sendings end.
    """

    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self.asked: list[tuple[Any, ...]] = []
        self.known = [KNOWN, GUESSED]
        self.job_ = job(images=("i1",))
        self.ends: list[JobView] = []
        self.engine_images: list[EngineImageView] = []
        self.arrived: dict[str, int] = {}
        self.uploads_: list[UploadView] = []
        self.cuts: list[WireloomError] = []
        self.fail: list[BaseException | None] = []
        self.refuse: Callable[[ImportRequest], JobView | None] = lambda _request: None
        self.sent: list[tuple[str, str, int]] = []  # upload, name of the file, from which byte on
        self.names: list[str] = []

    def _take(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self._client.error is not None:
            raise self._client.error

    async def all(self) -> list[ImageView]:
        self._take("all")
        return self.known

    async def update(self, image_id: str, change: ImageUpdate) -> ImageView:
        self._take("update", image_id, change)
        return self.known[0]

    async def delete(self, image_id: str) -> ImageView:
        self._take("delete", image_id)
        return self.known[0]

    async def verify(self, image_id: str) -> JobView:
        self._take("verify", image_id)
        return self.job_

    async def uploads(self) -> list[UploadView]:
        self._take("uploads")
        return self.uploads_

    async def unpush(self, image_id: str, hosts: Iterable[str] = ()) -> ImageView:
        self._take("unpush", image_id, tuple(hosts))
        return self.known[0]

    async def push(self, image_id: str, hosts: Iterable[str] = ()) -> ImageView:
        self._take("push", image_id, tuple(hosts))
        return self.known[0]

    async def extract(self, image_id: str, *, name: str = "") -> JobView:
        self._take("extract", image_id, name)
        return self.job_

    async def engine(self, host: str = "") -> list[EngineImageView]:
        self._take("engine", host)
        return self.engine_images

    async def collect(self, *, dry_run: bool = True) -> CollectView:
        self._take("collect", dry_run)
        return CollectView(removed=(DIGEST,), size=2048)

    async def begin_upload(self, file: Path, *, sha256: str = "") -> str:
        self._take("begin", file.name, sha256)
        upload = f"{URL}/api/v1/uploads/{len(self.arrived) + 1:032x}"
        self.arrived[upload] = 0
        return upload

    async def send(
        self,
        upload: str,
        file: Path,
        progress: Callable[[int, int], None],
        *,
        interrupted: Callable[[WireloomError], None],
    ) -> str:
        if upload not in self.arrived:
            raise NotFound("there is no such upload")
        size = file.stat().st_size
        self.sent.append((upload.rpartition("/")[2].lstrip("0"), file.name, self.arrived[upload]))
        for cause in self.cuts:
            interrupted(cause)
        failure = self.fail.pop(0) if self.fail else None
        self.arrived[upload] = size // 2 if failure else size
        progress(self.arrived[upload], size)
        if failure is not None:
            raise failure
        return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"

    async def import_file(self, request: ImportRequest) -> JobView:
        self._take("import", request)
        for upload in [upload for upload in self.arrived if request.upload and upload.endswith(request.upload)]:
            del self.arrived[upload]
        return self.refuse(request) or self.job_

    async def pull(self, request: PullRequest) -> JobView:
        self._take("pull", request)
        return self.job_

    async def adopt(self, request: AdoptRequest) -> JobView:
        self._take("adopt", request)
        return self.job_

    async def save(self, request: SaveRequest) -> JobView:
        self._take("save", request)
        return self.job_

    async def jobs(self) -> list[JobView]:
        self._take("jobs")
        return [self.job_]

    async def job(self, job_id: str) -> JobView:
        self._take("job", job_id)
        return self.job_

    async def cancel(self, job_id: str) -> JobView:
        self._take("cancel", job_id)
        return self.job_

    async def retry(self, job_id: str) -> JobView:
        self._take("retry", job_id)
        return self.job_

    async def choose(self, job_id: str, choice: Choice) -> JobView:
        self._take("choose", job_id, choice)
        return self.job_

    async def log(self, job_id: str, *, follow: bool = False) -> AsyncGenerator[bytes, None]:
        self._take("log", job_id, follow)
        yield b"12:00 it began\n"

    async def secrets(self) -> list[str]:
        self._take("secrets")
        return self.names

    async def put_secret(self, name: str, content: bytes) -> None:
        self._take("put_secret", name, content)

    async def delete_secret(self, name: str) -> None:
        self._take("delete_secret", name)


class ImagesClient(FakeClient):
    """A client whose images are in memory, and whose stream tells of the job."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoint = Endpoint(URL, "token")
        self.images = FakeImages(self)

    async def stream(self, lab: str | None = None) -> AsyncGenerator[StreamMessage, None]:
        yield StreamMessage(type="image", data={"id": "j1"})
        for view in self.images.ends:
            yield StreamMessage(type="job", data={**view.model_dump(mode="json"), "id": "another"})
            self.images.job_ = view
            yield StreamMessage(type="job", data=view.model_dump(mode="json"))
