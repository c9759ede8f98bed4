"""A machine with the distribution's own kernel that runs a test suite: its disk, its one power-on, its report.

The suite, our sources and the Python packages that it needs go into the machine on a read-only disk; the report comes
out over a virtio port. Nothing is mounted on the host, and the machine has no network.
"""

from __future__ import annotations

import asyncio
import compileall
import importlib.metadata
import os
import py_compile
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import wireloom

IMAGES: Final = Path(os.environ.get("WIRELOOM_TEST_IMAGES", "/var/lib/wireloom/images"))
#: Three minutes are usual on two cores without hardware virtualisation, and when nothing else runs.
POWER_ON_S: Final = 450.0
MEMORY_MB: Final = 1024
PACKAGES: Final = ("ovs", "pydantic", "pytest", "pytest-asyncio", "pytest-timeout", "structlog")
LABEL: Final = "WL-SUITE"
#: Of the console's end, enough to see why a machine did not come to its report.
_TAIL: Final = 6000

_RUN: Final = """\
#!/bin/sh
# In the machine: $1 is where the reports go. Each data plane is a process, to make use of both processors; the
# kernel's has a network namespace of its own, so that none sees the other's devices, and so have the tunnels. What
# failed is tried again when nothing else runs: beside each other, on emulated processors, they measure no times.
here=${0%/*}
export PYTHONPATH="$here/src:$here/packages" PYTHONDONTWRITEBYTECODE=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1

# suite PART REPORT OPTION...
suite() {
	part=$1 report=$2
	shift 2
	python3 -m pytest -p pytest_asyncio.plugin -p pytest_timeout -c "$here/pytest.ini" -o cache_dir="/tmp/$part" \\
		--tb=short --color=no --junitxml="/tmp/$report.xml" -v -k "[$part" "$@" "$here/suite.py"
}

apart() { unshare -n -m "$here/run" suite "$@"; }

if [ "$1" = suite ]; then
	shift
	mount -t sysfs sys /sys
	mount -t tmpfs run /run
	ip link set lo up
	suite "$@"
	exit
fi
/usr/share/openvswitch/scripts/ovs-ctl --system-id=random --no-mlockall start
apart kernel 1 &
suite ovs 2
apart tunnels 3
wait
apart kernel 4 --last-failed --last-failed-no-failures none
suite ovs 5 --last-failed --last-failed-no-failures none
apart tunnels 6 --last-failed --last-failed-no-failures none
printf '<reports>%s</reports>' "$(sed 's/^<?xml[^>]*>//' /tmp/[1-6].xml)" >"$1"
"""
_SETTINGS: Final = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
timeout = 120
addopts = --strict-markers
"""


@dataclass(frozen=True)
class Report:
    """What the machine told.

    :ivar outcomes: test → empty where it passed, be it at the second try, else what it said.
    :ivar console: everything on its serial line.
    """

    outcomes: Mapping[str, str]
    console: str


async def run_suite(suite: Path, folder: Path, helpers: Sequence[Path] = ()) -> Report:
    """Run ``suite``, a file of tests, in a machine; ``folder`` is for what that needs.

    :param helpers: files that the suite imports, beside our sources.

    :raises AssertionError: the machine did not come to its report.
    """
    disk = await asyncio.to_thread(_suite_tree, suite, helpers, folder / "suite")
    await _run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-L", LABEL, "-d", disk, *_sized(disk))
    console = await _power_on(disk.with_suffix(".ext4"), folder)
    report = folder / "report"
    assert report.stat().st_size, f"the machine came to no report:\n{console[-_TAIL:]}"
    return Report(dict(_outcomes(report)), console)


def _suite_tree(suite: Path, helpers: Sequence[Path], tree: Path) -> Path:
    """The disk's content, with all Python in it compiled: that takes a machine without acceleration long."""
    packages = tree / "packages"
    for name in _closure(PACKAGES):
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
    source = Path(wireloom.__file__).parent
    shutil.copytree(source, tree / "src" / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(suite, tree / "suite.py")
    for helper in helpers:
        shutil.copyfile(helper, tree / helper.name)
    (tree / "pytest.ini").write_text(_SETTINGS)
    (tree / "run").write_text(_RUN)
    (tree / "run").chmod(0o755)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(tree, quiet=2, stripdir=str(tree), prependdir="/mnt/suite", invalidation_mode=mode)
    return tree


def _closure(wanted: tuple[str, ...]) -> set[str]:
    """Names of packages that are installed here, with all that they need; extras are left out."""
    found: set[str] = set()
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            assert name not in wanted, f"{name} is not installed"
            continue  # of another platform or version of Python
        found.add(name)
        pending += [re.split(r"[^\w.-]", line)[0] for line in requirements if "extra ==" not in line]
    return found


def _sized(tree: Path) -> tuple[Path, str]:
    """The image beside ``tree``, and its size with room for the file system's own tables."""
    blocks = sum(-(-path.lstat().st_size // 4096) + 1 for path in tree.rglob("*"))
    return tree.with_suffix(".ext4"), f"{blocks * 4 * 5 // 4 + 4096}k"


async def _power_on(disk: Path, folder: Path) -> str:
    """Let the machine run until it switches itself off; what its console said."""
    console = folder / "console"
    process = await asyncio.create_subprocess_exec(
        "qemu-system-x86_64",
        *("-name", "wl-dataplane-test", "-machine", "pc", "-accel", "kvm" if _has_kvm() else "tcg,thread=multi"),
        *("-m", str(MEMORY_MB), "-smp", "2", "-display", "none", "-nodefaults", "-no-reboot"),
        *("-drive", f"file={IMAGES / 'dataplane.qcow2'},if=virtio,snapshot=on"),
        *("-drive", f"file={disk},format=raw,if=virtio,readonly=on"),
        *("-serial", f"file:{console}"),
        *("-device", "virtio-serial-pci", "-chardev", f"file,id=report,path={folder / 'report'}"),
        *("-device", "virtserialport,chardev=report,name=report"),
    )
    try:
        await asyncio.wait_for(process.wait(), POWER_ON_S)
    except TimeoutError:
        said = console.read_text(errors="replace")
        raise AssertionError(f"the machine takes longer than {POWER_ON_S:g} s:\n{said[-_TAIL:]}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return console.read_text(errors="replace")


def _has_kvm() -> bool:
    from wireloom.providers.libvirt import acceleration

    return acceleration.probe("auto").kind == "kvm"


def _outcomes(report: Path) -> Iterator[tuple[str, str]]:
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own suite wrote it
        problems = [
            f"{problem.tag}: {problem.get('message')}\n{problem.text}"
            for problem in case
            if problem.tag in {"failure", "error", "skipped"}
        ]
        yield case.get("name", ""), "\n".join(problems)


async def _run(*command: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{command[0]}: {said.decode(errors='replace')}"
