"""libvirt's own event loop, once per process, in a thread of its own.

It must be registered before the first connection is opened: keep-alive, events and noticing a dead libvirtd all
hang on it. Nothing else runs in that thread; callbacks only hand values over to asyncio.
"""

from __future__ import annotations

import threading

import libvirt
import structlog

__all__ = ["ensure_event_loop"]

_log = structlog.get_logger(__name__)
_lock = threading.Lock()
_started = threading.Event()


def ensure_event_loop() -> None:
    """Start the loop if this process has none yet; thread-safe."""
    with _lock:
        if _started.is_set():
            return
        libvirt.virEventRegisterDefaultImpl()
        # Errors reach us as exceptions; libvirt would print each of them to stderr as well.
        libvirt.registerErrorHandler(_silence, None)
        threading.Thread(target=_run, name="libvirt-events", daemon=True).start()
        _started.set()


def _silence(_context: object, _error: object) -> None:
    return None


def _run() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            _log.warning("libvirt-event-loop", error=str(error))
