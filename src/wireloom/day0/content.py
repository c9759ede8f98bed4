"""What goes to a guest before its first boot: the startup configuration and the device's further files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wireloom.day0.archive import build_tar_gz
from wireloom.day0.cloud import cloud_files, user_data_default
from wireloom.day0.crypt import salt_for
from wireloom.day0.mime import Part, build_multipart
from wireloom.day0.templates import render
from wireloom.day0.values import ended
from wireloom.errors import InvalidInput
from wireloom.model.device import Day0
from wireloom.model.slice import NodeIntent

__all__ = ["render_day0", "render_smbios", "startup_text"]


def startup_text(node: NodeIntent, values: Mapping[str, Any]) -> str | None:
    """The configuration that ``node`` starts with: the active revision of its store, else what its file says.

    A template (of the device, or a file that ends in ``.j2``) is filled in; text is taken as it is, after the template
    where there are both (a ``.partial`` file). ``None``: the node has no configuration.

    :raises InvalidInput: a template that cannot be filled in.
    """
    if node.stored_config is not None:
        return node.stored_config.text
    if not node.startup_template:
        return node.startup_config
    what = f"startup configuration of {node.name} ({node.device})"
    text = render(node.startup_template, values, what=what, salt=salt_for(node.id))
    return text if node.startup_config is None else ended(text) + node.startup_config


def render_day0(day0: Day0, values: Mapping[str, Any], *, config: str | None, device: str = "") -> dict[str, bytes]:
    """The files of ``day0``, path to content.

    :param values: variables of its templates; see :func:`wireloom.day0.values.template_values`.
    :param config: the startup configuration, taken as it is, with a line feed at its end; ``None`` leaves its file out.
    :param device: for errors.
    :raises InvalidInput: a template that cannot be filled in, or two contents for one path.
    """
    filler = _Filler(day0, values, config, device)
    extra = {name: filler.fill(name, template) for name, template in cloud_files(day0).items()}
    files = {name: text.encode() for name, text in extra.items() if name not in day0.mime and _is_wanted(day0, text)}
    main = build_multipart(_parts(day0, filler, extra)) if day0.mime else filler.main()
    if main is None:
        return files
    path = day0.archive or day0.path
    if path in files:
        raise InvalidInput(f"day-0 file {path} is both the configuration and an extra file")
    content = ended(main).encode()
    files[path] = build_tar_gz({day0.path: content}) if day0.archive else content
    return files


def render_smbios(day0: Day0, values: Mapping[str, Any], *, config: str | None, device: str = "") -> dict[str, str]:
    """SMBIOS entries by name, such as ``system.product``; see :func:`render_day0`. Line feeds become spaces."""
    filler = _Filler(day0, values, config, device)
    entries = {name: filler.fill(name, template) for name, template in day0.extra.items()}
    main = filler.main()
    if main is not None:
        entries[day0.path] = main
    return {name: " ".join(text.split("\n")).strip() for name, text in entries.items()}


class _Filler:
    """Fills in the templates of one method for one node."""

    def __init__(self, day0: Day0, values: Mapping[str, Any], config: str | None, device: str) -> None:
        self._day0 = day0
        self._device = device
        self._salt = salt_for(str(values.get("node_id", "")))
        self._config = config
        self._values = {**values, "config": ended(config or "")}

    def fill(self, name: str, template: str) -> str:
        what = f"{self._device}: {name}" if self._device else name
        return render(template, self._values, what=what, salt=self._salt)

    def main(self) -> str | None:
        """What stands at the configuration's place."""
        if self._day0.template:
            return self.fill(self._day0.path, self._day0.template)
        return self._config if self._config is not None else user_data_default(self._day0)

    @property
    def config(self) -> str:
        return str(self._values["config"]) if not self._day0.template else self.fill("config", self._day0.template)


def _parts(day0: Day0, filler: _Filler, extra: Mapping[str, str]) -> list[Part]:
    texts = {**extra, "config": filler.config}
    missing = sorted(day0.mime.keys() - texts.keys())
    if missing:
        raise InvalidInput(f"part {missing[0]!r} of day-0 file {day0.path} has no text under `extra`")
    return [Part(name, content_type, texts[name]) for name, content_type in day0.mime.items() if texts[name]]


def _is_wanted(day0: Day0, text: str) -> bool:
    """A file that cloud-init would take as broken when it is empty is left out."""
    return bool(text.strip()) or user_data_default(day0) is None
