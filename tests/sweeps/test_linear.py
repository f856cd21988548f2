"""The checker explains what can have happened, and nothing else."""

from __future__ import annotations

import pytest

from .linear import Kind, Operation, unexplained

TAKE, APPEND, RELEASE, FENCE, READ = Kind


def op(
    kind: Kind, turn: str, called: float, returned: float, *ids: str, known: bool = True
) -> Operation:
    return Operation(kind, turn, called, returned, known, ids)


ONE = [op(TAKE, "T1", 0, 1), op(APPEND, "T1", 2, 3, "a"), op(RELEASE, "T1", 4, 5)]
TWO = [op(TAKE, "T2", 6, 7), op(APPEND, "T2", 8, 9, "b"), op(RELEASE, "T2", 10, 11)]


def test_turns_one_after_the_other() -> None:
    assert unexplained([*ONE, *TWO], ["a", "b"]) is None


def test_what_overlaps_may_come_in_any_order() -> None:
    waits = [op(TAKE, "T2", 0, 7), *TWO[1:]]
    assert unexplained([*waits, *ONE], ["a", "b"]) is None


def test_a_late_write_that_was_acknowledged() -> None:
    late = op(APPEND, "T1", 8, 12, "late")
    history = [ONE[0], ONE[1], *TWO, late]
    assert unexplained(history, ["a", "b", "late"]) == late


def test_a_late_write_that_was_refused_and_is_there() -> None:
    """Planted: the append of a fenced turn got through, and its caller was told that it did not."""
    fenced = [ONE[0], ONE[1], op(FENCE, "T1", 2, 12), *TWO]
    assert unexplained(fenced, ["a", "b"]) is None
    assert unexplained(fenced, ["a", "b", "late"]) is not None


def test_an_acknowledged_append_that_is_lost() -> None:
    assert unexplained(ONE, []) == ONE[1]


@pytest.mark.parametrize("log", [["a"], ["a", "x"]])
def test_an_append_of_one_who_died_is_there_or_not(log: list[str]) -> None:
    died = [*ONE[:2], op(APPEND, "T1", 4, 5, "x", known=False)]
    assert unexplained(died, log) is None


def test_an_append_of_one_who_died_cannot_come_later() -> None:
    died = [*ONE[:2], op(APPEND, "T1", 4, 5, "x", known=False)]
    assert unexplained([*died, *TWO], ["a", "b", "x"]) is not None


@pytest.mark.parametrize(("seen", "explained"), [(("a",), True), ((), False), (("b",), False)])
def test_a_read_sees_all_that_was_there_before_it(seen: tuple[str, ...], explained: bool) -> None:
    read = op(READ, "", 6, 7, *seen)
    assert (unexplained([*ONE, read], ["a"]) is None) is explained


def test_who_releases_well_still_held() -> None:
    superseded = [ONE[0], *TWO, op(RELEASE, "T1", 12, 13)]
    assert unexplained(superseded, ["b"]) is not None


def test_many_at_once_are_checked_within_moments() -> None:
    """Fifteen thousand operations, of which nine overlap at any time."""
    history: list[Operation] = []
    for number in range(5_000):
        turn, at = f"T{number}", float(number)
        history.append(op(TAKE, turn, at - 8, at + 0.1))
        history.append(op(APPEND, turn, at + 0.2, at + 0.3, f"i{number}"))
        history.append(op(RELEASE, turn, at + 0.4, at + 0.5))
    assert unexplained(history, [f"i{number}" for number in range(5_000)]) is None
