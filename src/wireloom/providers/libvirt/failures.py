"""libvirt's errors in the project's tree, by their codes."""

from __future__ import annotations

from typing import Final

import libvirt

from wireloom.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    NotPermitted,
    RuntimeFailed,
    Unavailable,
    WireloomError,
)

__all__ = ["engine_away", "translate"]

_CONNECTION_CODES: Final = {
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
}

_CLASSES: Final[dict[int, type[WireloomError]]] = {
    libvirt.VIR_ERR_NO_DOMAIN: NotFound,
    libvirt.VIR_ERR_DOM_EXIST: Conflict,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: DeadlineExceeded,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: InvalidInput,
    libvirt.VIR_ERR_XML_ERROR: InvalidInput,
    libvirt.VIR_ERR_XML_DETAIL: InvalidInput,
    libvirt.VIR_ERR_XML_INVALID_SCHEMA: InvalidInput,
    libvirt.VIR_ERR_OPERATION_DENIED: NotPermitted,
    libvirt.VIR_ERR_ACCESS_DENIED: NotPermitted,
    libvirt.VIR_ERR_AUTH_FAILED: NotPermitted,
}


def engine_away(reason: str) -> Unavailable:
    """The error while libvirtd does not answer."""
    return Unavailable(f"libvirt does not answer: {reason}", hint="is libvirtd running?")


def translate(error: libvirt.libvirtError) -> WireloomError:
    """The project's error for one of libvirt's; its code and text are kept in ``details`` and the message."""
    code = error.get_error_code()
    message = error.get_error_message() or str(error)
    if code in _CONNECTION_CODES or error.get_error_domain() == libvirt.VIR_FROM_RPC:
        return engine_away(message)
    cls = _CLASSES.get(code, RuntimeFailed)
    return cls(f"libvirt: {message}", details={"libvirt_code": code, "libvirt_domain": error.get_error_domain()})
