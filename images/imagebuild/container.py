"""Container images as docker archives, written without an engine, and loaded into one when it lacks them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from .process import BuildError, run
from .recipes import Recipe
from .rootfs import copy_guest_files

__all__ = ["KEY_LABEL", "load", "write_archive"]

KEY_LABEL = "wireloom.image.key"
"""Label of a container image with the build key: how an engine's copy is recognised as the current one."""

_ENTRYPOINT = "/usr/local/sbin/container-init"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/frr"
_CREATED = "1970-01-01T00:00:00Z"


def write_archive(*, root: Path, guest: Path, recipe: Recipe, version: str, key: str, target: Path) -> tuple[str, ...]:
    """Write an assembled tree as one docker archive.

    :param root: the tree; the container's own files are added to it.
    :return: the references under which the image loads.
    """
    for layer_of in ("container", f"{recipe.name}-container"):
        copy_guest_files(guest / layer_of, root)
    layer = target.with_suffix(".layer")
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            archive.add(path, str(path.relative_to(root)), recursive=False, filter=_reproducible)
    layer_digest = _sha256(layer)
    config = json.dumps(_config(recipe=recipe, version=version, key=key, layer_digest=layer_digest)).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    references = (f"wireloom/{recipe.name}:{version}", f"wireloom/{recipe.name}:latest")
    manifest = [{"Config": config_name, "RepoTags": references, "Layers": [f"{layer_digest}/layer.tar"]}]
    with tarfile.open(target, "w") as archive:
        _add_bytes(archive, config_name, config)
        _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())
        archive.add(layer, f"{layer_digest}/layer.tar", filter=_reproducible)
    layer.unlink()
    return references


def _config(*, recipe: Recipe, version: str, key: str, layer_digest: str) -> dict[str, object]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": _CREATED,
        "config": {
            "Entrypoint": [_ENTRYPOINT],
            "Env": [f"PATH={_PATH}"],
            "ExposedPorts": {"22/tcp": {}},
            "Labels": {
                KEY_LABEL: key,
                "org.opencontainers.image.title": f"Wireloom {recipe.title}: {recipe.name}",
                "org.opencontainers.image.version": version,
            },
            "StopSignal": "SIGTERM",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        "history": [{"created": _CREATED, "created_by": "wireloom images"}],
    }


def _reproducible(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 0
    member.uname = member.gname = ""
    return member


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load(archive: Path, reference: str, key: str) -> bool:
    """Load an archive into the Docker engine unless the engine has this very build.

    :return: whether it was loaded now.
    :raises BuildError: the engine does not answer, or holds something else after the load.
    """
    if _engine_key(reference) == key:
        return False
    run(["docker", "load", "--quiet", "--input", archive], seconds=300)
    # The build that had the names before is of no use any more, unless a container still runs it.
    run(["docker", "image", "prune", "--force", "--filter", f"label={KEY_LABEL}"])
    if _engine_key(reference) != key:
        raise BuildError(f"{reference} is not what {archive.name} holds after loading it")
    return True


def _engine_key(reference: str) -> str:
    template = f'{{{{index .Config.Labels "{KEY_LABEL}"}}}}'
    # A missing image is exit code 1; an engine that does not answer fails in the load that follows.
    return run(
        ["docker", "image", "inspect", "--format", template, reference], accept=frozenset({0, 1}), seconds=60
    ).strip()
