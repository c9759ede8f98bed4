"""What a layer may hold, judged member by member in the order in which an engine extracts them."""

from __future__ import annotations

from typing import Final

from wireloom.library.archives.paths import clean_path, inside, shown_name
from wireloom.library.archives.tars import Kind, Member
from wireloom.library.values import ImageRefused, Limits

__all__ = ["OPAQUE", "WHITEOUT", "LayerRules", "whiteout_of"]

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"

#: The overlay file system's own mark of a removed file. It is no device of anything.
_REMOVED: Final = (0, 0)
#: Devices that every container has in its own ``/dev`` anyway (runtime-spec, "default devices"). Trees of whole systems
#: carry them, and there the runtime's ``/dev`` hides them.
_EVERYWHERE: Final = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)})
_DEV: Final = "dev/"
#: Attributes by which overlayfs is told to look elsewhere for a file; ``opaque`` only hides what is below.
_OVERLAY: Final = ("trusted.overlay.", "user.overlay.")
_OVERLAY_OPAQUE: Final = tuple(f"{prefix}opaque" for prefix in _OVERLAY)

_IMPLIED, _FOLDER, _FILE, _SYMLINK, _OTHER = range(5)
_KINDS: Final = {Kind.FOLDER: _FOLDER, Kind.FILE: _FILE, Kind.HARD_LINK: _FILE, Kind.SYMLINK: _SYMLINK}


def whiteout_of(path: str) -> str | None:
    """The path that a whiteout removes from the layers below; ``None``: it is none, or the mark of an opaque folder."""
    folder, slash, name = path.rpartition("/")
    if not name.startswith(WHITEOUT) or name.startswith(WHITEOUT * 2):
        return None
    return f"{folder}{slash}{name.removeprefix(WHITEOUT)}"


class LayerRules:
    """One layer's members, each held against those before it.

    Of a path it keeps a hash only (keyed by Python for each process), so the most that a layer with
    ``limits.entries`` members can make it use is about 200 MB, and a usual one uses some.
    """

    def __init__(self, limits: Limits, what: str) -> None:
        self._limits, self._what = limits, what
        self._known: dict[int, int] = {}
        self._entered = ""

    def check(self, member: Member) -> None:
        """:raises ImageRefused: ``member`` has no place in a layer, with the reason."""
        if not member.path:
            if member.kind is not Kind.FOLDER:
                raise ImageRefused("path", f"{self._what}: its root is no folder")
            return
        self._check_whiteout(member)
        self._check_device(member)
        self._check_attributes(member)
        self._enter(member.path.rpartition("/")[0])
        if member.kind is Kind.HARD_LINK:
            self._check_hard_link(member)
        elif member.kind is Kind.SYMLINK:
            self._check_symlink(member)
        self._remember(member)

    def _check_whiteout(self, member: Member) -> None:
        name = member.path.rpartition("/")[2]
        if not name.startswith(WHITEOUT):
            return
        if name.removeprefix(WHITEOUT) in {"", ".", ".."}:
            raise ImageRefused("path", f"{self._what}: {shown_name(member.path)} removes the folder that it is in")
        if member.kind is not Kind.FILE:
            raise ImageRefused("format", f"{self._what}: {shown_name(member.path)} is no file")

    def _check_device(self, member: Member) -> None:
        if member.kind not in {Kind.CHARACTER, Kind.BLOCK}:
            return
        usual = member.device == _REMOVED or (member.device in _EVERYWHERE and member.path.startswith(_DEV))
        if usual and member.kind is Kind.CHARACTER:
            return
        major, minor = member.device
        raise ImageRefused(
            "device-node",
            f"{self._what}: {shown_name(member.path)} is a {member.kind.name.lower()} device {major}:{minor}",
        )

    def _check_attributes(self, member: Member) -> None:
        for name in member.xattrs:
            if name.startswith(_OVERLAY) and name not in _OVERLAY_OPAQUE:
                raise ImageRefused(
                    "link", f"{self._what}: {shown_name(member.path)} has the attribute {shown_name(name)}"
                )

    def _enter(self, folder: str) -> None:
        """Every folder above a member is one, or nothing that this layer has said anything of."""
        if folder == self._entered:
            return
        above = folder
        while above:
            known = self._known.get(hash(above))
            if known in {_FOLDER, _IMPLIED}:
                break
            if known == _SYMLINK:
                raise ImageRefused("link", f"{self._what}: members below {shown_name(above)}, which is a link")
            if known is not None:
                raise ImageRefused("path", f"{self._what}: members below {shown_name(above)}, which is no folder")
            self._put(above, _IMPLIED)
            above = above.rpartition("/")[0]
        self._entered = folder

    def _check_hard_link(self, member: Member) -> None:
        if member.target.startswith("/") or ".." in member.target.split("/"):
            raise ImageRefused("link", f"{self._what}: the hard link {shown_name(member.path)} leads out of the layer")
        known = self._known.get(hash(clean_path(member.target, self._limits.name, self._what)))
        if known is None or known in {_FOLDER, _IMPLIED}:
            raise ImageRefused(
                "link", f"{self._what}: the hard link {shown_name(member.path)} is to no file that comes before it"
            )

    def _check_symlink(self, member: Member) -> None:
        if not member.target:
            raise ImageRefused("link", f"{self._what}: the link {shown_name(member.path)} leads nowhere")
        if not inside(member.path.rpartition("/")[0], member.target):
            raise ImageRefused(
                "link",
                f"{self._what}: {shown_name(member.path)} leads out of the layer, to {shown_name(member.target)}",
            )

    def _remember(self, member: Member) -> None:
        kind = _KINDS.get(member.kind, _OTHER)
        known = self._known.get(hash(member.path))
        if known is not None and not (kind == _FOLDER and known in {_FOLDER, _IMPLIED}):
            raise ImageRefused("duplicate", f"{self._what} has {shown_name(member.path)} twice")
        self._put(member.path, kind)

    def _put(self, path: str, kind: int) -> None:
        self._known[hash(path)] = kind
        if len(self._known) > self._limits.entries:
            raise ImageRefused("unbounded", f"{self._what} has more than {self._limits.entries} files and folders")
