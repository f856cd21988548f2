"""Lines: what is written is read by every reader."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from turnlock.transcript.jsonl import NESTING_MAX, decode, encode


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
