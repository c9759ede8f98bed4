"""Images of nodes: whether one fits the provider it is meant for, and what the image library says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wireloom.model.device import Device, Need, ProviderRule
from wireloom.yamlfile import Bound, Path

__all__ = ["NO_IMAGES", "LibraryImages", "check_image"]


@dataclass(frozen=True)
class LibraryImages:
    """What the image library says, at one moment.

    :ivar defaults: (device, provider) → image of its nodes that name none. :ivar needs: (provider, image) → what the
        image needs of a host beyond what the node's device does.
    """

    defaults: Mapping[tuple[str, str], str] = field(default_factory=dict)
    needs: Mapping[tuple[str, str], tuple[Need, ...]] = field(default_factory=dict)


NO_IMAGES: Final = LibraryImages()


def check_image(
    bound: Bound[Any],
    where: Path,
    image: str,
    *,
    provider: str,
    device: Device,
    rules: Mapping[str, ProviderRule],
) -> None:
    """Report an image whose name has not the form of the provider's images, with a provider that would take it."""
    if not image.strip():
        bound.report(where, "the name of an image is empty", "leave `image` out for the device's own")
        return
    rule = rules.get(provider)
    if rule is None or _fits(rule, image):
        return
    others = [name for name in device.providers if name != provider and name in rules and rules[name].image_pattern]
    better = next((name for name in others if _fits(rules[name], image)), None)
    suggestion = f"name an image such as {rule.image_example}"
    if better is not None:
        suggestion = f"say `provider: {better}`, or {suggestion}"
    bound.report(where, f"image {image!r} is not one that {provider} can run", suggestion)


def _fits(rule: ProviderRule, image: str) -> bool:
    return not rule.image_pattern or re.fullmatch(rule.image_pattern, image) is not None
