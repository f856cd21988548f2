"""Lines: what is written is read by every reader."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from turnlock.transcript.jsonl import NESTING_MAX, decode, encode, find_entry


def nested(levels: int) -> dict[str, Any]:
    """An object of so many levels, itself the first."""
    value: Any = "x"
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


def far_down(frames: int, work: Callable[[], Any]) -> Any:
    return far_down(frames - 1, work) if frames else work()


@pytest.mark.parametrize("frames", [0, 500])
def test_what_is_written_is_read_also_by_who_has_a_deep_stack(frames: int) -> None:
    """The parser counts the frames above it: an entry of 900 levels was damaged for this reader."""
    entry = nested(NESTING_MAX)
    line = encode(entry)
    assert len(line) < sys.getrecursionlimit()
    assert far_down(frames, lambda: decode(line)) == entry


@pytest.mark.parametrize("levels", [NESTING_MAX + 1, 900, 100_000])
def test_an_entry_nested_beyond_that_is_refused(levels: int) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        encode(nested(levels))


def test_many_objects_side_by_side_are_no_depth() -> None:
    entry: dict[str, Any] = {"a": [[{}] for _ in range(1000)]}
    assert decode(encode(entry)) == entry


@pytest.mark.parametrize(
    ("written", "identity"),
    [
        ('"id":"ü1"', "ü1"),
        (r'"id":"\u00fc1"', "ü1"),
        (r'"id":"\u00FC1"', "ü1"),
        ('"id" : "x"', "x"),
        ('"id":\t"x"', "x"),
        (r'"id":"a\/b"', "a/b"),
        ('"id":"a/b"', "a/b"),
        (r'"id":"\"id\""', '"id"'),
        ('"id":""', ""),
    ],
)
def test_an_entry_is_found_however_its_id_is_written(written: str, identity: str) -> None:
    other = b'{"type":"message","id":"other"}\n'
    content = other + b'{"type":"message",' + written.encode() + b"}\n" + other
    assert find_entry(lambda at, n: content[at : at + n], identity) == len(other)
    assert find_entry(lambda at, n: content[at : at + n], identity + "?") is None
