"""Which packages every image is made of: asked of apt, and remembered until its package lists change."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import apt, recipes
from .apt import Package
from .process import run

__all__ = ["Resolution", "resolve_all"]


@dataclass(frozen=True)
class Resolution:
    """Exact packages by image name, and those of its virtual machine's kernel."""

    packages: dict[str, tuple[Package, ...]]
    kernels: dict[str, tuple[Package, ...]]


def resolve_all(cache: Path) -> Resolution:
    """Resolve every recipe.

    :param cache: folder for apt's indexes and the remembered answer.
    :raises BuildError: a package is not in the lists.
    """
    remembered = cache / "resolved.json"
    inputs = _inputs()
    try:
        document = json.loads(remembered.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        document = {}
    if document.get("inputs") == inputs:
        return Resolution(
            packages={name: _packages(entries) for name, entries in document["packages"].items()},
            kernels={name: _packages(entries) for name, entries in document["kernels"].items()},
        )
    catalog = apt.AptCatalog(cache)
    resolution = Resolution(
        packages={recipe.name: apt.resolve(recipe.packages, recipe.excluded, catalog) for recipe in recipes.RECIPES},
        kernels={recipe.name: apt.kernel_packages(recipe.kernels, catalog) for recipe in recipes.RECIPES},
    )
    remembered.write_text(json.dumps({"inputs": inputs, **asdict(resolution)}))
    return resolution


def _inputs() -> str:
    """Hash of what decides about the answer: this package's code and the state of apt's lists and preferences."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    places = run(["apt-config", "shell", "LISTS", "Dir::State::lists/d", "PINS", "Dir::Etc::preferencesparts/d"])
    for folder in sorted(line.partition("=")[2].strip("'") for line in places.splitlines()):
        for file in sorted(path for path in Path(folder).glob("*") if path.is_file()):
            facts = file.stat()
            digest.update(f"{file} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _packages(entries: list[dict[str, Any]]) -> tuple[Package, ...]:
    def package(entry: dict[str, Any]) -> Package:
        return Package(**{**entry, "depends": tuple(tuple(group) for group in entry["depends"])})

    return tuple(package(entry) for entry in entries)
