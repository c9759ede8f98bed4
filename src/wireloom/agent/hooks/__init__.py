"""Hooks: one concern a file, run by the runner around a provider's leaf verbs.

::

    up:      before_create ─> create ─> before_start ─> start ─> gated ─> release ─> released
    stop:    before_stop ─> stop ─> stopped
    remove:  (stop) ─> destroy ─> destroyed

Every method may run again after a crash at any point, so each is idempotent. An error ends the verb; what hooks made in
``before_create`` is taken back through ``context.undo`` when the runtime cannot be created. Hooks run in the order in
which the agent's composition names them; ``before_stop``, ``stopped`` and ``destroyed`` run in the reverse order.
"""

from __future__ import annotations

from wireloom.agent.hooks.base import Hook

__all__ = ["Hook"]
