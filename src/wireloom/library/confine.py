"""Gives up what a program that reads hostile files does not need, then becomes that program.

``python -I -S confine.py ORDER PROGRAM [ARGUMENT...]``; the order is the JSON of :class:`bounded.Bounds`.
Loads nothing beyond the standard library. What the kernel, or the account, does not offer (Landlock, a network
namespace of its own) is left out: limits of memory, time and file size hold everywhere.

Why not prlimit(1), setpriv(1) and unshare(1) in a row: none of them knows Landlock, the kernel's own means against
opening files that nobody meant to be opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import stat
import struct
import sys
from collections.abc import Iterable
from typing import Any, Final

NOT_STARTED: Final = 126

# linux/prctl.h, linux/securebits.h, linux/sched.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECUREBITS: Final = 28
_PR_SET_NO_NEW_PRIVS: Final = 38
_ROOT_IS_NOBODY: Final = 0b11  # SECBIT_NOROOT, locked: programs that root starts get no capabilities
_CLONE_NEWNET: Final = 0x40000000

# linux/landlock.h; the numbers of the system calls are the same on all architectures
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION_ONLY: Final = 1
_RULE_PATH_BENEATH: Final = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE: Final = 1 << 14
#: Version of Landlock → bits of rights to files that it knows.
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_FIRST_WITH_NETWORK: Final = 4
_FIRST_WITH_SCOPES: Final = 6
_ALL_OF_NETWORK: Final = 0b11
_ALL_SCOPES: Final = 0b11

#: What programs need to run at all. Nothing of /etc beyond: it holds secrets.
_PROGRAMS: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_FACTS: Final = ("/etc/ld.so.cache", "/proc/sys/crypto", "/proc/sys/vm", "/proc/meminfo", "/sys/devices/system/cpu")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Become the program; never returns."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    program = sys.argv[2:]
    try:
        _end_with_parent(int(order["parent"]))
        with contextlib.suppress(OSError):  # needs CAP_SYS_ADMIN; Landlock and the program's arguments remain
            _call("unshare", _CLONE_NEWNET)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if order["confined"]:
            _confine(order["reads"], order["writes"])
        if not order["privileged"]:
            with contextlib.suppress(OSError):  # an account without CAP_SETPCAP has nothing to give up
                _prctl(_PR_SET_SECUREBITS, _ROOT_IS_NOBODY)
        _limit(order)
        # Python ignores these two; programs must meet them.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp(program[0], program)  # noqa: S606  # a list of arguments, as everywhere
    except OSError as error:
        sys.stderr.write(f"{program[0]} was not started: {error}\n")
        os._exit(NOT_STARTED)


def _end_with_parent(parent: int) -> None:
    """No work goes on for nobody, even where the parent was killed before this line."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(NOT_STARTED)


def _limit(order: dict[str, Any]) -> None:
    cpu_s = int(order["cpu_s"])
    for what, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 2),  # SIGXCPU first, which tells why; SIGKILL for who ignores it
        (resource.RLIMIT_FSIZE, order["file_size"], order["file_size"]),
        (resource.RLIMIT_NOFILE, order["open_files"], order["open_files"]),
        (resource.RLIMIT_AS, order["memory"], order["memory"]),
    ):
        most = resource.getrlimit(what)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)  # noqa: PLW2901
        resource.setrlimit(what, (soft, hard))


def landlock_version() -> int:
    """What the kernel itself says of its Landlock; 0: it has none."""
    try:
        return _call("syscall", _CREATE_RULESET, None, 0, _VERSION_ONLY)
    except OSError:
        return 0


def _confine(reads: Iterable[str], writes: Iterable[str]) -> None:
    """From here on, only these files can be opened, and only for that. Does nothing where Landlock is not there."""
    version = landlock_version()
    if not version:
        return
    rights = (1 << _FILE_RIGHTS.get(version, max(_FILE_RIGHTS.values()))) - 1
    handled = struct.pack("=Q", rights)
    if version >= _FIRST_WITH_NETWORK:
        handled += struct.pack("=Q", _ALL_OF_NETWORK)
    if version >= _FIRST_WITH_SCOPES:
        handled += struct.pack("=Q", _ALL_SCOPES)
    ruleset = _call("syscall", _CREATE_RULESET, handled, len(handled), 0)
    for path in _PROGRAMS:
        _allow(ruleset, path, _READ_FILE | _READ_DIR | _EXECUTE, missing_is_fine=True)
    for path in _FACTS:
        _allow(ruleset, path, _READ_FILE | _READ_DIR, missing_is_fine=True)
    for path in _DEVICES:
        _allow(ruleset, path, _READ_FILE | _WRITE_FILE, missing_is_fine=True)
    for path in reads:
        _allow(ruleset, path, _READ_FILE | _READ_DIR | _EXECUTE)
    for path in writes:
        _allow(ruleset, path, rights & ~_EXECUTE)
    _call("syscall", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int, *, missing_is_fine: bool = False) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        if missing_is_fine:
            return
        raise
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
        _call("syscall", _ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _prctl(option: int, value: int) -> None:
    _call("prctl", option, value, 0, 0, 0)


def _call(function: str, *arguments: int | bytes | None) -> int:
    """A function of the C library, whose negative answer is an error."""
    # Integers as the C library's varargs take them: a long each.
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    answer = int(getattr(_libc, function)(*passed))
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


if __name__ == "__main__":
    main()
