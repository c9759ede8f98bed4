"""The variables of day-0 templates: what is known of a node on the host that runs it.

=====================  ==================================================================================
``hostname``, ``node`` the node's name; ``lab`` is the lab's, ``node_id`` an id that no other node has
``username``           of the device's access, as are ``password`` and ``enable_password``
``mgmt_ipv4``          address on the management network, ``""`` for a node that is not on it; with it go
                       ``mgmt_prefix`` (``20``), ``mgmt_netmask`` (``255.255.240.0``), ``mgmt_mac``,
                       ``gateway``, ``dns`` (a name server) and ``domain`` (``lab.wl``)
``authorized_keys``    public SSH keys, one a line with a line feed; ``authorized_keys | lines`` is a list
``ports``              list of the node's data ports, each with ``name`` (the vendor's), ``guest_name``,
                       ``index`` (from 1), ``mac``, and ``linked`` (spare ports of a machine are not)
``config``             the startup configuration, or ``""``; only in templates of day-0 files
``number``             from 1, of its own among the nodes of the host; only in environment variables of devices
=====================  ==================================================================================
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from wireloom.model.slice import NodeIntent, Slice

__all__ = ["CONFIG_VARIABLES", "VARIABLES", "template_values"]

#: What a startup configuration may use.
CONFIG_VARIABLES: Final = frozenset(
    {
        "authorized_keys", "dns", "domain", "enable_password", "gateway", "hostname", "lab", "mgmt_ipv4", "mgmt_mac",
        "mgmt_netmask", "mgmt_prefix", "node", "node_id", "password", "ports", "username",
    }
)  # fmt: skip

#: What a template of a day-0 file may use.
VARIABLES: Final = CONFIG_VARIABLES | {"config"}


def template_values(lab: Slice, node: NodeIntent, authorized_keys: str = "") -> dict[str, Any]:
    """The variables of ``node`` but ``config``.

    :param authorized_keys: public keys as OpenSSH writes them, one a line.
    """
    return {
        "hostname": node.name,
        "node": node.name,
        "node_id": node.id,
        "lab": lab.lab,
        "username": node.access.username,
        "password": node.access.password,
        "enable_password": node.access.enable_password,
        "authorized_keys": ended(authorized_keys),
        "ports": [
            {
                "name": port.name,
                "guest_name": port.guest_name,
                "index": port.index,
                "mac": port.mac,
                "linked": port.role == "data",
            }
            for port in node.ports
            if port.index > 0
        ],
        **_management(lab, node),
    }


def ended(text: str) -> str:
    """``text`` with a line feed at its end."""
    return text if not text or text.endswith("\n") else text + "\n"


def _management(lab: Slice, node: NodeIntent) -> dict[str, str]:
    port = node.port(0)
    values = dict.fromkeys(("mgmt_ipv4", "mgmt_prefix", "mgmt_netmask", "gateway", "dns", "domain"), "")
    values["mgmt_mac"] = port.mac if port is not None else ""
    if lab.management is None or node.mgmt_ipv4 is None:
        return values
    subnet = ipaddress.ip_network(lab.management.subnet)
    return values | {
        "mgmt_ipv4": node.mgmt_ipv4,
        "mgmt_prefix": str(subnet.prefixlen),
        "mgmt_netmask": str(subnet.netmask),
        "gateway": lab.management.gateway,
        "dns": lab.management.gateway,
        "domain": f"{lab.lab}.{lab.management.domain}",
    }
