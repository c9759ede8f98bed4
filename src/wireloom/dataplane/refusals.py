"""What of an impairment a host cannot make, and how it is said. Pure; for every data plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wireloom.errors import Unsupported
from wireloom.model.impairment import PARTS
from wireloom.model.network import DataPlaneAbilities, ImpairmentPlan

__all__ = ["refusals", "unsupported"]

_FROM_GUEST = "impairment of what a node sends to a segment"


def refusals(plans: Sequence[ImpairmentPlan], abilities: DataPlaneAbilities) -> dict[str, dict[str, str]]:
    """Device → what of its plan cannot be made → why; only of plans that cannot be carried out."""
    found = ((plan.device, _refusals(plan, abilities)) for plan in plans)
    return {device: reasons for device, reasons in found if reasons}


def _refusals(plan: ImpairmentPlan, abilities: DataPlaneAbilities) -> dict[str, str]:
    parts = {part for wanted in (plan.to_guest, plan.from_guest) if wanted for part in wanted.parts}
    reasons: dict[str, str] = {}
    for part in PARTS:
        if part in parts and part in abilities.impairments:
            reasons[part] = abilities.impairments[part]
    if plan.from_guest and plan.from_guest.parts and abilities.impair_from_guest:
        reasons[_FROM_GUEST] = abilities.impair_from_guest
    return reasons


def unsupported(refused: Mapping[str, Mapping[str, str]]) -> Unsupported:
    """The error that tells of plans that were refused; at least one of them."""
    device, reasons = next(iter(refused.items()))
    return Unsupported(
        f"{' and '.join(reasons)} cannot be had on this host: {'; '.join(dict.fromkeys(reasons.values()))}",
        hint="install and load what the kernel lacks, or place the lab on a host that has it; `wireloom doctor` tells",
        details={
            "device": device,
            "parts": sorted(reasons),
            "failures": [{"device": each, "parts": sorted(why)} for each, why in refused.items()],
        },
    )
