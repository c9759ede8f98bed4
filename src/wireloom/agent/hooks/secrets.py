"""Secrets: files of the user's own, such as licences, that a node gets when it is made.

A device says where the guest looks for each: in its own file system, on the day-0 medium, or either. The first that the
node's provider can do is used. A secret is never written anywhere but there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from wireloom.agent.context import NodeContext
from wireloom.agent.hooks.base import Hook
from wireloom.agent.hooks.day0 import day0_method
from wireloom.errors import Unsupported
from wireloom.model.device import Secret
from wireloom.model.runtime import GuestFile

__all__ = ["SecretsHook"]

#: Ways of day-0 that make a medium with files on it.
_MEDIA: Final = frozenset({"iso", "fat", "nocloud", "configdrive"})


class SecretsHook(Hook):
    """Hands secrets over; it runs before the day-0 hook, which puts on the medium what is to be there."""

    name = "secrets"

    async def before_create(self, context: NodeContext) -> None:
        for secret, content in _given(context):
            if secret.path and context.capabilities.files:
                context.files.append(GuestFile(path=secret.path, content=content, mode=secret.mode))
            elif secret.medium and _has_medium(context):
                context.medium_files[secret.medium] = content
            elif not secret.optional:
                raise _impossible(context, secret)


def _given(context: NodeContext) -> Iterator[tuple[Secret, bytes]]:
    """What the node wants and the user gave. :raises NotFound: the user did not."""
    for secret in context.node.secrets:
        content = context.lab.secrets.get(secret.name)
        if content is not None:
            yield secret, content
        elif not secret.optional:
            raise secret.not_given(context.node.device, context.node.name)


def _has_medium(context: NodeContext) -> bool:
    method = day0_method(context.node.day0, context.capabilities, can_load=bool(context.node.load))
    return method is not None and method.method in _MEDIA


def _impossible(context: NodeContext, secret: Secret) -> Unsupported:
    places = " or ".join(
        place for place in (secret.path and f"the file {secret.path}", secret.medium and "the day-0 medium") if place
    )
    return Unsupported(
        f"the secret {secret.name} goes to {places}, and provider {context.provider.name} cannot put it there",
        node=context.node.name,
        hint="choose another provider for the node, or say in an override of the device where else it may be",
        details={"secret": secret.name},
    )
