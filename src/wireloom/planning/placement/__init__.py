"""Choosing a host for each node: capacity, abilities, pins, labels, anti-affinity, few wires between hosts. Pure."""

from wireloom.planning.placement.place import place
from wireloom.planning.placement.types import USUAL, Choice, HostOffer, NodeWish, Placement, PlacementOptions, Suits

__all__ = ["USUAL", "Choice", "HostOffer", "NodeWish", "Placement", "PlacementOptions", "Suits", "place"]
