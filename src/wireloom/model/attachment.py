"""How a runtime's port is plugged into its host: the one value that providers hand to the data plane."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wireloom.model.base import Value

__all__ = ["Attachment", "NamespaceAttachment", "TapAttachment"]


class NamespaceAttachment(Value):
    """The guest's NIC lives in a network namespace: the data plane makes a veth pair into it.

    :ivar netns: path of the namespace, e.g. ``/proc/1234/ns/net``.
    """

    kind: Literal["namespace"] = "namespace"
    netns: str


class TapAttachment(Value):
    """The guest's NIC is fed by a hypervisor from a persistent tap that the data plane makes beforehand."""

    kind: Literal["tap"] = "tap"


Attachment = Annotated[NamespaceAttachment | TapAttachment, Field(discriminator="kind")]
