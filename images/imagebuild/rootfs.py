"""Assemble a file tree from packages and guest files; no maintainer script runs, nothing is mounted."""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from .process import BuildError, pipe, run
from .recipes import PRUNED_PATHS

__all__ = [
    "add_busybox_applets",
    "assemble",
    "check_libraries",
    "compile_python",
    "copy_guest_files",
    "new_tree",
    "unpack",
]

_MERGED = ("bin", "lib", "lib64", "sbin")
_FOLDERS = ("dev", "etc/wireloom", "mnt", "proc", "root/.ssh", "run", "sys", "tmp", "var/log", "var/lib")
_MODES = {"etc/shadow": 0o600, "root": 0o700, "root/.ssh": 0o700, "tmp": 0o1777}
_FRR_UID = 101
_FRR_PATHS = ("etc/frr", "var/log/frr")
# Applets of the host's package tools have no business in a guest.
_UNWANTED_APPLETS = re.compile(r"^(dpkg.*|rpm.*|init|ip[a-z]+)$")


def assemble(*, tree: Path, name: str, packages: Iterable[Path], guest: Path) -> None:
    """Make the tree that container and disk of one image share.

    :param name: the image's name: its role, host name and folder under ``guest``.
    :param guest: the folder with the guest files.
    :raises BuildError: a package cannot be unpacked, or a program would miss a library.
    """
    new_tree(tree)
    for package in packages:
        unpack(package, tree, excluded=PRUNED_PATHS)
    for layer in ("common", name):
        copy_guest_files(guest / layer, tree)
    (tree / "etc/wireloom/role").write_text(f"{name}\n")
    (tree / "etc/hostname").write_text(f"{name}\n")
    add_busybox_applets(tree)
    _own_frr_files(tree)
    for path, mode in _MODES.items():
        (tree / path).chmod(mode)
    check_libraries(tree)


def new_tree(tree: Path) -> None:
    """An empty tree with ``/bin``, ``/lib`` and ``/sbin`` merged into ``/usr``, whatever the packages do."""
    tree.mkdir(parents=True)
    for folder in _MERGED:
        (tree / "usr" / folder).mkdir(parents=True)
        (tree / folder).symlink_to(f"usr/{folder}")
    for folder in _FOLDERS:
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / "var/run").symlink_to("../run")


def unpack(package: Path, tree: Path, *, excluded: Iterable[str] = (), only: Iterable[str] = ()) -> None:
    """Unpack a package into a tree, keeping the tree's links to folders.

    :param excluded: tar patterns of paths to leave out.
    :param only: the paths to take; all when empty.
    """
    options = [f"--exclude={pattern}" for pattern in excluded]
    pipe(
        ["dpkg-deb", "--fsys-tarfile", package],
        ["tar", "-C", tree, "-x", "--keep-directory-symlink", "--no-same-owner", "-p", *options, *only],
    )


def copy_guest_files(layer: Path, tree: Path) -> None:
    """Lay one folder of guest files over the tree; of the modes, only the execute bit counts."""
    for source in sorted(layer.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        target = tree / source.relative_to(layer)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def add_busybox_applets(tree: Path) -> None:
    """Link busybox under the name of each applet that no package provides.

    ``/bin/sh`` is dash: busybox's shell runs its own ``ip`` and ``ping`` even where the real ones are installed.
    """
    busybox = tree / "bin/busybox"
    present = {program.name for folder in ("bin", "sbin") for program in (tree / "usr" / folder).iterdir()}
    for applet in run([busybox, "--list-full"]).split():
        name = applet.rsplit("/", 1)[-1]
        if name not in present and not _UNWANTED_APPLETS.match(name):
            folder = "sbin" if "sbin/" in applet else "bin"
            (tree / "usr" / folder / name).symlink_to("/bin/busybox")
    shell = tree / "bin/sh"
    shell.unlink(missing_ok=True)
    shell.symlink_to("dash")


def compile_python(tree: Path) -> None:
    """Compile the tree's Python library, where it is of the version that runs this program; elsewhere that is left
    to the guest."""
    library = tree / f"usr/lib/python{sys.version_info.major}.{sys.version_info.minor}"
    if library.is_dir():
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(library, quiet=2, stripdir=tree, prependdir="/", invalidation_mode=mode)


def _own_frr_files(tree: Path) -> None:
    if not (tree / "usr/lib/frr").is_dir():
        return
    for folder in _FRR_PATHS:
        (tree / folder).mkdir(parents=True, exist_ok=True)
        for path in ((tree / folder), *(tree / folder).rglob("*")):
            os.chown(path, _FRR_UID, _FRR_UID)
            if path.is_file():
                path.chmod(0o640)


def check_libraries(tree: Path) -> None:
    """Demand that each program and library finds what it is linked with.

    :raises BuildError: names the first files with a missing library (a dependency was excluded wrongly).
    """
    binaries = [path for path in (tree / "usr").rglob("*") if _is_elf(path)]
    available = {path.name for path in (tree / "usr").rglob("*.so*")}
    listing = run(["readelf", "--dynamic", "--wide", *binaries])
    missing: list[str] = []
    file = ""
    for line in listing.splitlines():
        if line.startswith("File: "):
            file = line[len("File: ") :].removeprefix(str(tree))
        elif (needed := re.search(r"\(NEEDED\).*\[(.+)\]", line)) and needed[1] not in available:
            missing.append(f"{file} needs {needed[1]}")
    if missing:
        raise BuildError(f"libraries are missing: {'; '.join(missing[:5])}")


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
