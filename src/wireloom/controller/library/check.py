"""What preflight is told of images of the library: whether a host has them, or can get them. In memory."""

from __future__ import annotations

from collections.abc import Iterable

from wireloom.controller.images import ImageFindings
from wireloom.controller.library.catalogue import Catalogue
from wireloom.controller.library.shelves import Shelves
from wireloom.controller.preflight import ImageRef
from wireloom.errors import CapacityExceeded, Conflict, ImageMissing, WireloomError
from wireloom.model.images import ImageState, ImageView, PresenceState

__all__ = ["LibraryCheck"]


class LibraryCheck:
    """See :class:`~wireloom.controller.images.LibraryImageCheck`.

    :param own_host: the host that the controller is on, whose agent takes files from the library without a copy.
    """

    def __init__(self, catalogue: Catalogue, shelves: Shelves, *, own_host: str) -> None:
        self._catalogue = catalogue
        self._shelves = shelves
        self._own_host = own_host

    def judge(self, wanted: Iterable[ImageRef], findings: ImageFindings) -> list[ImageRef]:
        """Add what is to be said of those of ``wanted`` that are of the library; the others are returned."""
        others: list[ImageRef] = []
        promised: dict[str, int] = {}  # host → bytes of images that it has to fetch for this
        for ref in dict.fromkeys(wanted):
            image = self._catalogue.find(ref.provider, ref.image)
            if image is None:
                others.append(ref)
                continue
            problem = self._state_problem(image, ref.host)
            if problem is None and not self._has(ref.host, image):
                problem = self._room_problem(image, ref.host, promised)
                if problem is None:
                    findings.absent.append(ref)
            if problem is not None:
                findings.missing[ref] = problem
        return others

    def _has(self, host: str, image: ImageView) -> bool:
        entry = self._shelves.entry(host, image)
        return entry is not None and entry.state in {PresenceState.PRESENT, PresenceState.LOADING}

    def _state_problem(self, image: ImageView, host: str) -> WireloomError | None:
        if self._catalogue.is_closing(image):
            return Conflict(f"image {image.name} is being deleted", hint="name another image")
        if image.state is ImageState.DAMAGED and not self._has(host, image):
            why = str((image.problem or {}).get("message", ""))
            return ImageMissing(
                f"image {image.name} is damaged in the library{f': {why}' if why else ''}",
                hint="import it again under the same name, or delete it",
            )
        return None

    def _room_problem(self, image: ImageView, host: str, promised: dict[str, int]) -> WireloomError | None:
        """Whether the file fits on the host, beside those that are fetched for other nodes; it is counted."""
        shelf = self._shelves.get(host)
        if shelf is None or host == self._own_host:
            return None
        if shelf.free:  # a host that does not tell is given the chance
            needed = promised.get(host, 0) + image.size
            if needed > shelf.free:
                return CapacityExceeded(
                    f"host {host} has no room for image {image.name}: {_mib(needed)} are to be fetched, and"
                    f" {_mib(shelf.free)} are free where images are kept",
                    hint="make room there, or use another host",
                )
            promised[host] = needed
        return None


def _mib(size: int) -> str:
    return f"{max(1, size >> 20)} MiB"
