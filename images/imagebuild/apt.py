"""Resolve packages from the distribution's own metadata and fetch them, verified.

Library names differ between releases, so only a few names are asked for and the rest follows from
``Depends`` and ``Pre-Depends``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .process import BuildError, run

__all__ = ["AptCatalog", "Catalog", "Package", "fetch", "kernel_packages", "parse_show", "resolve"]

_APT = ("-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3")

Catalog = Callable[[Sequence[str]], "dict[str, Package]"]
"""Names in, known packages out. A purely virtual name maps to a package that provides it."""


@dataclass(frozen=True)
class Package:
    """One version of one package.

    :ivar depends: groups of alternatives; one of each group is needed.
    """

    name: str
    version: str
    architecture: str
    sha256: str
    depends: tuple[tuple[str, ...], ...]

    @property
    def identity(self) -> str:
        """Name, version and architecture in one word."""
        return f"{self.name}_{self.version}_{self.architecture}"

    @property
    def file_name(self) -> str:
        """Name under which apt stores the package (a colon in the version is escaped)."""
        return f"{self.identity.replace(':', '%3a')}.deb"

    @property
    def upstream_version(self) -> str:
        """Version without epoch and distribution revision."""
        return self.version.split(":", 1)[-1].rsplit("-", 1)[0]


def parse_show(text: str) -> Iterator[Package]:
    """Packages in the output of ``apt-cache show``; stanzas without a file to fetch are left out."""
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, flags=re.MULTILINE))
        if not {"Package", "Version", "Architecture", "SHA256"} <= fields.keys():
            continue
        yield Package(
            name=fields["Package"],
            version=fields["Version"],
            architecture=fields["Architecture"],
            sha256=fields["SHA256"],
            depends=(
                *_parse_depends(fields.get("Pre-Depends", "")),
                *_parse_depends(fields.get("Depends", "")),
            ),
        )


def _parse_depends(text: str) -> Iterator[tuple[str, ...]]:
    for group in text.split(","):
        names = (re.sub(r"[(\[].*", "", option).split(":")[0].strip() for option in group.split("|"))
        alternatives = tuple(name for name in names if name)
        if alternatives:
            yield alternatives


class AptCatalog:
    """The package lists of this machine (``apt-get update`` is the caller's business).

    :param index: folder for apt's binary indexes: without them, every call would parse all lists again.
    """

    def __init__(self, index: Path) -> None:
        index.mkdir(parents=True, exist_ok=True)
        places = {"pkgcache": "all.bin", "srcpkgcache": "lists.bin"}
        options = [
            word for key, file in places.items() for word in ("-o", f"Dir::Cache::{key}={index.resolve() / file}")
        ]
        self._apt_cache = ("apt-cache", *options)

    def __call__(self, names: Sequence[str]) -> dict[str, Package]:
        found = self._show(names, "--no-all-versions")
        for name in names:
            # A locally installed version that no list offers: fall back to one that can be fetched.
            if name not in found:
                found |= self._show([name], "--all-versions")
            if name not in found and (provider := self._provider(name)) is not None:
                found[name] = provider
        return {name: found[name] for name in names if name in found}

    def _show(self, names: Sequence[str], which: str) -> dict[str, Package]:
        text = run([*self._apt_cache, "show", which, *names], accept=frozenset({0, 100}))
        packages: dict[str, Package] = {}
        for package in parse_show(text):
            packages.setdefault(package.name, package)
        return packages

    def _provider(self, name: str) -> Package | None:
        text = run([*self._apt_cache, "showpkg", name], accept=frozenset({0, 100}))
        providers = re.findall(r"^(\S+) \S+ \(= .*\)$", text.partition("Reverse Provides:")[2], re.MULTILINE)
        for provider in sorted(set(providers)):
            if (package := self._show([provider], "--no-all-versions").get(provider)) is not None:
                return package
        return None


def resolve(wanted: Iterable[str], excluded: Sequence[str], catalog: Catalog) -> tuple[Package, ...]:
    """The wanted packages and everything they depend on, sorted by name.

    :param excluded: patterns of names that are not followed.
    :raises BuildError: a name that the catalog does not know.
    """

    def leave_out(name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in excluded)

    chosen: dict[str, Package] = {}
    groups: list[tuple[str, ...]] = [(name,) for name in wanted]
    while groups:
        level = catalog(sorted({name for group in groups for name in group if not leave_out(name)}))
        following: list[tuple[str, ...]] = []
        for group in groups:
            if any(leave_out(name) for name in group):
                continue
            package = next((level[name] for name in group if name in level), None)
            if package is None:
                raise BuildError(f"no package {' or '.join(group)} in the package lists (apt-get update?)")
            if package.name not in chosen and not leave_out(package.name):
                chosen[package.name] = package
                following.extend(package.depends)
        groups = [group for group in following if not any(name in chosen for name in group)]
    return tuple(chosen[name] for name in sorted(chosen))


def kernel_packages(metapackages: Sequence[str], catalog: Catalog) -> tuple[Package, ...]:
    """The packages with the kernel and its modules behind the first known metapackage.

    :raises BuildError: none of them is known.
    """
    known = catalog(metapackages)
    for name in metapackages:
        if name in known:
            break
    else:
        raise BuildError(f"none of {', '.join(metapackages)} is in the package lists (apt-get update?)")
    kernel_parts = re.compile(r"linux-(image|modules)-\d")
    chosen: dict[str, Package] = {}
    pending = [option[0] for option in known[name].depends]
    while pending:
        wanted = sorted({part for part in pending if kernel_parts.match(part) and part not in chosen})
        level = catalog(wanted) if wanted else {}
        chosen |= {package.name: package for package in level.values()}
        pending = [option[0] for package in level.values() for option in package.depends]
    if not chosen:
        raise BuildError(f"{name} names no kernel package")
    return tuple(chosen[part] for part in sorted(chosen))


def fetch(packages: Iterable[Package], folder: Path) -> dict[str, Path]:
    """Make sure that every package lies in the folder with the right checksum.

    :return: package name to file.
    :raises BuildError: a package cannot be fetched or differs from the package lists.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = tuple(packages)
    missing = [package for package in wanted if not _intact(folder / package.file_name, package)]
    if missing:
        words = [f"{package.name}={package.version}" for package in missing]
        run(["apt-get", "-q", *_APT, "download", *words], cwd=folder, seconds=600)
    for package in missing:
        if not _intact(folder / package.file_name, package):
            raise BuildError(f"{package.file_name} differs from the package lists")
    return {package.name: folder / package.file_name for package in wanted}


def _intact(file: Path, package: Package) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == package.sha256
