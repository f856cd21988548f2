"""A call that reports on itself: what is new, and what is too soon after it to be looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from turnlock.backends.memory import MemoryBackend
from turnlock.store import Store
from turnlock.testing import ManualClock
from turnlock.turns.watchdog import deadline_of

IDLE = 10.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> Iterator[Store]:
    with Store(MemoryBackend(clock=clock, pid=1), location="test", clock=clock) as store:
        yield store


def test_content_is_fresh_for_a_moment(store: Store, clock: ManualClock) -> None:
    seen = []
    with store.turn("main/a", max_hold=1000) as turn:
        call = turn.begin_call(lambda: None, idle=IDLE)
        seen.append(call.is_fresh)
        call.progressed()
        for seconds in (0.0, 0.049, 0.002):
            clock.advance(seconds)
            seen.append(call.is_fresh)
        call.close()
    assert seen == [False, True, True, False]


def test_the_moment_is_no_more_than_a_tenth_of_a_short_limit(
    store: Store, clock: ManualClock
) -> None:
    with store.turn("main/a", max_hold=1000) as turn:
        call = turn.begin_call(lambda: None, idle=0.1)
        call.progressed()
        clock.advance(0.011)
        assert not call.is_fresh
        call.close()


def test_the_limit_is_longer_by_what_was_not_looked_at(store: Store, clock: ManualClock) -> None:
    """Content that came at the end of the moment still has all of its limit."""
    with store.turn("main/a", max_hold=1000) as turn:
        call = turn.begin_call(lambda: None, idle=IDLE)
        call.progressed()
        deadline, reason = deadline_of(turn._core.lease)
        assert reason == "model-limit"
        assert deadline - clock.monotonic() == pytest.approx(IDLE + 0.05)
        call.close()


# What a call does to the world


def test_the_key_of_a_call_is_the_same_in_its_turn_and_no_other(store: Store) -> None:
    with store.turn("main/a", turn_id="T") as turn:
        key = turn.idempotency_key("call_1")
        assert key == turn.idempotency_key("call_1") != turn.idempotency_key("call_2")
    with store.turn("main/a", turn_id="T") as again:
        assert again.idempotency_key("call_1") == key
    with store.turn("main/a") as other, store.turn("main/b", turn_id="T") as elsewhere:
        assert key not in (other.idempotency_key("call_1"), elsewhere.idempotency_key("call_1"))


def test_the_parts_of_a_key_are_told_apart(store: Store) -> None:
    with store.turn("main/a", turn_id="T c") as one:
        key = one.idempotency_key("d")
    with store.turn("main/a", turn_id="T") as other:
        assert other.idempotency_key("c d") != key
