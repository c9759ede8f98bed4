"""The system of the image, under an emulation."""

from __future__ import annotations

import os
import subprocess
import sys

from . import media
from .machine import Medium, Result

__all__ = ["System", "chosen_persona"]

_STATE = "/var/lib/emulated"
_CONTAINER_MEDIUM = "/medium"
_CHASSIS = "/sys/class/dmi/id/chassis_asset_tag"
_MARK = "wireloom-emulated:"
_FIRST_UID = 1000
_RUN_S = 60.0


def chosen_persona() -> str:
    """The persona that the environment of a container or the chassis of a virtual machine names."""
    named = os.environ.get("WIRELOOM_EMULATED", "")
    if named or not os.path.exists(_CHASSIS):
        return named or "linux"
    with open(_CHASSIS) as file:
        tag = file.read().strip()
    return tag[len(_MARK) :] if tag.startswith(_MARK) else "linux"


class System:
    """Files, accounts and disks of this container or virtual machine.

    :param in_container: there are no disks; media are folders.
    """

    def __init__(self, *, in_container: bool) -> None:
        self.restart_wanted = False
        self._in_container = in_container
        self._settled = in_container
        self._hashes: dict[str, str] = {}
        os.makedirs(_STATE, exist_ok=True)

    def read(self, medium: Medium) -> str | None:
        """From a disk; in a container from the folder that stands for it."""
        if not self._settled:
            media.settle()
            self._settled = True
        if not self._in_container:
            return media.read_disks(medium)
        text = media.read_archived(_CONTAINER_MEDIUM, medium)
        if text is None and "folder" in medium.kinds:
            text = media.read_archived("/", medium)
        return text

    def load(self, name: str) -> str | None:
        """From the state folder."""
        try:
            with open(f"{_STATE}/{name}") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def save(self, name: str, text: str) -> None:
        """Into the state folder, whole or not at all."""
        with open(f"{_STATE}/.{name}", "w") as file:
            file.write(text)
        os.replace(f"{_STATE}/.{name}", f"{_STATE}/{name}")
        os.sync()

    def set_accounts(self, accounts: dict[str, str]) -> None:
        """Rewrite the system's accounts. SSH lets nobody in without a password."""
        users = ["root:x:0:0:root:/root:/bin/sh", "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin"]
        secrets = ["sshd:*:19000::::::"]
        for number, (name, password) in enumerate(accounts.items()):
            if name != "root":
                users.append(f"{name}:x:{_FIRST_UID + number}:100::/tmp:/bin/sh")
            secrets.append(f"{name}:{self._hash(password) if password else '*'}:19000:0:99999:7:::")
        if "root" not in accounts:
            secrets.append("root:*:19000::::::")
        _rewrite("/etc/passwd", users, 0o644)
        _rewrite("/etc/shadow", secrets, 0o600)

    def _hash(self, password: str) -> str:
        if password.startswith("$"):
            return password
        if password not in self._hashes:
            # Cheap on purpose: accounts of an emulation protect nothing, and the processor is an emulation too.
            self._hashes[password] = _output(["mkpasswd", "-m", "md5", password])
        return self._hashes[password]

    def verify(self, stored: str, password: str) -> bool:
        """Compare in clear, or hash with the stored salt."""
        if not stored.startswith("$"):
            return stored == password
        method = {"$1$": "md5", "$5$": "sha256", "$6$": "sha512"}.get(stored[:3], "sha512")
        return _output(["mkpasswd", "-m", method, "-S", stored.split("$")[2], password]) == stored

    def run(self, command: str) -> Result:
        """By the image's shell."""
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_RUN_S,
            )
        except subprocess.TimeoutExpired:
            return Result("timed out\n", 124)
        return Result(done.stdout.decode("utf-8", "replace"), done.returncode)

    def set_hostname(self, name: str) -> None:
        """A container may not; then the name is the persona's alone."""
        subprocess.run(["hostname", name], check=False, stderr=subprocess.DEVNULL, timeout=10)

    def restart(self) -> None:
        """Asks the loop, which prints what is due first."""
        self.restart_wanted = True

    def begin_again(self) -> None:
        """A machine reboots; a container's program starts anew, because its end would be the container's."""
        os.sync()
        if self._in_container:
            os.execv(sys.executable, [sys.executable, "-S", "-m", "emulated.serve", *sys.argv[1:]])
        subprocess.run(["reboot", "-f"], check=False, timeout=30)


def _rewrite(path: str, lines: list[str], mode: int) -> None:
    with open(f"{path}.new", "w") as file:
        file.write("".join(f"{line}\n" for line in lines))
    os.chmod(f"{path}.new", mode)
    os.replace(f"{path}.new", path)


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, timeout=20).stdout.decode().strip()
