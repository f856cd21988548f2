"""Dictionaries of a bounded size that all threads of a process use without a lock."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def remember(entries: dict[K, V], key: K, value: V, most: int) -> None:
    """Put a value in, and forget the oldest ones beyond ``most``."""
    entries[key] = value
    if len(entries) > most:
        # All keys in one step, which no other thread comes in between of: an iterator that another
        # one's put or pop has overtaken raises RuntimeError.
        for oldest in list(entries)[:-most]:
            entries.pop(oldest, None)
