"""Network namespaces: opening them, their ids as our namespace knows them, and sockets inside them.

``setns`` moves the calling thread, so everything here belongs in the data plane's own worker thread. A socket
stays in the namespace in which it was opened: the thread is there only for that moment.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from wireloom.dataplane.host.attributes import fields, u32
from wireloom.dataplane.host.netlink import Netlink, open_transport
from wireloom.dataplane.host.protocol import Request, failure
from wireloom.errors import InternalError, InvalidInput

__all__ = [
    "enter",
    "find_namespace",
    "find_namespaces",
    "inside",
    "is_own",
    "live_in",
    "namespace_ids",
    "new_namespace",
    "open_namespace",
    "refuse_own",
]

T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000
_RTM_GETNSID = 90
_NETNSA_NSID, _NETNSA_FD = 1, 3
_NSID = struct.Struct("=i")
_OWN = "/proc/thread-self/ns/net"
#: Where engines and `ip netns` keep namespaces that have no process.
_NAMED_NAMESPACES = ("/run/netns", "/run/docker/netns")

_libc = ctypes.CDLL(None, use_errno=True)


def open_namespace(path: str) -> int | None:
    """The namespace as an open file, or ``None`` when it is gone. The caller closes it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        # ESRCH: the process ended between look-up and open; EINVAL: its namespaces are gone already.
        if error.errno in {errno.ENOENT, errno.ESRCH, errno.EINVAL, errno.ENXIO}:
            return None
        raise failure(error.errno or errno.EIO, "open the network namespace", path) from error


def is_own(namespace: int) -> bool:
    """Whether this is the namespace of the calling thread."""
    return os.path.samestat(os.fstat(namespace), Path(_OWN).stat())


def live_in(namespace: int) -> None:
    """Have the calling thread live in ``namespace`` from now on. :raises OSError: the kernel refused."""
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def new_namespace() -> int:
    """A fresh, unnamed namespace as an open file; it lives as long as something refers to it."""
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNET) != 0:
            raise failure(ctypes.get_errno(), "make a network namespace", "")
        try:
            return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _go_home(home)
    finally:
        os.close(home)


def _go_home(home: int) -> None:
    try:
        live_in(home)
    except OSError as error:
        # Going on would work on a guest's devices as if they were the host's.
        raise InternalError("the worker thread cannot return to the host's namespace") from error


def inside(namespace: int, action: Callable[[], T]) -> T:
    """Run ``action`` with the calling thread in ``namespace``; for short things such as opening a socket.

    :raises DataPlaneFailed: the namespace cannot be entered.
    """
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            live_in(namespace)
        except OSError as error:
            raise failure(error.errno or errno.EIO, "enter a network namespace", "") from error
        try:
            return action()
        finally:
            _go_home(home)
    finally:
        os.close(home)


@contextmanager
def enter(namespace: int) -> Iterator[Netlink]:
    """A netlink socket inside ``namespace``."""
    netlink = Netlink(inside(namespace, open_transport))
    try:
        yield netlink
    finally:
        netlink.close()


def _nsid_request(kind: int, namespace: int) -> Request:
    # struct rtgenmsg is one byte, padded.
    return Request(kind, bytes(4) + u32(_NETNSA_FD, namespace), operation="identify a namespace")


def namespace_ids(netlink: Netlink, namespaces: Sequence[int]) -> list[int]:
    """The id by which our namespace knows each of ``namespaces``; -1: it never met it, so shares no veth pair."""
    ids: list[int] = []
    for outcome in netlink.batch([_nsid_request(_RTM_GETNSID, namespace) for namespace in namespaces]):
        raw = fields(outcome.replies[0], 4).get(_NETNSA_NSID) if outcome.replies else None
        ids.append(_NSID.unpack(raw)[0] if raw is not None else -1)
    return ids


def _candidates() -> Iterator[str]:
    """A path for each namespace of the host, once."""
    seen: set[int] = set()
    paths = [entry.path for folder in _NAMED_NAMESPACES if Path(folder).is_dir() for entry in os.scandir(folder)]
    paths += [f"/proc/{entry.name}/ns/net" for entry in os.scandir("/proc") if entry.name.isdigit()]
    for path in paths:
        try:
            inode = Path(path).stat().st_ino
        except OSError:  # the process has ended meanwhile
            continue
        if inode not in seen:
            seen.add(inode)
            yield path


def find_namespace(netlink: Netlink, nsid: int) -> int | None:
    """The namespace that ours knows as ``nsid``, as an open file; ``None`` when no process or name holds it."""
    return find_namespaces(netlink, [nsid]).get(nsid)


def find_namespaces(netlink: Netlink, nsids: Iterable[int]) -> dict[int, int]:
    """Those of the namespaces that a process or name holds, as open files by the id that ours knows them by."""
    wanted = set(nsids)
    found: dict[int, int] = {}
    for path in _candidates():
        if len(found) == len(wanted):
            break
        namespace = open_namespace(path)
        if namespace is None:
            continue
        (nsid,) = namespace_ids(netlink, [namespace])
        if nsid in wanted and nsid not in found:
            found[nsid] = namespace
        else:
            os.close(namespace)
    return found


def refuse_own(namespace: int, path: str) -> None:
    """:raises InvalidInput: when a guest's namespace is in truth the host's."""
    if is_own(namespace):
        raise InvalidInput(f"{path} is the host's own network namespace, not a guest's")
