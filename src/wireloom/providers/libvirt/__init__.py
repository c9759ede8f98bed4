"""Virtual machines by libvirt and QEMU. See README.md in this folder."""

from wireloom.providers.libvirt.provider import LibvirtProvider
from wireloom.providers.libvirt.settings import LibvirtSettings

__all__ = ["LibvirtProvider", "LibvirtSettings"]
