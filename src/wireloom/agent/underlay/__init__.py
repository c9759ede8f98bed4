"""Wires between hosts: the way there, and what the hosts tell each other of it."""

from wireloom.agent.underlay.secure import SecureLinks
from wireloom.agent.underlay.underlay import Underlay, UnderlayRules
from wireloom.agent.underlay.view import NO_UNDERLAY, UnderlayView

__all__ = ["NO_UNDERLAY", "SecureLinks", "Underlay", "UnderlayRules", "UnderlayView"]
