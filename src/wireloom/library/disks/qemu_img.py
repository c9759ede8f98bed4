"""``qemu-img`` on files of unknown origin: bounded, with the format said, and with nothing else to open."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from wireloom.commands import Finished
from wireloom.errors import CapacityExceeded
from wireloom.library.bounded import Bounds, run_bounded
from wireloom.library.disks.reading import Driver, check_virtual_size
from wireloom.library.values import ImageRefused, Limits, Progress, Reason

__all__ = ["Checked", "check", "convert", "inspect"]

_PERCENT: Final = re.compile(rb"\(([0-9.]+)/100%\)")
_CLEAN, _CORRUPT, _LEAKS, _NOT_SUPPORTED = 0, 2, 3, 63
#: A disk that has less space left than that was full when a program gave up.
_FULL: Final = 16 << 20
#: What a conversion writes at the same time: eight requests of two MiB.
_AT_ONCE: Final = 16 << 20
_NO_PARENT: Final = 0xFFFFFFFF  # of VMDK
#: Drivers of formats that could name a file to lie on, and are told that there is none.
_WITH_BACKING: Final = frozenset({"qcow2", "vmdk"})


@dataclass(frozen=True)
class Checked:
    """:ivar damaged: entries of tables that are wrong. :ivar leaks: clusters used for nothing, which does no harm."""

    damaged: int = 0
    leaks: int = 0


def check(path: Path, driver: Driver, limits: Limits) -> Checked:
    """Whether the tables of a disk hold together, where its format has a check.

    :raises ImageRefused: ``corrupt``: they cannot even be read; ``unbounded``.
    """
    done = _read(path, driver, limits, "check")
    if done.code == _NOT_SUPPORTED:
        return Checked()
    if done.code not in (_CLEAN, _CORRUPT, _LEAKS):
        raise _refusal("corrupt", "the disk cannot be checked", done, path)
    report = _document(done, path)
    damaged = _number(report, "corruptions") + _number(report, "check-errors")
    return Checked(max(damaged, int(done.code == _CORRUPT)), _number(report, "leaks"))


def inspect(path: Path, driver: Driver, limits: Limits) -> int:
    """The virtual size as QEMU sees it, which is asked whether the disk stands alone, too.

    :raises ImageRefused: ``backing-file``, ``data-file``, ``encrypted``, ``virtual-size``, ``corrupt``, ``unbounded``.
    """
    done = _read(path, driver, limits, "info")
    if done.code != 0:
        raise _refusal("corrupt", "the disk cannot be read", done, path)
    report = _document(done, path)
    specific = report.get("format-specific", {}).get("data", {})
    if "backing-filename" in report or specific.get("parent-cid", _NO_PARENT) != _NO_PARENT:
        raise ImageRefused("backing-file", "the disk lies on another file; an image stands alone")
    if "data-file" in specific or len(specific.get("extents", ())) > 1:
        raise ImageRefused("data-file", "the disk keeps its data in another file; an image stands alone")
    if report.get("encrypted"):
        raise ImageRefused("encrypted", "the disk is encrypted")
    return check_virtual_size(_number(report, "virtual-size"), limits)


def convert(source: Path, driver: Driver, target: Path, limits: Limits, progress: Progress) -> None:
    """Write a disk, as a guest sees it, to the new qcow2 file ``target``; the caller removes that when this fails.

    :raises ImageRefused: ``corrupt``, ``size``, ``bomb`` or ``unbounded``.
    :raises CapacityExceeded: no space left.
    """
    size = source.stat().st_size
    # One packed cluster can stand for many: what it is converted to is bounded as what is unpacked.
    most = min(limits.size, limits.free + limits.ratio * size)
    bounds = replace(Bounds.to_convert(limits, source, folder=target.parent), file_size=most)
    meter = _Meter(size, progress)
    options = "compat=1.1,cluster_size=65536,lazy_refcounts=off,preallocation=off"
    command = ("qemu-img", "convert", "-p", "-O", "qcow2", "-o", options, _node(source, driver), str(target.absolute()))
    done = run_bounded(command, bounds=bounds, on_output=meter.read, watch=meter.tell)
    if done.code != 0:
        _check_space(target.parent)
        if _is_at(target, most):
            reason: Reason = "bomb" if most < limits.size else "size"
            raise ImageRefused(reason, f"a file of {size} bytes became a disk of more than {most}")
        raise _refusal("corrupt", "the disk cannot be converted", done, source)
    meter.finish()


def _is_at(target: Path, most: int) -> bool:
    """Whether a file has grown to its limit, give or take what was being written at once.

    The program's threads take no signals, so it ends by an error of its own, which says nothing that is stable.
    """
    size = target.stat().st_size if target.exists() else 0
    return most - size < min(_AT_ONCE, most // 4)


class _Meter:
    """Tells how far a conversion is, by what the program prints."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total = total
        self._done = 0
        self._progress = progress

    def read(self, block: bytes) -> None:
        told = _PERCENT.findall(block)
        if told:
            self._done = min(self._total, int(self._total * float(told[-1]) / 100))

    def tell(self) -> None:
        self._progress(self._done, self._total)

    def finish(self) -> None:
        self._done = self._total
        self.tell()


def _read(path: Path, driver: Driver, limits: Limits, verb: str) -> Finished:
    return run_bounded(("qemu-img", verb, "--output=json", _node(path, driver)), bounds=Bounds.to_inspect(limits, path))


def _node(path: Path, driver: Driver) -> str:
    """A file as QEMU is to open it: of this format, not of one that it guesses, and lying on nothing."""
    node: dict[str, Any] = {"driver": driver, "file": {"driver": "file", "filename": str(path.absolute())}}
    if driver in _WITH_BACKING:
        node["backing"] = None
    return "json:" + json.dumps(node)


def _document(done: Finished, path: Path) -> dict[str, Any]:
    try:
        document: Any = json.loads(done.output)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _refusal("corrupt", "the disk cannot be read", done, path)
    return document


def _number(report: dict[str, Any], key: str) -> int:
    value = report.get(key, 0)
    return value if isinstance(value, int) else 0


def _refusal(reason: Reason, message: str, done: Finished, path: Path) -> ImageRefused:
    """With what the program said last, without names of our folders."""
    said = done.errors.rpartition("\n")[2].replace(str(path.absolute()), "the file")
    said = re.sub(r"json:\{.*?\}\}?'?:?", "", said)[-300:]
    crashed = f"qemu-img ended by signal {-done.code}" if done.code < 0 else ""
    return ImageRefused(reason, ": ".join(each for each in (message, crashed, said.strip()) if each))


def _check_space(folder: Path) -> None:
    facts = os.statvfs(folder)
    if facts.f_bavail * facts.f_frsize < _FULL:
        raise CapacityExceeded(
            f"the disk of {folder} is full", hint="free space there, remove images that nobody uses, and try again"
        )
