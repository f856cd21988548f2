"""Inputs: seeds that were cut, glued, doubled, and sown with words; `Mutator` does so for atheris.

What finds most is a word in the place of another: of a number, a name, a text.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable

from hypothesis import strategies as st

from .harness import Target

_EDITS_MAX = 6
_SHARE = st.integers(0, 1000)
Edit = Callable[[bytes], bytes]
_TOKEN = re.compile(rb'"[^"\n]{0,200}"|[A-Za-z0-9_.+-]+|[^\sA-Za-z0-9]')


def inputs_of(target: Target) -> st.SearchStrategy[bytes]:
    """Mostly seeds with edits, and bytes that are nothing."""
    seeds = target.seeds()
    piece = st.sampled_from([*target.words, b""]) | st.binary(max_size=12)
    edits = st.one_of(
        st.builds(_exchange, _SHARE, piece),
        st.builds(_exchange, _SHARE, piece),
        st.builds(_insert, _SHARE, piece),
        st.builds(_replace, _SHARE, _SHARE, piece),
        st.builds(_replace, _SHARE, _SHARE, st.sampled_from(seeds)),
        st.builds(_double, _SHARE, _SHARE),
        st.builds(_flip, _SHARE, st.integers(0, 7)),
    )
    edited = st.builds(_edited, st.sampled_from(seeds), st.lists(edits, max_size=_EDITS_MAX))
    return edited | st.binary(max_size=200)


class Mutator:
    """An input of another, for atheris: by the same edits, mostly with words and seeds in them."""

    def __init__(self, target: Target) -> None:
        self._pieces = [*target.words, *target.seeds()] or [b""]

    def __call__(self, data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        for _ in range(chance.randint(1, 3)):
            data = self._edit(chance)(data)
        return data[:most]

    def _edit(self, chance: random.Random) -> Edit:
        one, other = chance.randint(0, 1000), chance.randint(0, 1000)
        piece = chance.choice(self._pieces)
        match chance.randint(0, 9):
            case 0:
                return _flip(one, chance.randint(0, 7))
            case 1:
                return _double(*sorted((one, min(1000, one + other // 20))))
            case 2 | 3:
                return _replace(one, other, piece)
            case 4 | 5:
                return _insert(one, piece)
        return _exchange(one, piece)


def _edited(seed: bytes, edits: list[Edit]) -> bytes:
    return functools.reduce(lambda data, edit: edit(data), edits, seed)


def _at(data: bytes, share: int) -> int:
    return share * len(data) // 1000


def _exchange(share: int, piece: bytes) -> Edit:
    """The token at a place for another."""

    def edit(data: bytes) -> bytes:
        tokens = list(_TOKEN.finditer(data))
        if not tokens:
            return data + piece
        token = tokens[min(len(tokens) - 1, share * len(tokens) // 1000)]
        return data[: token.start()] + piece + data[token.end() :]

    return edit


def _insert(share: int, piece: bytes) -> Edit:
    return lambda data: data[: _at(data, share)] + piece + data[_at(data, share) :]


def _replace(one: int, other: int, piece: bytes) -> Edit:
    first, last = sorted((one, other))
    # Mostly a little: who replaces half of a seed leaves nothing that reaches far.
    last = min(last, first + 50)
    return lambda data: data[: _at(data, first)] + piece + data[_at(data, last) :]


def _double(one: int, other: int) -> Edit:
    first, last = sorted((one, other))
    return lambda data: data[: _at(data, last)] + data[_at(data, first) :]


def _flip(share: int, bit: int) -> Edit:
    def edit(data: bytes) -> bytes:
        at = _at(data, share)
        return data[:at] + bytes(byte ^ 1 << bit for byte in data[at : at + 1]) + data[at + 1 :]

    return edit
