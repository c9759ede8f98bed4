"""Nodes that move to and from this host: what is kept for others, and what is fetched from them."""

from wireloom.agent.moving.arrivals import Arrivals
from wireloom.agent.moving.departures import Departures
from wireloom.agent.moving.images import ArrivingImages
from wireloom.agent.moving.movers import Movers

__all__ = ["Arrivals", "ArrivingImages", "Departures", "Movers"]
