"""What the reference images are made of, as data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CMDLINE",
    "DISK_FORMAT",
    "EXCLUDED_PACKAGES",
    "INITRAMFS_FALLBACK",
    "INITRAMFS_FIRST",
    "INITRAMFS_HELPERS",
    "LAYERS",
    "MODULES",
    "MODULE_FOLDERS",
    "PRUNED_PATHS",
    "RECIPES",
    "DiskFormat",
    "Recipe",
]


@dataclass(frozen=True)
class Recipe:
    """One image.

    :ivar name: folder under ``guest/``, file name stem and repository name.
    :ivar packages: what is asked for by name; everything else follows from their dependencies.
    :ivar version_of: package whose upstream version is the image's version.
    :ivar capabilities: kernel capabilities that a container of it needs beyond the engine's default.
    :ivar keeps: of ``EXCLUDED_PACKAGES``, the patterns that do not hold for it.
    :ivar kernels: metapackages of its virtual machine's kernel, in order of preference.
    :ivar title: for a container engine's listing.
    :ivar efi: its disk boots from UEFI firmware as well.
    :ivar kinds: what is built of it.
    :ivar bytecode: its Python library is compiled ahead, since compiling takes long in an emulated machine.
    :ivar loads: nodes are made of its container, so engines get it.
    """

    name: str
    packages: tuple[str, ...]
    version_of: str
    capabilities: tuple[str, ...]
    keeps: frozenset[str] = frozenset()
    kernels: tuple[str, ...] = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-kvm")
    title: str = "reference image"
    efi: bool = False
    kinds: tuple[str, ...] = ("container", "disk")
    bytecode: bool = False
    loads: bool = True

    @property
    def excluded(self) -> tuple[str, ...]:
        """Patterns of packages that are not followed for it."""
        return tuple(pattern for pattern in EXCLUDED_PACKAGES if pattern not in self.keeps)


_BASE = (
    "bash",
    "busybox-static",
    "dash",
    "dropbear-bin",
    "ethtool",
    "iproute2",
    "iputils-ping",
    "ncurses-base",
)

RECIPES = (
    Recipe("frr", (*_BASE, "frr"), version_of="frr", capabilities=("NET_ADMIN", "SYS_ADMIN")),
    Recipe("linux", (*_BASE, "iperf3", "tcpdump"), version_of="iproute2", capabilities=("NET_ADMIN",)),
    # Emulations of other systems' command lines, for tests. They run on the hardware that the real systems want
    # (AHCI, e1000, USB sticks), for which the cloud kernels have no drivers.
    Recipe(
        "emulated",
        (
            *("bash", "busybox-static", "dash", "iproute2", "iputils-ping", "ncurses-base"),
            *("openssh-client", "openssh-server", "python3-minimal"),
        ),
        version_of="python3-minimal",
        capabilities=("NET_ADMIN",),
        keeps=frozenset({"python3*"}),
        kernels=("linux-image-amd64", "linux-image-generic"),
        title="emulated devices for tests",
        efi=True,
    ),
    # Not for labs: a kernel with all that a data plane can use, which runs the test suite that a second disk brings.
    Recipe(
        "dataplane",
        ("bash", "busybox-static", "coreutils", "dash", "ethtool", "iproute2", "kmod", "openvswitch-switch", "python3"),
        version_of="openvswitch-switch",
        capabilities=(),
        keeps=frozenset({"python3*"}),
        kernels=("linux-image-amd64", "linux-image-generic"),
        title="proving ground of data planes",
        kinds=("disk",),
        bytecode=True,
    ),
    # Not for labs: what images for IOL are built on, by the library and without a network. The library adds the program
    # and what runs beside it. Old IOL has 32 bits.
    Recipe(
        "iol-base",
        (
            *("busybox-static", "dash", "iproute2", "ncurses-base", "python3-minimal"),
            *("libc6-i386", "lib32gcc-s1", "lib32stdc++6", "libgcc-s1", "libssl3", "libstdc++6", "zlib1g"),
        ),
        version_of="python3-minimal",
        capabilities=(),
        keeps=frozenset({"python3*"}),
        title="base of IOL images",
        kinds=("container",),
        bytecode=True,
        loads=False,
    ),
)

EXCLUDED_PACKAGES = (
    # Set-up of a full distribution: maintainer scripts do not run here, accounts come from guest/.
    "adduser",
    "base-files",
    "cdebconf*",
    "cron*",
    "debconf*",
    "debianutils",
    "dpkg",
    "gcc-*-base",
    "init-system-helpers",
    "install-info",
    "libcap2-bin",
    "libpam-modules*",
    "libpam-runtime",
    "logrotate",
    "lsb-base",
    "lsof",
    "passwd",
    "perl*",
    "python3*",
    "systemd*",
    "sysvinit-utils",
    "runit-helper",
    "ucf",
)
"""Patterns of packages that are never followed when dependencies are resolved."""

PRUNED_PATHS = (
    "./etc/cron*",
    "./etc/init.d",
    "./etc/logrotate.d",
    "./etc/pam.d",
    "./etc/skel",
    "./lib/systemd",
    "./usr/include",
    "./usr/lib/systemd",
    "./usr/lib/tmpfiles.d",
    "./usr/lib/*/audit",
    "./usr/lib/*/gconv",
    "./usr/share/bash-completion",
    "./usr/share/bug",
    "./usr/share/doc",
    "./usr/share/doc-base",
    "./usr/share/info",
    "./usr/share/initramfs-tools",
    "./usr/share/lintian",
    "./usr/share/locale",
    "./usr/share/man",
    # A plugin for ATM, whose library is only recommended.
    "./usr/lib/*/tc/q_atm.so",
)
"""Paths (tar patterns) in packages that no guest needs."""

INITRAMFS_FIRST = ("virtio_pci", "virtio_blk", "ext4")
"""Loaded before the first look for the root disk: the usual case needs no more."""

INITRAMFS_HELPERS = ("crc32c_generic",)
"""Loaded with them where a kernel has them as modules: ext4 asks for these without depending on them."""

INITRAMFS_FALLBACK = ("sd_mod", "virtio_scsi", "ata_piix", "ahci")
"""Loaded when the root disk was not found."""

MODULES = (
    *INITRAMFS_HELPERS,
    *INITRAMFS_FIRST,
    *INITRAMFS_FALLBACK,
    "ahci",
    "button",
    "e1000",
    "e1000e",
    "ehci_pci",
    "evdev",
    "fat",
    "isofs",
    "nls_ascii",
    "nls_cp437",
    "nls_iso8859_1",
    "nls_utf8",
    "psmouse",
    "pcnet32",
    "8139cp",
    "sr_mod",
    "uhci_hcd",
    "usb_storage",
    "vfat",
    "virtio_balloon",
    "virtio_console",
    "virtio_net",
    "virtio_rng",
    "xhci_pci",
    # Networking that a router or host of a lab wants of its own kernel.
    "bonding",
    "dummy",
    "geneve",
    "ifb",
    "ipvlan",
    "macsec",
    "macvlan",
    "tun",
    "veth",
    "vmxnet3",
    "vrf",
    "vxlan",
    "wireguard",
)
"""Kernel modules that go into the disks, with what they depend on; what a kernel lacks is left out."""

MODULE_FOLDERS = (
    "kernel/net/8021q/",
    "kernel/net/bridge/",
    "kernel/net/ipv4/",
    "kernel/net/ipv6/",
    "kernel/net/mpls/",
    "kernel/net/netfilter/",
    "kernel/net/openvswitch/",
    "kernel/net/sched/",
)
"""Folders whose modules all go along: VLANs, tunnels, MPLS, packet filters, queueing disciplines."""

CMDLINE = "console=tty0 console=ttyS0,115200n8 net.ifnames=0 quiet loglevel=3 nokaslr mitigations=off"
"""Kernel command line. Mitigations cost a third of the speed under emulation, and a lab guest has no secrets."""


@dataclass(frozen=True)
class DiskFormat:
    """Sizes of the disk image, in MiB, and the label by which the initramfs finds the root."""

    boot_mib: int
    root_spare_mib: int
    root_label: str


LAYERS = ("", "-container", "-vm")
"""Endings of an image's folders under ``guest/``: files for both kinds, and those for one kind alone."""

DISK_FORMAT = DiskFormat(boot_mib=48, root_spare_mib=128, root_label="wireloom-root")
