"""Whether an image fits the provider it is meant for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wireloom.model.device import Device, ProviderRule
from wireloom.yamlfile import Bound, Path

__all__ = ["check_image"]


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
