"""All personas by name."""

from __future__ import annotations

from .asa import ASA
from .eos import EOS
from .ios import IOS, IOSXE
from .iosxr import IOSXR
from .junos import Junos
from .linux import Linux
from .nxos import NXOS
from .panos import PANOS
from .persona import Persona

__all__ = ["PERSONAS"]

PERSONAS: dict[str, type[Persona]] = {
    persona.name: persona for persona in (ASA, EOS, IOS, IOSXE, IOSXR, Junos, Linux, NXOS, PANOS)
}
