"""Channels: every way to a guest, one class each, behind one front: :class:`Channels`.

======== ============================================= =====================================================
channel  what it is                                    where it exists
======== ============================================= =====================================================
exec     a command run by the engine                   ``Capabilities.exec``
ssh      a command, or an interactive session that a   nodes on the management network
         dialogue types into (steps with a ``prompt``)
serial   a dialogue on a serial line, under its writer  ``Capabilities.consoles`` has ``serial``, the device a
         lease                                          command line
file     a file in the guest's file system             ``Abilities.files``
netconf  a datastore                                   nodes on the management network
log      the console's output since power-on           always; nothing can be asked of it
======== ============================================= =====================================================
"""

from wireloom.agent.channels.base import (
    Call,
    Channel,
    ChannelTarget,
    HeldLine,
    KeptShell,
    Login,
    Outcome,
    RemoteShell,
    SerialLines,
)
from wireloom.agent.channels.chain import Channels

__all__ = [
    "Call",
    "Channel",
    "ChannelTarget",
    "Channels",
    "HeldLine",
    "KeptShell",
    "Login",
    "Outcome",
    "RemoteShell",
    "SerialLines",
]
