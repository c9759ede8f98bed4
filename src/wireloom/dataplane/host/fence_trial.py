"""Whether this kernel can keep what guests send from the host: found out by trying where nobody sees it."""

from __future__ import annotations

import os
from typing import Final

from wireloom.dataplane.host import traffic
from wireloom.dataplane.host.namespaces import enter, new_namespace

__all__ = ["why_no_fence"]

_LOOPBACK: Final = (1, "lo")


def why_no_fence() -> str:
    """Empty, or the reason. Blocking: for the data plane's worker thread."""
    namespace = new_namespace()
    try:
        with enter(namespace) as netlink:
            hook, _ = netlink.batch(traffic.apart(*_LOOPBACK))
            (shown,) = netlink.batch([traffic.get_fence(*_LOOPBACK)])
    finally:
        os.close(namespace)
    if shown.replies:
        return ""
    return f"this host's kernel lacks the module {'sch_ingress' if hook.failed else 'cls_bpf'}"
