"""What uses an image: nodes of labs, devices whose default it is, and work on the library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from wireloom.controller.board import Board
from wireloom.model.images import FORMAT_OF_PROVIDER, ImageUse, ImageView

__all__ = ["JobsUsing", "NodeUses", "Uses", "full_name", "no_jobs", "spoken"]

#: Work that has not ended and needs an image, by the image's id.
JobsUsing = Callable[[str], Iterable[ImageUse]]

#: Nodes by what they are made of: (provider, name of the image).
NodeUses = Mapping[tuple[str, str], tuple[ImageUse, ...]]

_SHOWN: Final = 5


def no_jobs(image_id: str) -> Iterable[ImageUse]:
    """Nothing works on images."""
    return ()


def full_name(provider: str, image: str) -> str:
    """The name under which the library would have what a node calls ``image``: engines know one without a tag."""
    last = image.rpartition("/")[2]
    bare = FORMAT_OF_PROVIDER.get(provider) == "docker-archive" and ":" not in last and "@" not in last
    return f"{image}:latest" if bare else image


class Uses:
    """Joins what the board, the catalogue and the jobs know. In memory, no I/O."""

    def __init__(self, board: Board, jobs: JobsUsing = no_jobs) -> None:
        self._board = board
        self._jobs = jobs

    def by_image(self) -> NodeUses:
        """Nodes by (provider, image); also those that are off or were refused, which are made of it when they come."""
        found: dict[tuple[str, str], list[ImageUse]] = {}
        for lab_id in self._board.lab_ids:
            picture = self._board.picture(lab_id)
            lab = picture.snapshot.lab.name
            for host, document in picture.slices.items():
                for node in document.nodes:
                    use = ImageUse(kind="node", name=node.name, lab=lab, host=host)
                    found.setdefault((node.provider, full_name(node.provider, node.image)), []).append(use)
        return {key: tuple(uses) for key, uses in found.items()}

    def unread_labs(self) -> list[str]:
        """Labs whose nodes are not known, because a device of theirs is gone: they may use anything."""
        found = ((self._board.intents(lab_id), self._board.snapshot(lab_id)) for lab_id in self._board.lab_ids)
        return sorted(lab.lab.name for intents, lab in found if intents is None and lab is not None)

    def of(self, image: ImageView, nodes: NodeUses | None = None) -> tuple[ImageUse, ...]:
        """Everything that uses ``image``. ``nodes``: what :meth:`by_image` said, where it was asked already."""
        known = self.by_image() if nodes is None else nodes
        defaults = (ImageUse(kind="device", name=served.device) for served in image.devices if served.default)
        return (*known.get((image.provider, image.name), ()), *defaults, *self._jobs(image.id))

    def labs_using(self, image: ImageView) -> list[str]:
        """Ids of the labs with a node of it."""
        wanted = (image.provider, image.name)
        return [
            lab_id
            for lab_id in self._board.lab_ids
            if any(
                (node.provider, full_name(node.provider, node.image)) == wanted
                for document in self._board.picture(lab_id).slices.values()
                for node in document.nodes
            )
        ]


def spoken(uses: Iterable[ImageUse]) -> str:
    """``uses`` in words, the first few of them."""
    words = {
        "node": lambda use: f"node {use.name} of lab {use.lab}",
        "device": lambda use: f"device {use.name}, whose default it is",
        "job": lambda use: f"job {use.name}",
    }
    said = [words[use.kind](use) for use in uses]
    more = f" and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    return ", ".join(said[:_SHOWN]) + more
