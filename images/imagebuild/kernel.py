"""The virtual machines' kernel: selected modules in the root tree, and an initramfs that finds the root."""

from __future__ import annotations

import gzip
import lzma
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import recipes
from .process import BuildError, run
from .rootfs import new_tree, unpack

__all__ = ["Kernel", "ModuleIndex", "install_modules", "make_initramfs", "unpack_kernel"]


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel.

    :ivar tree: folder with ``boot/`` and ``lib/modules/``.
    :ivar release: its release, the name of its folder of modules.
    """

    tree: Path
    release: str

    @property
    def image(self) -> Path:
        """The compressed kernel that a boot loader loads."""
        return self.tree / "boot" / f"vmlinuz-{self.release}"


def unpack_kernel(packages: Iterable[Path], tree: Path) -> Kernel:
    """Unpack kernel and modules.

    :raises BuildError: the packages hold no kernel, or more than one.
    """
    new_tree(tree)
    for package in packages:
        unpack(package, tree, excluded=("./usr/share", "./usr/lib/linux*", "./etc"))
    images = list((tree / "boot").glob("vmlinuz-*"))
    if len(images) != 1:
        raise BuildError(f"one kernel expected, {len(images)} found")
    kernel = Kernel(tree, images[0].name.removeprefix("vmlinuz-"))
    run(["depmod", "-b", tree, kernel.release])
    return kernel


class ModuleIndex:
    """``modules.dep`` and ``modules.builtin`` of one folder of modules.

    Read from the files, not through modprobe: that looks at the build host's running kernel too.
    """

    def __init__(self, folder: Path) -> None:
        self._paths: dict[str, str] = {}
        self._needs: dict[str, tuple[str, ...]] = {}
        for line in (folder / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            self._paths[module_name(path)] = path
            self._needs[path] = tuple(needs.split())
        builtin = (folder / "modules.builtin").read_text().splitlines()
        self._builtin = {module_name(path) for path in builtin}

    def is_builtin(self, name: str) -> bool:
        """Whether the kernel has the module's code in itself."""
        return name in self._builtin

    def under(self, folder: str) -> tuple[str, ...]:
        """Names of all modules below a folder such as ``kernel/net/sched/``."""
        return tuple(name for name, path in self._paths.items() if path.startswith(folder))

    def load_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Paths of the modules and their dependencies, each after what it needs; unknown names are skipped."""
        order: dict[str, None] = {}
        for name in names:
            if (path := self._paths.get(name)) is not None:
                order.update(dict.fromkeys((*reversed(self._needs[path]), path)))
        return tuple(order)


def module_name(path: str) -> str:
    """Name of a module as the kernel shows it: ``virtio_rng`` for ``…/virtio-rng.ko.xz``."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def install_modules(kernel: Kernel, root: Path) -> ModuleIndex:
    """Copy the recipes' modules into the root tree, decompressed (busybox loads plain files only)."""
    source = kernel.tree / "lib/modules" / kernel.release
    target = root / "lib/modules" / kernel.release
    available = ModuleIndex(source)
    folders = [name for folder in recipes.MODULE_FOLDERS for name in available.under(folder)]
    for path in available.load_order((*recipes.MODULES, *folders)):
        plain = target / (path.partition(".ko")[0] + ".ko")
        plain.parent.mkdir(parents=True, exist_ok=True)
        plain.write_bytes(_decompressed(source / path))
    for index in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(source / index, target / index)
    run(["depmod", "-b", root, kernel.release])
    return ModuleIndex(target)


_DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
    ".ko": bytes,
}


def _decompressed(module: Path) -> bytes:
    if module.suffix == ".zst":
        plain = module.with_suffix("")
        run(["zstd", "-q", "-d", "-f", module, "-o", plain])
        return plain.read_bytes()
    return _DECOMPRESSORS[module.suffix](module.read_bytes())


def make_initramfs(*, root: Path, release: str, index: ModuleIndex, init: Path, work: Path, root_label: str) -> Path:
    """Make the initramfs: busybox, block drivers and the order in which to load them.

    :param root: the finished root tree.
    :param init: the script that becomes ``/init``.
    :return: an uncompressed archive (unpacking costs more than reading under emulation).
    :raises BuildError: a driver of the usual boot path is neither a module nor built in.
    """
    for name in recipes.INITRAMFS_FIRST:
        if not index.load_order((name,)) and not index.is_builtin(name):
            raise BuildError(f"kernel {release} has no {name}")
    tree = work / "initramfs"
    for folder in ("bin", "dev", "modules", "newroot", "proc", "sys"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", tree / "bin/busybox")
    shutil.copyfile(init, tree / "init")
    (tree / "init").chmod(0o755)
    (tree / "root-label").write_text(f"{root_label}\n")
    modules = root / "lib/modules" / release
    first = (*recipes.INITRAMFS_HELPERS, *recipes.INITRAMFS_FIRST)
    for stage, names in (("first", first), ("fallback", recipes.INITRAMFS_FALLBACK)):
        order = index.load_order(names)
        for path in order:
            shutil.copyfile(modules / path, tree / "modules" / f"{module_name(path)}.ko")
        (tree / "modules" / stage).write_text("".join(f"{module_name(path)}\n" for path in order))
    return _cpio(tree, work / "initrd.img")


def _cpio(tree: Path, archive: Path) -> Path:
    names: Sequence[str] = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    listing = archive.with_suffix(".list")
    listing.write_text("".join(f"{name}\n" for name in names))
    options = "--quiet --create --format=newc --owner=0:0 --reproducible"
    run(["sh", "-c", f'exec cpio {options} --file="$0" <"$1"', archive, listing], cwd=tree)
    return archive
