"""Capture filters: users' text to instructions of the kernel, compiled by tcpdump (which is libpcap) in a small cage.

The text is one argument after ``--``, so it can be no option, and no shell sees it. The compiler is not for everybody's
text: it may take for ever, so it has a deadline, little memory and no rights but to look at a device.
"""

from __future__ import annotations

import os
import shutil
from typing import Final

from wireloom.commands import Finished, run
from wireloom.errors import DeadlineExceeded, InvalidInput, Unavailable, Unsupported

__all__ = ["COMPILER", "Instruction", "compile_filter", "parse_program"]

COMPILER: Final = "tcpdump"

#: ``code, jt, jf, k`` as of ``struct sock_filter``.
Instruction = tuple[int, int, int, int]

_DEADLINE_S: Final = 5.0
_MOST_INSTRUCTIONS: Final = 4096  # BPF_MAXINSNS
_RETURN: Final = 6  # BPF_RET | BPF_K: accept so many bytes
#: The loopback device is always there, and for libpcap an Ethernet as our ports are. It has to be a live device: VLAN
#: tags are found elsewhere on one than in a file.
_DEVICE: Final = "lo"
_CAGE: Final = (
    "env", "-i", f"PATH={os.environ.get('PATH', os.defpath)}",  # the agent's environment may hold secrets
    "prlimit", "--as=268435456", "--cpu=5", "--core=0",
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
    "--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw", "--bounding-set=-all,+net_raw",
)  # fmt: skip


async def compile_filter(text: str, snaplen: int) -> tuple[Instruction, ...]:
    """The instructions that take what ``text`` says, cut to ``snaplen`` bytes.

    :raises InvalidInput: it is no filter, or takes too long to compile.
    :raises Unsupported: the compiler is not installed.
    :raises Unavailable: it cannot even compile the empty filter.
    """
    if not text.strip():
        return ((_RETURN, 0, 0, snaplen),)
    if shutil.which(COMPILER) is None:
        raise Unsupported(f"{COMPILER} is not installed on this host", hint="install it, or capture without a filter")
    try:
        done = await _compile(text, snaplen)
    except DeadlineExceeded:
        raise InvalidInput(
            f"the capture filter took more than {_DEADLINE_S:g} s to compile",
            hint="write it shorter, and addresses in place of names",
        ) from None
    program = parse_program(done.output) if done.code == 0 else ()
    if program:
        return program
    empty = await _compile("", snaplen)
    if empty.code != 0:
        raise Unavailable(f"{COMPILER} does not work on this host: {empty.errors}")
    raise InvalidInput(f"not a capture filter: {_said(done.errors)}", hint="see pcap-filter(7)")


async def _compile(text: str, snaplen: int) -> Finished:
    filters = ("--", text) if text else ()
    return await run(*_CAGE, COMPILER, "-ddd", "-s", str(snaplen), "-i", _DEVICE, *filters, timeout_s=_DEADLINE_S)


def parse_program(output: str) -> tuple[Instruction, ...]:
    """What ``tcpdump -ddd`` writes: their number, then one instruction a line. Empty when it is something else."""
    try:
        count, *rows = ([int(word) for word in line.split()] for line in output.splitlines())
        program = tuple((code, jt, jf, k) for code, jt, jf, k in rows)
    except ValueError:
        return ()
    return program if count == [len(program)] and len(program) <= _MOST_INSTRUCTIONS else ()


def _said(errors: str) -> str:
    """The compiler's last words, without its name."""
    last = errors.splitlines()[-1] if errors else "it is too long"
    return last.removeprefix(f"{COMPILER}: ")
