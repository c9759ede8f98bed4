"""The device catalogue: what kinds of nodes exist, as data."""

from wireloom.devices.catalogue import DeviceCatalogue

__all__ = ["DeviceCatalogue"]
