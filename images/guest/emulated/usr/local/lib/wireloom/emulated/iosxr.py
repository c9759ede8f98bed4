"""Cisco IOS-XR, as an XRv 9000."""

from __future__ import annotations

from .cisco_like import CiscoLike, Session
from .machine import Medium
from .script import Flush, ReadLine, Say, Schedule, Script, Sleep

__all__ = ["IOSXR"]

_FACTORY = "".join(
    f"interface {name}\n shutdown\n"
    for name in ("MgmtEth0/RP0/CPU0/0", *(f"GigabitEthernet0/0/0/{n}" for n in range(6)))
)

_USER = "  Enter root-system username: "
_DIALOG = (
    "\n!!!!!!!!!!!!!!!!!!!! NO root-system username is configured. Need to configure root-system username. "
    f"!!!!!!!!!!!!!!!!!!!!\n\n         --- Administrative User Dialog ---\n\n\n{_USER}"
)


class IOSXR(CiscoLike):
    """A user dialog at first boot, a gate before logins work, and changes that are committed."""

    name = "iosxr"
    factory_hostname = "ios"
    media = (Medium("iosxr_config.txt"),)
    factory_config = _FACTORY
    candidate = True
    more = " --More-- "
    erase = "\r" + " " * 10 + "\r"
    inner_parents = r"address-family |neighbor |group \S+$|vrf \S+$|interface \S+$|area \S+$"
    words = CiscoLike.words | frozenset(
        {
            "group",
            "root-lr",
            "cisco-support",
            "tpa",
            "as-path-set",
            "prefix-set",
            "end-policy",
            "pass",
            "area",
            "cost",
            "passive",
        }
    )
    noise = (
        "RP/0/RP0/CPU0:Jan  1 00:01:01.001 UTC: ifmgr[257]: %PKT_INFRA-LINK-3-UPDOWN : Interface MgmtEth0/RP0/CPU0/0, changed state to Up",
    )
    configured = (
        "RP/0/RP0/CPU0:Jan  1 00:02:02.002 UTC: config[65678]: %MGBL-SYS-5-CONFIG_I : Configured from console by cisco"
    )
    version_text = (
        "Thu Jan  1 00:02:05.000 UTC\nCisco IOS XR Software, Version 7.10.1\nThis is an emulation for tests.\n\n"
        "cisco IOS-XRv 9000 () processor\nSystem uptime is 1 minute\n\n"
    )

    def console(self) -> Script[None]:
        yield Say("\nCisco IOS XR Software for the XRv 9000 (emulation for tests)\nBooting...\n", 4000)
        yield Sleep(0.3)
        configured = self.start_configuration()
        yield Say("\nPress RETURN to get started.\n\n")
        yield Schedule(
            0.2,
            "RP/0/RP0/CPU0:Jan  1 00:00:40.001 UTC: rmf_svr[1]: %HA-REDCON-1-STANDBY_NOT_READY : standby card is NOT ready",
        )
        yield Sleep(0.4)
        if configured:
            yield Say(
                "RP/0/RP0/CPU0:Jan  1 00:00:45.003 UTC: cvac[65728]: %MGBL-CVAC-4-CONFIG_DONE : Configuration was applied from file disk0:/iosxr_config.txt\n",
                4000,
            )
        asks = not self.machine.accounts
        if asks:
            yield Say(_DIALOG)
            yield Sleep(0.8)
        yield Say("\nRP/0/RP0/CPU0:Jan  1 00:00:50.005 UTC: ztp[210]: SYSTEM CONFIGURATION COMPLETE\n", 4000)
        if asks:
            yield from self._first_user()
        self.machine.booted = True
        while True:
            yield Flush()
            yield Say(f"\n\n{self.machine.hostname} con0/RP0/CPU0 is now available\n\nPress RETURN to get started.\n\n")
            yield ReadLine(echo=False)
            yield Say("\nUser Access Verification\n\n")
            user = yield from self.login("Username: ", refusal="% User Authentication failed\n")
            yield Say("\n\n")
            yield from Session(self, console=True, privileged=True, user=user).play()

    def _first_user(self) -> Script[None]:
        """What was typed at the question so far is lost, and it is not asked again until somebody types."""
        yield Flush()
        question = ""
        while True:
            user = yield ReadLine(question)
            question = _USER
            if not user.strip():
                yield Say("% Entry must not be null.\n")
                continue
            first = yield ReadLine("  Enter secret: ", echo=False)
            second = yield ReadLine("  Enter secret again: ", echo=False)
            if first and first == second:
                break
            yield Say("% Secrets do not match or are empty.\n")
        yield Say("Use the 'configure' command to modify this configuration.\n")
        self.running.enter([], f"username {user}")
        self.running.enter([f"username {user}"], "group root-lr")
        self.running.enter([f"username {user}"], f"secret 0 {first}")
        self.apply()

    parents = (*CiscoLike.parents, (r"username \S+$", "un"))

    def prompt(self, *, privileged: bool, mode: str) -> str:
        return f"RP/0/RP0/CPU0:{super().prompt(privileged=privileged, mode=mode)}"

    def show_running(self) -> str:
        return (
            "Thu Jan  1 00:02:05.000 UTC\nBuilding configuration...\n!! IOS XR Configuration 7.10.1\n"
            f"!! Last configuration change at Thu Jan  1 00:02:02 2026 by cisco\n!\n{self.text()}end\n\n"
        )
