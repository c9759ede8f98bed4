"""Cisco IOS, IOS-XE and (Layer 2) IOSv."""

from __future__ import annotations

from .cisco_like import CiscoLike, Session
from .machine import Medium
from .script import Flush, ReadLine, Say, Schedule, Script, Sleep

__all__ = ["IOS", "IOSXE"]

_DIALOG = """

         --- System Configuration Dialog ---

Would you like to enter the initial configuration dialog? [yes/no]: """

_FACTORY = """service timestamps debug datetime msec
service timestamps log datetime msec
no aaa new-model
""" + "".join(
    f"interface GigabitEthernet0/{n}\n no ip address\n shutdown\n duplex auto\n speed auto\n" for n in range(4)
)


class IOS(CiscoLike):
    """IOSv and IOSvL2: a FAT disk, the setup dialog, no login on the console unless configured."""

    name = "ios"
    factory_hostname = "Router"
    media = (Medium("ios_config.txt", kinds=("vfat",)),)
    factory_config = _FACTORY
    version = "15.9"
    version_text = (
        "Cisco IOS Software, IOSv Software (VIOS-ADVENTERPRISEK9-M), Version 15.9(3)M6, RELEASE SOFTWARE (fc1)\n"
        "This is an emulation for tests.\n\n{hostname} uptime is 1 minute\n"
        'System image file is "flash0:/vios-adventerprisek9-m"\n\nConfiguration register is 0x0\n\n'
    )
    boot: tuple[str, ...] = (
        "\n\nGRUB loading.\nBooting IOSv (emulation for tests)\n\n",
        "              Restricted Rights Legend\n\nUse, duplication, or disclosure by the Government is\n"
        "subject to restrictions as set forth in subparagraph\n\n",
        "*Mar  1 00:00:01.003: %PLATFORM-5-SIGNATURE_VERIFIED: Image 'flash0:/vios-adventerprisek9-m' passed "
        "code signing verification\n",
    )
    applied = (
        "*Mar  1 00:00:09.777: %CVAC-4-CONFIG_DONE: Configuration generated from file disk1:/ios_config.txt applied\n"
    )
    noise = (
        "*Mar  1 00:01:12.345: %LINEPROTO-5-UPDOWN: Line protocol on Interface GigabitEthernet0/0, changed state to up",
    )
    configured = "*Mar  1 00:02:03.456: %SYS-5-CONFIG_I: Configured from console by console"

    def console(self) -> Script[None]:
        for text in self.boot:
            yield Say(text, 4000)
            yield Sleep(0.2)
        if self.start_configuration():
            yield Say(self.applied, 4000)
        else:
            yield from self._setup()
        self.machine.booted = True
        while True:
            yield from self._line()

    def _setup(self) -> Script[None]:
        while True:
            answer = yield ReadLine(_DIALOG)
            if answer.strip().lower() in {"n", "no"}:
                break
            if answer.strip().lower() in {"y", "yes"}:
                # The trap: whoever answers blindly is now being interviewed.
                yield ReadLine("\nWould you like to enter basic management setup? [yes/no]: ")
            else:
                yield Say("% Please answer 'yes' or 'no'.\n")
        yield Say("\n")

    def _line(self) -> Script[None]:
        yield Say("\n\nPress RETURN to get started!\n\n")
        yield Schedule(0.3, "*Mar  1 00:00:12.119: %LINK-3-UPDOWN: Interface GigabitEthernet0/0, changed state to up")
        yield Flush()
        yield ReadLine(echo=False)
        user = ""
        console = [
            entry
            for line, node in self.running.children.items()
            if line.startswith("line con")
            for entry in node.children
        ]
        if "login local" in console:
            yield Say("\nUser Access Verification\n\n")
            user = yield from self.login("Username: ", refusal="% Login invalid\n\n")
        privileged = "privilege level 15" in console or self.machine.privileges.get(user, 1) >= 15
        yield from Session(self, console=True, privileged=privileged, user=user).play()

    def enable(self, session: Session) -> Script[None]:
        secrets = [found[1] for found in self.running.values(r"enable (?:secret|password)(?: [059])? (\S+)")]
        for _ in range(3 if session.console and secrets else 0):
            typed = yield ReadLine("Password: ", echo=False)
            if typed == secrets[0]:
                break
        else:
            if session.console and secrets:
                yield Say("% Bad secrets\n\n")
                return
        session.privileged = True

    def on_configure(self, session: Session) -> Script[None]:
        yield Say("Enter configuration commands, one per line.  End with CNTL/Z.\n")

    def show_running(self) -> str:
        body = self.text()
        return (
            f"Building configuration...\n\nCurrent configuration : {len(body)} bytes\n!\n"
            f"! Last configuration change at 00:02:03 UTC Fri Mar 1 2002\n!\nversion {self.version}\n{body}end\n\n"
        )

    def own_command(self, session: Session, line: str) -> Script[bool]:
        if session.configuring and line.startswith("crypto key generate"):
            yield Say(
                "The name for the keys will be: emulated\n% Generating 2048 bit RSA keys...\n[OK] (elapsed time was 0 seconds)\n"
            )
            return True
        return False


class IOSXE(IOS):
    """CSR1000v, Catalyst 8000v, 9000v: a CD with ``iosxe_config.txt``."""

    name = "iosxe"
    media = (Medium("iosxe_config.txt"),)
    version = "17.3"
    factory_config = (
        _FACTORY.replace("Ethernet0/0", "Ethernet1")
        .replace("Ethernet0/1", "Ethernet2")
        .replace("Ethernet0/2", "Ethernet3")
        .replace("Ethernet0/3", "Ethernet4")
    )
    version_text = IOS.version_text.replace(
        "IOSv Software (VIOS-ADVENTERPRISEK9-M), Version 15.9(3)M6",
        "Virtual XE Software (X86_64_LINUX_IOSD-UNIVERSALK9-M), Version 17.3.2",
    )
    boot = (
        "\n\nGRUB loading.\nBooting 'CSR1000V - packages.conf' (emulation for tests)\n",
        "%IOSXEBOOT-4-BOOT_SRC: (rp/0): iso image boot\n",
        "*Mar  1 00:00:01.003: %SYS-7-NVRAM_INIT_WAIT_TIME: Waited 0 seconds for NVRAM to be available\n",
    )
    applied = "*Mar  1 00:00:19.310: %CVAC-4-CONFIG_DONE: Configuration generated from file cdrom0:/iosxe_config.txt has been applied and saved to NVRAM. System will now boot\n"
