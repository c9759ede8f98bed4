"""Which device an image is, from its name and from what it says of itself. Pure.

Devices say by what their images are known (:class:`~wireloom.model.device.Recognition`); every rule that fits is
evidence of a weight. Evidence of several kinds adds up. What fits two devices that have nothing to do with each other
is certain for none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from wireloom.library.values import Facts
from wireloom.model.device import Device, Recognition
from wireloom.model.images import FORMAT_OF_PROVIDER, DeviceProposal, ImageFormat, SourceKind

__all__ = ["CERTAIN", "identify", "plain_name"]

#: From here on a proposal counts as known, and nobody has to be asked.
CERTAIN: Final = 0.9

_FILE: Final = 0.95
_TAG: Final = 0.95
_LABEL: Final = 0.95
_TEXT: Final = 0.95
_PATH: Final = 0.9
_VOLUME: Final = 0.8
_HINT: Final = 0.5
#: Nothing from outside is ever beyond doubt, and what is of two minds is below :data:`CERTAIN`.
_MOST: Final = 0.99
_OF_TWO_MINDS: Final = 0.8
#: A device that boots another one's images comes after that one.
_VARIANT_LESS: Final = 0.03
#: A device that the image's technology cannot run: the disk inside may be meant.
_ELSEWHERE: Final = 0.6

#: Endings that say how something is packed, not what it is. Taken away as often as there are any.
_ENDINGS: Final = re.compile(
    r"(?i)\.(?:gz|xz|zst|bz2|zip|tar|tgz|txz|tbz2?|qcow2?|img|raw|vmdk|vhdx?|vdi|ova|iso|bin|iol|image|docker)$"
)
#: What browsers and file managers add to a second copy.
_COPY: Final = re.compile(r"(?: \(\d{1,3}\)| - [Cc]opy)$")
#: Names longer than this are nobody's; it also bounds what patterns can cost.
_LONGEST: Final = 512
_DISKS: Final[frozenset[SourceKind]] = frozenset({"qcow2", "raw", "vmdk", "vhd", "vhdx", "ova"})


def identify(facts: Facts, devices: Iterable[Device]) -> tuple[DeviceProposal, ...]:
    """What an image may be, best first; :data:`CERTAIN` and more is known. Never raises, whatever ``facts`` say.

    Devices that boot each other's images (``images-of``) come together. A rule that a user wrote outweighs those
    that are built in.
    """
    known = tuple(devices)
    sightings = [found for device in known if (found := _sight(device, facts)) is not None]
    if any(found.own and found.confidence >= CERTAIN for found in sightings):
        sightings = [found if found.own else found.at_most(_OF_TWO_MINDS) for found in sightings]
    settled = [*_settled(sightings)]
    proposals = [_proposal(found) for found in (*settled, *_variants(settled, known))]
    proposals.sort(key=lambda proposal: (-proposal.confidence, proposal.device))
    best: dict[str, DeviceProposal] = {}
    for proposal in proposals:
        best.setdefault(proposal.device, proposal)
    return tuple(best.values())


def plain_name(file: str) -> str:
    """The name of a file without its folder, the endings that say how it is packed, and marks of copies."""
    name = re.split(r"[/\\]", file)[-1][-_LONGEST:]
    while True:
        shorter = _COPY.sub("", _ENDINGS.sub("", name))
        if shorter == name or not shorter:
            return name
        name = shorter


# ------------------------------------------------------------------ one device


@dataclass(frozen=True)
class _Sighting:
    """A device that an image may be of, with what speaks for it."""

    device: Device
    confidence: float
    version: str
    reasons: tuple[str, ...]

    @property
    def own(self) -> bool:
        return self.device.recognise.own

    def at_most(self, confidence: float) -> _Sighting:
        return replace(self, confidence=min(self.confidence, confidence))


@dataclass(frozen=True)
class _Clue:
    """Something that fitted. Clues of one ``kind`` do not add up: they tell the same thing twice."""

    kind: str
    weight: float
    reason: str
    version: str = ""


def _sight(device: Device, facts: Facts) -> _Sighting | None:
    strongest: dict[str, _Clue] = {}
    version = ""
    for clue in _clues(device.recognise, facts):
        if clue.kind not in strongest or clue.weight > strongest[clue.kind].weight:
            strongest[clue.kind] = clue
        version = version or clue.version
    if not strongest:
        return None
    doubt = 1.0
    for clue in strongest.values():
        doubt *= 1 - clue.weight
    found = _Sighting(device, min(1 - doubt, _MOST), version, tuple(clue.reason for clue in strongest.values()))
    if _provider(facts.kind) in device.providers:
        return found
    reason = f"{device.name} does not run as {_words(facts.kind)}"
    return replace(found.at_most(_ELSEWHERE), reasons=(*found.reasons, reason))


def _clues(rules: Recognition, facts: Facts) -> Iterator[_Clue]:
    """What fits, with the strongest evidence for a version first."""
    for name in (plain_name(facts.file),) if facts.file else ():
        yield from _fitting(rules.files, (name,), "name", _FILE, "file name {!r}", full=True)
    tags = [spelling for tag in facts.tags for spelling in _spellings(tag)]
    yield from _fitting(rules.tags, tags, "name", _TAG, "image name {!r}", full=True)
    yield from _fitting(rules.text, facts.text, "text", _TEXT, "what it says of itself, {!r}", full=False)
    yield from _labels(rules.labels, facts.labels)
    yield from _fitting(rules.paths, facts.paths, "path", _PATH, "its file {!r}", full=True)
    yield from _fitting(rules.volumes, facts.volumes, "volume", _VOLUME, "its partition {!r}", full=True)
    names = [name for name in (facts.file, *facts.tags) if name]
    yield from _fitting(rules.hints, names, "name", _HINT, "a word in the name {!r}", full=False)


def _fitting(
    patterns: Iterable[str], texts: Iterable[str], kind: str, weight: float, reason: str, *, full: bool
) -> Iterator[_Clue]:
    for pattern in patterns:
        regex = _compiled(pattern)
        for text in texts:
            found = (regex.fullmatch if full else regex.search)(text[:_LONGEST])
            if found is not None:
                yield _Clue(kind, weight, reason.format(_shown(text)), _version(found))


def _labels(rules: Mapping[str, str], labels: Mapping[str, str]) -> Iterator[_Clue]:
    for name, pattern in rules.items():
        found = _compiled(pattern).fullmatch(labels.get(name, "")[:_LONGEST]) if name in labels else None
        if found is not None:
            yield _Clue("label", _LABEL, f"its label {name!r} is {_shown(labels[name])!r}", _version(found))


def _version(found: re.Match[str]) -> str:
    version = (found.groupdict().get("version") or "").strip("._-")
    return "" if version.casefold() == "latest" else version


def _spellings(tag: str) -> tuple[str, ...]:
    """A reference as a whole, and what follows its last slash."""
    return tuple(dict.fromkeys((tag, tag.rpartition("/")[2])))


def _shown(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


@lru_cache(maxsize=2048)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _provider(kind: SourceKind) -> str:
    image_format: ImageFormat = "qcow2" if kind in _DISKS else "docker-archive"
    return next(name for name, theirs in FORMAT_OF_PROVIDER.items() if theirs == image_format)


def _words(kind: SourceKind) -> str:
    return "a virtual machine" if kind in _DISKS else "a container; the disk in the image may"


# ------------------------------------------------------------------ many devices


def _settled(sightings: Iterable[_Sighting]) -> Iterator[_Sighting]:
    """Where more than one is certain, none is, unless more kinds of evidence speak for it than for the others."""
    found = tuple(sightings)
    certain = [item for item in found if item.confidence >= CERTAIN]
    most = max((len(item.reasons) for item in certain), default=0)
    best = [item for item in certain if len(item.reasons) == most]
    for item in found:
        others = sorted(other.device.name for other in certain if other is not item)
        if item not in certain or not others or best == [item]:
            yield item
        else:
            reason = f"it may as well be {', '.join(others)}"
            yield replace(item.at_most(_OF_TWO_MINDS), reasons=(*item.reasons, reason))


def _variants(settled: Iterable[_Sighting], devices: Iterable[Device]) -> Iterator[_Sighting]:
    """Devices that boot the images of those that were seen; as certain as these."""
    by_name = {found.device.name: found for found in settled}
    for device in devices:
        base = by_name.get(device.recognise.images_of)
        if base is not None:
            floor = CERTAIN if base.confidence >= CERTAIN else 0
            confidence = max(base.confidence - _VARIANT_LESS, floor)
            yield _Sighting(device, confidence, base.version, (f"it boots the images of {base.device.name}",))


def _proposal(found: _Sighting) -> DeviceProposal:
    return DeviceProposal(
        device=found.device.name,
        version=found.version,
        confidence=round(found.confidence, 2),
        reasons=found.reasons,
    )
