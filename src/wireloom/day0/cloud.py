"""Files that cloud-init looks for beside the user data, unless a device brings its own. All are templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from wireloom.model.device import Day0

__all__ = ["cloud_files", "user_data_default"]

_META_DATA: Final = """\
instance-id: {{ node_id | quote }}
local-hostname: {{ hostname | quote }}
"""

#: The NIC is found by its address, since its name depends on the machine. The management network hands out addresses.
_NETWORK_CONFIG: Final = """\
{% if mgmt_ipv4 %}
version: 2
ethernets:
  mgmt:
    match:
      macaddress: {{ mgmt_mac | quote }}
    dhcp4: true
{% endif %}
"""

_META_DATA_JSON: Final = """\
{"uuid": {{ node_id | quote }}, "hostname": {{ hostname | quote }}, "name": {{ hostname | quote }}}
"""

_DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "nocloud": {"meta-data": _META_DATA, "network-config": _NETWORK_CONFIG},
    "configdrive": {"openstack/latest/meta_data.json": _META_DATA_JSON},
}

#: A node without user data has some all the same, because without the file cloud-init sees no source at all.
_EMPTY_USER_DATA: Final = "#cloud-config\n{}\n"


def cloud_files(day0: Day0) -> dict[str, str]:
    """``day0.extra`` with what its method needs besides, templates by path; one that comes out empty is left out."""
    defaults = _DEFAULTS.get(day0.method, {})
    return {**defaults, **day0.extra}


def user_data_default(day0: Day0) -> str | None:
    """What stands at ``day0.path`` when there is nothing to put there; ``None``: nothing does."""
    return _EMPTY_USER_DATA if day0.method in _DEFAULTS else None
