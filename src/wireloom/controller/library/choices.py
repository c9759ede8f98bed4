"""What a user chose of what a medium offers; pure."""

from __future__ import annotations

from collections.abc import Sequence

from wireloom.errors import InvalidInput
from wireloom.model.images import Choice, JobChoices

__all__ = ["chosen_keys"]


def chosen_keys(choices: JobChoices, choice: Choice) -> Sequence[str]:
    """Keys to import, in the order in which they are offered: those chosen, and what they need.

    :raises InvalidInput: nothing is chosen, a key is not offered, or what it names cannot be imported.
    """
    offers = {offer.key: offer for offer in choices.offers}
    possible = [offer.key for offer in choices.offers if not offer.problem]
    waiting = possible if choice.everything else list(choice.keys)
    if not waiting:
        raise InvalidInput("nothing is chosen", hint="name offers by their keys, or cancel the job")
    taken: set[str] = set()
    while waiting:
        key = waiting.pop()
        offer = offers.get(key)
        if offer is None:
            raise InvalidInput(f"{key!r} is not offered", details={"offered": list(offers)})
        if offer.problem:
            raise InvalidInput(f"{offer.title} cannot be imported: {offer.problem}")
        if key not in taken:
            taken.add(key)
            # What it needs may be something outside of the medium, which is no business of the choice.
            waiting += [need for need in offer.needs if need in offers and not offers[need].problem]
    return [key for key in offers if key in taken]
