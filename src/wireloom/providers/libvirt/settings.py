"""What a device or a topology may say about a virtual machine: strict, so that a typo is an error at once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wireloom.errors import InvalidInput

__all__ = ["DiskBus", "ExtraDisk", "LibvirtSettings", "NicModel", "SmbiosBlock", "parse_settings"]

DiskBus = Literal["virtio", "ide", "sata", "scsi"]
NicModel = Literal["virtio", "e1000", "e1000e", "rtl8139", "i82559er", "ne2k_pci", "pcnet", "vmxnet3"]
FeaturePolicy = Literal["force", "require", "optional", "disable", "forbid"]
SmbiosBlock = Literal["bios", "system", "baseBoard", "chassis"]

#: What libvirt takes as the name of a machine type, CPU model or feature.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
Word = Annotated[str, Field(pattern=f"^{_WORD.pattern}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExtraDisk(_Strict):
    """An empty disk beside the system disk, sparse; ``bus`` is that of the system disk unless given.

    :ivar serial: serial number by which the guest tells its disks apart.
    """

    size_gb: float = Field(gt=0, le=4096)
    bus: DiskBus | None = None
    serial: Word | None = None


class LibvirtSettings(_Strict):
    """Hardware of a virtual machine. Every default suits a current Linux guest.

    :ivar machine: QEMU machine type, e.g. ``pc``, ``q35``, ``pc-i440fx-6.2``.
    :ivar cpu_model: named model, or ``host-passthrough``, ``host-model``, ``maximum``; ``None`` takes the best
        that the acceleration offers.
    :ivar cpu_features: policy by feature, e.g. ``{"smep": "disable"}``.
    :ivar firmware: ``bios``, or ``uefi`` with the loader ``uefi_loader``; without ``uefi_nvram`` the flash is
        stateless (no variable store is added), with it the store is kept with the node's disks.
    :ivar smm: system management mode; ``None`` leaves it to the emulator.
    :ivar disk_bus: bus of the system disk; ``cdrom_bus`` of media (``None``: what the machine type has).
    :ivar nic_model: model of every port, ``mgmt_nic_model`` of the management port where that differs; ``nic_rom``
        offers network boot; ``nic_offload`` leaves checksum and segmentation offload on (off is needed by user-space
        switches).
    :ivar serials: number of serial lines, each with a console and a log.
    :ivar video: ``vnc`` adds a VGA card with VNC on a socket in the node's folder.
    :ivar smbios: entries by block, e.g. ``{"system": {"manufacturer": "cisco"}}``.
    :ivar rng: a virtio random number source.
    :ivar guest_agent: a virtio channel for the QEMU guest agent, by which the guest's health is known.
    :ivar extra_disks: further disks, empty when the node is new.
    """

    machine: Word = "pc"
    cpu_model: Word | None = None
    cpu_features: dict[Word, FeaturePolicy] = {}
    firmware: Literal["bios", "uefi"] = "bios"
    uefi_loader: str = Field("/usr/share/OVMF/OVMF_CODE_4M.fd", pattern="^/")
    uefi_nvram: bool = False
    uefi_nvram_template: str = Field("/usr/share/OVMF/OVMF_VARS_4M.fd", pattern="^/")
    smm: bool | None = None
    disk_bus: DiskBus = "virtio"
    cdrom_bus: Literal["ide", "sata", "scsi"] | None = None
    nic_model: NicModel = "virtio"
    mgmt_nic_model: NicModel | None = None
    nic_rom: bool = False
    nic_offload: bool = True
    serials: int = Field(1, ge=0, le=4)
    video: Literal["none", "vnc"] = "none"
    smbios: dict[SmbiosBlock, dict[Word, str]] = {}
    rng: bool = True
    guest_agent: bool = False
    extra_disks: tuple[ExtraDisk, ...] = Field((), max_length=8)

    @property
    def is_q35(self) -> bool:
        return "q35" in self.machine

    @property
    def media_bus(self) -> str:
        """Bus of CD-ROMs: as set, else the one that the machine type has built in."""
        return self.cdrom_bus or ("sata" if self.is_q35 else "ide")

    @model_validator(mode="after")
    def _buses_exist(self) -> LibvirtSettings:
        buses = {self.disk_bus, self.cdrom_bus, *(disk.bus for disk in self.extra_disks)}
        if self.is_q35 and "ide" in buses:
            raise ValueError("machine type q35 has no IDE bus; use sata, scsi or virtio")
        return self


def parse_settings(settings: dict[str, Any]) -> LibvirtSettings:
    """The settings of a runtime, validated. :raises InvalidInput: naming each wrong field."""
    try:
        return LibvirtSettings.model_validate(settings)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors()]
        raise InvalidInput(
            "settings of the virtual machine are wrong: " + "; ".join(problems), details={"problems": problems}
        ) from error
