"""Day-0 media of a node definition, as device files have them. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from wireloom.library.media.definitions import ConfigFile, Provisioning
from wireloom.library.media.devicetext import as_template, compact

__all__ = ["ContainerRun", "Day0Plan", "container_run", "fixed_files", "plan_day0"]

#: Work on a medium that the platform does itself: scripts are not run here.
_NO_PARTITION: Final = "cml-partition.cfg"
_HOOKS: Final = frozenset({"cml-customizer.sh", _NO_PARTITION})
#: How a container is run; not for the guest.
_RUN_FILE: Final = "config.json"
_RUN_BYTES: Final = 64 << 10
_FAT_LABEL: Final = 11
_CLOUD: Final = {"user-data": "nocloud", "openstack/latest/user_data": "configdrive"}
#: Made anew for every node: names of NICs and instances on the platform are not ours.
_CLOUD_OWN: Final = frozenset({"meta-data", "network-config", "openstack/latest/meta_data.json"})
_CLOUD_LABELS: Final = {"nocloud": "cidata", "configdrive": "config-2"}
_MOUNT: Final = re.compile(
    r"type=bind,source=cfg/(?P<file>[^,/]{1,64}),target=(?P<target>/[A-Za-z0-9._/@+-]{1,255})(?:,.*)?"
)


@dataclass(frozen=True)
class Day0Plan:
    """:ivar entry: of ``day0``; empty: there is no way. :ivar config: template of the startup configuration."""

    entry: dict[str, Any]
    config: str = ""
    warnings: tuple[str, ...] = ()


def plan_day0(provisioning: Provisioning | None) -> Day0Plan:
    """How a machine gets its configuration. Warnings are what is not taken over, here and everywhere."""
    if provisioning is None or not provisioning.files:
        return Day0Plan({})
    files = {item.name: item for item in provisioning.files if item.name not in _HOOKS}
    hooks = [item.name for item in provisioning.files if item.name in _HOOKS and item.name != _NO_PARTITION]
    warnings = [f"its script {name}" for name in hooks]
    main = _main(files)
    if main is None or provisioning.media_type in {"ext4", "raw"}:
        kind = provisioning.media_type
        return Day0Plan({}, warnings=(*warnings, f"its day-0 medium, of the kind {kind}"))
    entry = _iso(provisioning, main) if provisioning.media_type == "iso" else _fat(provisioning, main)
    own = _CLOUD_OWN if {"nocloud", "configdrive"} & set(entry) else frozenset[str]()
    others = {name: item for name, item in files.items() if item is not main and name not in own}
    extra = {name: as_template(item.content) for name, item in others.items()}
    return Day0Plan(compact({**entry, "extra": extra}), as_template(main.content), tuple(warnings))


def fixed_files(provisioning: Provisioning | None) -> dict[str, str]:
    """Files that the platform puts on the CD whatever the configuration; name to template."""
    if provisioning is None or provisioning.media_type != "iso":
        return {}
    return {
        item.name: as_template(item.content)
        for item in provisioning.files
        if not item.editable and item.content and item.name not in _HOOKS
    }


def _main(files: dict[str, ConfigFile]) -> ConfigFile | None:
    """The file that is the configuration: cloud-init's user data, else the first that a user may edit."""
    cloud = next((files[name] for name in _CLOUD if name in files), None)
    return cloud or next((item for item in files.values() if item.editable), None)


def _iso(provisioning: Provisioning, main: ConfigFile) -> dict[str, Any]:
    method = _CLOUD.get(main.name, "")
    label = _label(provisioning.volume_name, 32)
    if method and label.casefold() == _CLOUD_LABELS[method]:
        return {method: main.name}
    return {"iso": main.name, "label": label}


def _fat(provisioning: Provisioning, main: ConfigFile) -> dict[str, Any]:
    partition = all(item.name != _NO_PARTITION for item in provisioning.files)
    label = _label(provisioning.volume_name, _FAT_LABEL)
    return {"fat": main.name, "label": label, "attach": "disk", "partition": partition}


def _label(text: str, limit: int) -> str:
    return re.sub(r"[^A-Za-z0-9_ -]", "-", text)[:limit].strip() or "disk"


# ------------------------------------------------------------------ containers


@dataclass(frozen=True)
class ContainerRun:
    """How a container is run: parts of ``providers.docker``, and of the device itself."""

    settings: dict[str, Any]
    env: dict[str, str]
    shell: str
    commands: tuple[tuple[str, ...], ...]
    day0: Day0Plan
    warnings: tuple[str, ...] = ()


def container_run(provisioning: Provisioning | None) -> ContainerRun:
    """What a container's definition says of its run. What is not understood is left out, and said."""
    files = {item.name: item for item in provisioning.files} if provisioning is not None else {}
    written = files.pop(_RUN_FILE, None)
    said, warnings = _read_run(written.content if written is not None else "")
    part = said.get("docker")
    docker: dict[str, Any] = part if isinstance(part, dict) else {}
    arguments = _texts(docker.get("misc_args"))
    settings: dict[str, Any] = {
        "cap_add": [cap for cap in _texts(docker.get("caps")) if re.fullmatch(r"\w{1,40}", cap)]
    }
    if "--privileged" in arguments:
        settings["privileged"] = True
    warnings += [f"its argument {word}" for word in arguments if word != "--privileged"]
    env = dict(pair.split("=", 1) for pair in _texts(docker.get("env")) if re.match(r"[A-Za-z_]\w{0,127}=", pair))
    day0, unmounted = _mounted(files, _texts(docker.get("mounts")))
    command = tuple(_texts(said.get("day0cmd")))
    return ContainerRun(
        settings=settings,
        env={name: as_template(value) for name, value in env.items()},
        shell=next(iter(_texts([said.get("shell")])), ""),
        commands=(command,) if command else (),
        day0=day0,
        warnings=(*warnings, *unmounted),
    )


def _read_run(text: str) -> tuple[dict[str, Any], list[str]]:
    if not text:
        return {}, []
    try:
        said = json.loads(text) if len(text) <= _RUN_BYTES else None
    except (ValueError, RecursionError):
        said = None
    return (said, []) if isinstance(said, dict) else ({}, [f"its {_RUN_FILE}, which cannot be read"])


def _texts(value: Any) -> list[str]:
    """Texts of one line in a list; nothing else."""
    items = value if isinstance(value, list) else []
    return [item for item in items[:64] if isinstance(item, str) and len(item) <= 512 and item.isprintable()]


def _mounted(files: dict[str, ConfigFile], mounts: list[str]) -> tuple[Day0Plan, list[str]]:
    """Files by their place in the container."""
    places: dict[str, ConfigFile] = {}
    warnings: list[str] = []
    for mount in mounts:
        found = _MOUNT.fullmatch(mount)
        item = files.get(found["file"]) if found is not None else None
        if found is None or item is None or ".." in found["target"]:
            warnings.append(f"its mount {mount[:80]}")
        else:
            places[found["target"]] = item
    main = next((place for place, item in places.items() if item.editable), None)
    if main is None:
        return Day0Plan({}), warnings
    extra = {place: as_template(item.content) for place, item in places.items() if place != main}
    return Day0Plan(compact({"file": main, "extra": extra}), as_template(places[main].content)), warnings
