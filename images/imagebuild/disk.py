"""Bootable disk images: syslinux on a small FAT partition, the root on ext4, all written in user space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .kernel import install_modules, make_initramfs, unpack_kernel
from .process import run
from .recipes import CMDLINE, DISK_FORMAT, Recipe
from .rootfs import copy_guest_files

__all__ = ["build_disk"]

_MIB = 1024 * 1024
_SECTORS_PER_MIB = 2048
_MBR_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
_MBR_CODE_SIZE = 440
_EFI_FILES = {
    Path("/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi"): "BOOTX64.EFI",
    Path("/usr/lib/syslinux/modules/efi64/ldlinux.e64"): "ldlinux.e64",
}


def build_disk(
    *, root: Path, kernel_packages: list[Path], guest: Path, recipe: Recipe, work: Path, target: Path
) -> None:
    """Turn an assembled tree into a bootable qcow2.

    :param root: the tree; it is changed (kernel modules and the virtual machine's own files are added).
    :param guest: the folder with the guest files.
    :param work: a folder for intermediate files.
    :raises BuildError: a tool failed.
    """
    kernel = unpack_kernel(kernel_packages, work / "kernel")
    index = install_modules(kernel, root)
    initramfs = make_initramfs(
        root=root,
        release=kernel.release,
        index=index,
        init=guest / "vm/initramfs/init",
        work=work,
        root_label=DISK_FORMAT.root_label,
    )
    _add_machine_files(root, guest, recipe)
    boot = _boot_partition(kernel.image, initramfs, work, efi=recipe.efi)
    _write_disk(boot, _root_partition(root, work), work / "disk.raw")
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", work / "disk.raw", target])


def _add_machine_files(root: Path, guest: Path, recipe: Recipe) -> None:
    for layer in ("vm", f"{recipe.name}-vm"):
        copy_guest_files(guest / layer, root)
    shutil.rmtree(root / "initramfs")
    (root / "mnt/day0").mkdir()
    init = root / "sbin/init"
    init.unlink(missing_ok=True)
    init.symlink_to("/bin/busybox")


def _boot_partition(kernel: Path, initramfs: Path, work: Path, *, efi: bool) -> Path:
    image = work / "boot.fat"
    os.truncate(_empty(image), DISK_FORMAT.boot_mib * _MIB)
    run(["mkfs.vfat", "-F", "16", "-n", "WLBOOT", image])
    config = work / "syslinux.cfg"
    config.write_text(
        "DEFAULT wireloom\nPROMPT 0\nTIMEOUT 0\n"
        f"LABEL wireloom\n LINUX /vmlinuz\n INITRD /initrd.img\n APPEND {CMDLINE}\n"
    )
    shutil.copyfile(kernel, work / "vmlinuz")
    run(["mcopy", "-i", image, work / "vmlinuz", initramfs, config, "::/"])
    run(["syslinux", "--install", image])
    if efi:
        _add_efi_loader(image)
    return image


def _add_efi_loader(image: Path) -> None:
    """Put syslinux where UEFI firmware looks for it; the configuration is the one of BIOS."""
    run(["mmd", "-i", image, "::/EFI", "::/EFI/BOOT"])
    for source, target in _EFI_FILES.items():
        run(["mcopy", "-i", image, source, f"::/EFI/BOOT/{target}"])


def _root_partition(root: Path, work: Path) -> Path:
    image = work / "root.ext4"
    used = sum(path.lstat().st_blocks * 512 for path in root.rglob("*"))
    os.truncate(_empty(image), (used // _MIB + DISK_FORMAT.root_spare_mib) * _MIB)
    options = ["-O", "^metadata_csum,^64bit", "-J", "size=4", "-m", "0", "-E", "lazy_itable_init=1"]
    run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", DISK_FORMAT.root_label, *options, "-d", root, image])
    return image


def _write_disk(boot: Path, root: Path, disk: Path) -> None:
    boot_mib, root_mib = boot.stat().st_size // _MIB, root.stat().st_size // _MIB
    os.truncate(_empty(disk), (1 + boot_mib + root_mib) * _MIB)
    layout = disk.with_suffix(".layout")
    layout.write_text(
        "label: dos\n"
        f"start={_SECTORS_PER_MIB}, size={boot_mib * _SECTORS_PER_MIB}, type=6, bootable\n"
        f"start={(1 + boot_mib) * _SECTORS_PER_MIB}, size={root_mib * _SECTORS_PER_MIB}, type=83\n"
    )
    run(["sh", "-c", 'exec sfdisk --quiet "$0" <"$1"', disk, layout])
    with disk.open("r+b") as file:
        file.write(_MBR_CODE.read_bytes()[:_MBR_CODE_SIZE])
    for image, start in ((boot, 1), (root, 1 + boot_mib)):
        run(["dd", f"if={image}", f"of={disk}", "bs=1M", f"seek={start}", "conv=notrunc,sparse"])


def _empty(file: Path) -> Path:
    file.write_bytes(b"")
    return file
