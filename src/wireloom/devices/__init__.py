"""The device catalogue: what kinds of nodes exist, as data."""

from wireloom.devices.catalogue import DeviceCatalogue
from wireloom.devices.folder import DeviceFolder

__all__ = ["DeviceCatalogue", "DeviceFolder"]
