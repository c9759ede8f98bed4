"""Did you mean …? The nearest of the words that would have been right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "listing", "nearest"]

#: Longer words are not typing mistakes, and comparing them would be slow.
_LONGEST = 64


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be, in any case; ``None`` when none is near."""
    by_folded = {item.casefold(): item for item in known}
    if len(word) > _LONGEST:
        return None
    near = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion naming the known word nearest to ``word``, else the known words (if few), else nothing."""
    words = list(known)
    near = nearest(word, words)
    if near is not None:
        return f"did you mean {near!r}?"
    return f"known are: {listing(words)}" if words else ""


def listing(words: Iterable[str], limit: int = 12) -> str:
    """``a, b, c``; long lists end in an ellipsis."""
    items = list(words)
    tail = ", …" if len(items) > limit else ""
    return ", ".join(items[:limit]) + tail
