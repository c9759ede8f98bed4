"""The command line of the image build."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import apt, container, recipes
from .disk import build_disk
from .process import BuildError
from .resolution import resolve_all
from .rootfs import assemble, compile_python
from .store import Artefact, ImageStore, build_key

__all__ = ["main"]

_SOURCES = Path(__file__).resolve().parent.parent
_REPOSITORY = _SOURCES.parent


@dataclass(frozen=True)
class _Job:
    """One image to be built, with all that is known before anything is fetched."""

    recipe: recipes.Recipe
    kind: str
    packages: tuple[apt.Package, ...]
    kernel: tuple[apt.Package, ...]

    @property
    def version(self) -> str:
        about = next(package for package in self.packages if package.name == self.recipe.version_of)
        return about.upstream_version

    @property
    def identities(self) -> tuple[str, ...]:
        return tuple(sorted(package.identity for package in (*self.packages, *self.kernel)))

    @property
    def key(self) -> str:
        others = (name for recipe in recipes.RECIPES if (name := recipe.name) != self.recipe.name)
        unrelated = tuple(_SOURCES / "guest" / f"{name}{layer}" for name in others for layer in recipes.LAYERS)
        return build_key(_SOURCES, self.identities, self.recipe.name, self.kind, unrelated=unrelated)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is not built yet; returns the exit code."""
    options = _parse(arguments)
    if os.geteuid() != 0:
        print("images: must run as root, because file owners go into the images", file=sys.stderr)
        return 2
    if os.uname().machine != "x86_64":
        print("images: the reference images are built for x86_64 only", file=sys.stderr)
        return 2
    try:
        _build_all(options)
    except BuildError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="build.py", description="Build Wireloom's reference images.")
    names = [recipe.name for recipe in recipes.RECIPES]
    parser.add_argument("--out", type=Path, default=Path("/var/lib/wireloom/images"), help="folder for the results")
    parser.add_argument("--debs", type=Path, default=_REPOSITORY / ".build/debs", help="cache of packages")
    parser.add_argument("--only", choices=names, action="append", help="build this image (repeatable)")
    parser.add_argument("--kind", choices=["container", "disk"], action="append", help="build this kind only")
    parser.add_argument("--load", action="store_true", help="load containers into Docker where it lacks them")
    return parser.parse_args(arguments)


def _build_all(options: argparse.Namespace) -> None:
    started = time.monotonic()
    store = ImageStore(options.out)
    resolution = resolve_all(options.debs.parent / "apt")
    for recipe in recipes.RECIPES:
        if options.only and recipe.name not in options.only:
            continue
        for kind in recipe.kinds:
            if options.kind and kind not in options.kind:
                continue
            kernel = resolution.kernels[recipe.name] if kind == "disk" else ()
            job = _Job(recipe, kind, resolution.packages[recipe.name], kernel)
            with store.locked():
                artefact = store.current(recipe.name, kind, job.key)
                word = "unchanged" if artefact else "built"
                artefact = artefact or _build(job, store, options.debs)
            if kind == "container" and options.load and recipe.loads:
                loaded = container.load(store.folder / artefact.file, artefact.references[0], artefact.key)
                word += ", loaded" if loaded else ""
            _say(artefact, word, time.monotonic() - started)
            started = time.monotonic()
    with store.locked():
        store.remove_outdated(time.time())


def _say(artefact: Artefact, word: str, seconds: float) -> None:
    size = f"{artefact.size / 1e6:.0f} MB"
    print(
        f"  {artefact.name:8} {artefact.kind:10} {artefact.version:10} {size:>7} {seconds:5.1f} s  {word}", flush=True
    )


def _build(job: _Job, store: ImageStore, debs: Path) -> Artefact:
    files = apt.fetch((*job.packages, *job.kernel), debs)
    packages = [files[package.name] for package in job.packages]
    # Inside the store, so that the finished file can be renamed into place.
    work = Path(tempfile.mkdtemp(prefix=".build-", dir=store.folder))
    try:
        root = work / "root"
        assemble(tree=root, name=job.recipe.name, packages=packages, guest=_SOURCES / "guest")
        _write_version(root, job)
        if job.recipe.bytecode:
            compile_python(root)
        built, references = _WRITERS[job.kind](job, root, work, files)
        artefact = _describe(job, built, references)
        store.adopt(built, artefact)
    finally:
        shutil.rmtree(work)
    return artefact


def _write_version(root: Path, job: _Job) -> None:
    issue = f"Wireloom {job.recipe.title} {job.recipe.name} {job.version}\n"
    (root / "etc/issue").write_text(issue)
    (root / "etc/wireloom/packages").write_text("".join(f"{name}\n" for name in job.identities))


def _write_container(job: _Job, root: Path, work: Path, _: dict[str, Path]) -> tuple[Path, tuple[str, ...]]:
    target = work / "image.tar"
    references = container.write_archive(
        root=root,
        guest=_SOURCES / "guest",
        recipe=job.recipe,
        version=job.version,
        key=job.key,
        target=target,
    )
    return target, references


def _write_disk(job: _Job, root: Path, work: Path, files: dict[str, Path]) -> tuple[Path, tuple[str, ...]]:
    target = work / "image.qcow2"
    kernel = [files[package.name] for package in job.kernel]
    build_disk(root=root, kernel_packages=kernel, guest=_SOURCES / "guest", recipe=job.recipe, work=work, target=target)
    return target, ()


_Writer = Callable[[_Job, Path, Path, dict[str, Path]], tuple[Path, tuple[str, ...]]]
_WRITERS: dict[str, _Writer] = {"container": _write_container, "disk": _write_disk}


def _describe(job: _Job, built: Path, references: tuple[str, ...]) -> Artefact:
    with built.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return Artefact(
        name=job.recipe.name,
        kind=job.kind,
        version=job.version,
        key=job.key,
        file=f"{job.recipe.name}-{job.key}{built.suffix}",
        link=f"{job.recipe.name}{built.suffix}",
        size=built.stat().st_size,
        sha256=sha256,
        references=references,
        capabilities=job.recipe.capabilities if job.kind == "container" else (),
        packages=job.identities,
    )
