"""Turns that are begun under a name that a turn before them had, as a job that is run again has."""

from __future__ import annotations

import pytest

import turnlock
from tests.helpers import kinds
from turnlock import LeaseRevoked
from turnlock.backends import TakeRequest
from turnlock.session import SessionKey
from turnlock.store import Store
from turnlock.turns.revoking import settle_and_release


def run(store: Store, turn_id: str | None = "job-7") -> None:
    with store.turn("main/a", turn_id=turn_id) as turn:
        turn.append(turnlock.user("1"))


@pytest.mark.parametrize("others", [0, 1])
def test_a_turn_is_marked_although_one_of_its_name_ended_before(others: int, store: Store) -> None:
    run(store)
    for _ in range(others):
        run(store, None)
    with pytest.raises(LeaseRevoked), store.turn("main/a", turn_id="job-7"):
        store.revoke("main/a")
    assert kinds(store)[-3:] == ["end", "turn", "operator"]
    run(store)
    assert kinds(store)[-3:] == ["turn", "user:1", "end"]


def test_so_is_each_of_two_that_were_taken_from_one_after_the_other(store: Store) -> None:
    backend, key = store._backend, SessionKey("main", "a")
    run(store)
    first = backend.take(key, TakeRequest("job-7", 60.0, opening="1" * 16))
    again = TakeRequest("job-7", 60.0, opening="2" * 16)
    second = backend.supersede(key, again, lease=first, reason="hold-limit")
    third = backend.supersede(key, TakeRequest(None, 2.0), lease=second, reason="operator")
    assert third is not None
    settle_and_release(store._runtime, backend, third, "main/a")
    assert kinds(store)[-4:] == ["turn", "hold-limit", "turn", "operator"]


def test_a_turn_that_wrote_is_marked_once(store: Store) -> None:
    run(store)
    with pytest.raises(LeaseRevoked), store.turn("main/a", turn_id="job-7") as turn:
        turn.append(turnlock.user("2"))
        store.revoke("main/a")
    run(store, None)
    assert kinds(store)[3:6] == ["turn", "user:2", "operator"]
    assert len(kinds(store)) == 9


def test_the_reason_is_not_that_of_the_turn_before(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.turn("main/a", turn_id="job-7"):
        raise ZeroDivisionError
    key, revoker = SessionKey("main", "a"), TakeRequest(None, 2.0, header=False)
    with pytest.raises(LeaseRevoked) as caught, store.turn("main/a", turn_id="job-7") as turn:
        taken = store._backend.supersede(key, revoker, lease=None, reason="operator")
        assert taken is not None
        store._backend.release(taken)
        turn.append(turnlock.user("late"))
    assert caught.value.reason == "superseded"
