"""Lost hosts: leases in answer to heartbeats, and what becomes of the nodes of a host that is not heard any more."""

from wireloom.controller.recovery.give_away import LostNodes, PlaceAnew
from wireloom.controller.recovery.leases import LeaseKeeper, Silence
from wireloom.controller.recovery.recovery import GiveAway, Recovery

__all__ = ["GiveAway", "LeaseKeeper", "LostNodes", "PlaceAnew", "Recovery", "Silence"]
