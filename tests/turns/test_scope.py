"""What a task or thread knows of the turn that it was started in."""

from __future__ import annotations

import contextvars

import pytest

import turnlock
from turnlock.turns.scope import turn_left, turn_on


def test_what_outlives_its_turn_knows_which_it_was() -> None:
    """In the turn and outside of it there is none that was left; in what was started there, it."""
    store = turnlock.open_store("memory:")
    identity = store.identity("main/a")
    with store.turn("main/a", turn_id="T1") as turn:
        assert turn.identity == identity
        outlives = contextvars.copy_context()
        assert turn_left(identity) is None
        with store.turn("main/b"):
            within = contextvars.copy_context()
            assert turn_left(identity) is None
    assert turn_left(identity) is None
    assert outlives.run(turn_left, identity) == "T1"
    assert within.run(turn_left, identity) == "T1"
    assert outlives.run(turn_left, store.identity("main/b")) is None


def test_the_turn_on_a_session_is_found_around_those_on_others() -> None:
    store = turnlock.open_store("memory:")
    a, b = store.identity("main/a"), store.identity("main/b")
    with store.turn("main/a") as outer:
        with store.turn("main/b") as inner:
            outlives = contextvars.copy_context()
            assert (turn_on(a), turn_on(b)) == (outer, inner)
            assert turnlock.current_turn() is inner
        assert (turn_on(a), turn_on(b)) == (outer, None)
        assert outlives.run(turn_on, b) is None
        assert outlives.run(turn_on, a) is outer
    assert turn_on(a) is None
    assert outlives.run(turn_on, a) is None


def test_a_session_is_another_one_in_another_store() -> None:
    """The same key in two places is two sessions; in one place it is one, whoever opened it."""
    one, other = turnlock.open_store("memory:"), turnlock.open_store("memory:")
    assert one.identity("main/a") != other.identity("main/a")
    assert one.identity("main/a") == one.identity("main/a")


def test_a_new_turn_in_what_outlived_one_is_its_own() -> None:
    """A turn that is open is the turn, whatever was left before."""
    store = turnlock.open_store("memory:")
    with store.turn("main/a"):
        outlives = contextvars.copy_context()

    def again() -> None:
        with store.turn("main/a") as turn:
            assert turnlock.current_turn() is turn
            assert turn_left(turn.identity) is None

    outlives.run(again)
    with pytest.raises(turnlock.InvalidSessionKey):
        store.identity("no key")
