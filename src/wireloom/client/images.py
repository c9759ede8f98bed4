"""Images of the library through the API: ``client.images``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from wireloom.client.calls import Calls
from wireloom.errors import WireloomError
from wireloom.model.images import (
    AdoptRequest,
    Choice,
    CollectRequest,
    CollectView,
    EngineImageView,
    ExtractRequest,
    HostsRequest,
    ImageUpdate,
    ImageView,
    ImportRequest,
    JobState,
    JobView,
    PullRequest,
    SaveRequest,
    UploadView,
)

__all__ = ["ENDED", "Images"]

#: States in which a job does nothing more by itself.
ENDED: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.CHOICE})
#: Collecting looks at every stored file; images of an engine may be many.
_LONG_S: Final = 300.0


class Images(Calls):
    """Calls on images; errors as of :class:`~wireloom.client.client.Client`. Images and jobs are named by their ids."""

    async def all(self) -> list[ImageView]:
        """Images of the library, by name."""
        return await self._many(ImageView, "GET", "/images")

    async def get(self, image_id: str) -> ImageView:
        """:raises NotFound: no such image."""
        return await self._one(ImageView, "GET", _image(image_id))

    async def update(self, image_id: str, change: ImageUpdate) -> ImageView:
        """Say what it is, and whose default."""
        return await self._one(ImageView, "PATCH", _image(image_id), change)

    async def delete(self, image_id: str) -> ImageView:
        """Take it off the library and off every host. :raises Conflict: something uses it."""
        return await self._one(ImageView, "DELETE", _image(image_id))

    async def verify(self, image_id: str) -> JobView:
        """Read it again, everywhere."""
        return await self._one(JobView, "POST", f"{_image(image_id)}/verify")

    async def push(self, image_id: str, hosts: Iterable[str] = ()) -> ImageView:
        """Have hosts fetch it; none named: all."""
        return await self._one(ImageView, "POST", f"{_image(image_id)}/push", HostsRequest(hosts=tuple(hosts)))

    async def unpush(self, image_id: str, hosts: Iterable[str] = ()) -> ImageView:
        """Take a push back; no host named: from all. What they have is not removed by this."""
        return await self._one(ImageView, "POST", f"{_image(image_id)}/unpush", HostsRequest(hosts=tuple(hosts)))

    async def extract(self, image_id: str, *, name: str = "") -> JobView:
        """Take the disk out of a container's image that wraps a virtual machine."""
        return await self._one(JobView, "POST", f"{_image(image_id)}/extract", ExtractRequest(name=name))

    async def engine(self, host: str = "") -> list[EngineImageView]:
        """What hosts have, whoever brought it."""
        return await self._many(EngineImageView, "GET", "/images/engine", query={"host": host or None})

    async def collect(self, *, dry_run: bool = True) -> CollectView:
        """Remove stored files that nothing needs, or say which these are."""
        request = CollectRequest(dry_run=dry_run)
        return await self._one(CollectView, "POST", "/images/collect", request, timeout_s=_LONG_S)

    # ---------------------------------------------------------------- bringing in

    async def begin_upload(self, file: Path, *, sha256: str = "") -> str:
        """Announce ``file``; the URL to :meth:`send` it to.

        :raises CapacityExceeded: there is no room for it. :raises OSError: it cannot be read.
        """
        sender, address = self._transport().uploads()
        metadata = {"filename": file.name} | ({"sha256": sha256} if sha256 else {})
        return await sender.create(address, size=file.stat().st_size, metadata=metadata)

    async def send(
        self,
        upload: str,
        file: Path,
        progress: Callable[[int, int], None] | None = None,
        *,
        interrupted: Callable[[WireloomError], None] = lambda _: None,
    ) -> str:
        """Send what of ``file`` has not arrived yet, over lost connections and restarts of the controller.

        Returns ``sha256:…`` of all of it, as it was read here: what an import is given to hold it against.

        :param interrupted: told why whenever it is cut off, and will be gone on with.
        :raises NotFound: there is no such upload (any more).
        :raises WireloomError: nothing got through for long, or the controller refuses; what has arrived is kept.
        """
        sender, _ = self._transport().uploads(interrupted)
        sent = await sender.send(upload, file, progress)
        return sent.sha256

    async def uploads(self) -> list[UploadView]:
        """Files that were sent, or are being sent, and are no images yet; oldest first."""
        return await self._many(UploadView, "GET", "/uploads")

    async def discard_upload(self, upload: str) -> None:
        """Give up an upload, by its URL or id; idempotent. :raises Conflict: a job has it."""
        sender, address = self._transport().uploads()
        await sender.discard(upload if "/" in upload else f"{address}/{quote(upload, safe='')}")

    async def import_file(self, request: ImportRequest) -> JobView:
        """Bring in an upload (its id: the last part of its URL), or a file that the controller fetches."""
        return await self._one(JobView, "POST", "/images/imports", request)

    async def pull(self, request: PullRequest) -> JobView:
        """Have a host's engine fetch an image, and bring it in."""
        return await self._one(JobView, "POST", "/images/pulls", request)

    async def adopt(self, request: AdoptRequest) -> JobView:
        """Bring in what a host has already."""
        return await self._one(JobView, "POST", "/images/adoptions", request)

    async def save(self, request: SaveRequest) -> JobView:
        """Make an image of a stopped node."""
        return await self._one(JobView, "POST", "/images/saves", request)

    # ---------------------------------------------------------------- work

    async def jobs(self) -> list[JobView]:
        """Work on the library, newest first."""
        return await self._many(JobView, "GET", "/image-jobs")

    async def job(self, job_id: str) -> JobView:
        """:raises NotFound: no such job."""
        return await self._one(JobView, "GET", _job(job_id))

    async def cancel(self, job_id: str) -> JobView:
        """End it."""
        return await self._one(JobView, "POST", f"{_job(job_id)}/cancel")

    async def retry(self, job_id: str) -> JobView:
        """Do again what failed or was cancelled."""
        return await self._one(JobView, "POST", f"{_job(job_id)}/retry")

    async def choose(self, job_id: str, choice: Choice) -> JobView:
        """Say what of a medium is to be imported."""
        return await self._one(JobView, "POST", f"{_job(job_id)}/choice", choice)

    def log(self, job_id: str, *, follow: bool = False) -> AsyncGenerator[bytes, None]:
        """What it told, as it comes."""
        return self._transport().read_stream(f"{_job(job_id)}/log", query={"follow": follow})

    # ---------------------------------------------------------------- secrets

    async def secrets(self) -> list[str]:
        """Names of the secrets that were given."""
        from pydantic import TypeAdapter

        content = await self._transport().request("GET", "/image-secrets")
        return TypeAdapter(list[str]).validate_json(content)

    async def put_secret(self, name: str, content: bytes) -> None:
        """Keep a secret, such as a licence."""
        await self._transport().request("PUT", _secret(name), body=content)

    async def delete_secret(self, name: str) -> None:
        """Forget a secret. :raises NotFound: it was not given."""
        await self._transport().request("DELETE", _secret(name))


def _image(image_id: str) -> str:
    return f"/images/{quote(image_id, safe='')}"


def _job(job_id: str) -> str:
    return f"/image-jobs/{quote(job_id, safe='')}"


def _secret(name: str) -> str:
    return f"/image-secrets/{quote(name, safe='')}"
