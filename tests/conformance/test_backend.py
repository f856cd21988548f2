"""What every backend promises (turnlock/backends/__init__.py), asked of each."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.conftest import MakeBackend
from turnlock.backends import Backend, Holder, Lost, TakeRequest, Wake
from turnlock.session import SessionKey
from turnlock.testing import ManualClock
from turnlock.transcript.jsonl import encode
from turnlock.transcript.tail import Tail, TurnSeen

KEY = SessionKey("main", "a")


def request(turn_id: str = "T1", max_hold: float = 300.0) -> TakeRequest:
    return TakeRequest(turn_id, max_hold)


def taken(backend: Backend[Any], turn_id: str = "T1") -> Any:
    lease = backend.take(KEY, request(turn_id))
    assert not isinstance(lease, Holder)
    return lease


def line(identity: str, epoch: int = 1) -> bytes:
    return encode({"type": "message", "id": identity, "epoch": epoch})


def append(backend: Backend[Any], lease: Any, *lines: bytes) -> None:
    """Append lines, and say what the end is then, as a writer does."""
    last = json.loads(lines[-1])
    after = Tail(
        last_id=last["id"], epoch=last["epoch"], turns=(TurnSeen(last["epoch"], None, False, None),)
    )
    backend.append(lease, lines, after)


def ids(backend: Backend[Any]) -> list[str]:
    return [each.entry["id"] for each in backend.read(KEY) if each.entry is not None][1:]


def test_a_second_taker_is_told_who_holds(backend: Backend[Any]) -> None:
    lease = taken(backend, "T1")
    holder = backend.take(KEY, request("T2"))
    assert isinstance(holder, Holder)
    assert (holder.turn_id, holder.limit) == ("T1", 300.0)
    assert holder.age is not None
    assert 0 <= holder.age < 60
    holder.close()
    assert backend.holds(lease)


def test_other_sessions_are_free(backend: Backend[Any]) -> None:
    taken(backend)
    assert not isinstance(backend.take(SessionKey("main", "b"), request()), Holder)


def test_a_released_session_can_be_taken(backend: Backend[Any]) -> None:
    backend.release(taken(backend))
    taken(backend)


def test_release_twice_touches_nothing_of_the_successor(backend: Backend[Any]) -> None:
    first = taken(backend, "T1")
    assert backend.release(first)
    second = taken(backend, "T2")
    assert backend.release(first)
    assert backend.holds(second)


def test_appended_lines_are_read_in_order(backend: Backend[Any]) -> None:
    lease = taken(backend)
    append(backend, lease, line("1"), line("2"))
    append(backend, lease, line("3"))
    assert ids(backend) == ["1", "2", "3"]


def test_a_transcript_begins_with_its_header(backend: Backend[Any]) -> None:
    lease = taken(backend)
    first = next(iter(backend.read(KEY))).entry
    assert first is not None
    assert (first["type"], first["version"]) == ("session", 3)
    assert first["id"] == backend.header_id(lease)


def test_a_renewal_names_the_leases_that_are_lost_and_no_other(backend: Backend[Any]) -> None:
    old = taken(backend, "T1")
    new = backend.supersede(KEY, request("T2"), lease=old, reason="hold-limit")
    other = backend.take(SessionKey("main", "b"), request())
    given_back = backend.take(SessionKey("main", "c"), request())
    assert not isinstance(given_back, Holder)
    backend.release(given_back)
    asked: list[Any] = [old, new, other, given_back]
    for lease in asked:
        if hasattr(lease, "renew_at"):
            # A database is not asked before the time.
            lease.renew_at = 0.0
    lost = backend.renew(asked)
    assert {id(lease) for lease in lost} == {id(old), id(given_back)}
    assert backend.renew([]) == []


def test_a_superseded_lease_writes_nothing(backend: Backend[Any]) -> None:
    old = taken(backend, "T1")
    append(backend, old, line("1"))
    new = backend.supersede(KEY, request("T2"), lease=old, reason="hold-limit")
    assert new is not None
    with pytest.raises(Lost):
        append(backend, old, line("late"))
    assert not backend.holds(old)
    assert ids(backend) == ["1"]


def test_superseding_names_the_turn_that_owes(backend: Backend[Any]) -> None:
    old = taken(backend, "T1")
    new = backend.supersede(KEY, request("T2"), lease=old, reason="stall-limit")
    assert new is not None
    assert [(turn.turn_id, turn.reason) for turn in new.owed] == [("T1", "stall-limit")]


def test_superseding_twice_passes_the_debt_on(backend: Backend[Any]) -> None:
    first = taken(backend, "T1")
    second = backend.supersede(KEY, request("T2"), lease=first, reason="hold-limit")
    third = backend.supersede(KEY, request("T3"), lease=second, reason="operator")
    assert third is not None
    assert [turn.turn_id for turn in third.owed] == ["T1", "T2"]


def test_superseding_a_lease_that_is_gone_does_nothing(backend: Backend[Any]) -> None:
    old = taken(backend, "T1")
    backend.release(old)
    new = taken(backend, "T2")
    assert backend.supersede(KEY, request("T3"), lease=old, reason="operator") is None
    assert backend.holds(new)


def test_superseding_a_free_session_does_nothing(backend: Backend[Any]) -> None:
    assert backend.supersede(KEY, request(), lease=None, reason="operator") is None


def test_the_release_of_a_superseded_lease_frees_nothing(backend: Backend[Any]) -> None:
    old = taken(backend, "T1")
    new = backend.supersede(KEY, request("T2"), lease=old, reason="hold-limit")
    assert not backend.release(old)
    assert new is not None
    assert backend.holds(new)


def test_the_end_of_the_transcript_comes_with_the_lease(backend: Backend[Any]) -> None:
    lease = taken(backend)
    append(backend, lease, line("1", epoch=4), line("2", epoch=4))
    backend.release(lease)
    tail = taken(backend, "T2").tail
    assert (tail.epoch, tail.last_id) == (4, "2")
    assert tail.open_turn is not None


def test_known_ids_are_found_wherever_they_stand(backend: Backend[Any]) -> None:
    lease = taken(backend)
    append(backend, lease, line("1"), line("2"), line("3"))
    assert backend.known_ids(lease, {"2", "4"}) == {"2"}


def test_many_known_ids_are_found_as_few_are(backend: Backend[Any]) -> None:
    lease = taken(backend)
    there = {str(number) for number in range(50)}
    append(backend, lease, *map(line, sorted(there)), line('"id":"x1"'))
    asked = there | {f"x{number}" for number in range(50)}
    assert backend.known_ids(lease, asked) == there


def test_an_id_inside_of_a_text_is_no_known_id(backend: Backend[Any]) -> None:
    lease = taken(backend)
    append(backend, lease, encode({"type": "x", "id": "1", "epoch": 1, "text": "wanted"}))
    assert backend.known_ids(lease, {"wanted"}) == set()


def test_an_id_is_told_from_a_field_that_reads_like_it(backend: Backend[Any]) -> None:
    lease = taken(backend)
    append(backend, lease, encode({"type": "x", "id": "1", "epoch": 1, "nested": {"id": "2"}}))
    assert backend.known_ids(lease, {"1", "2"}) == {"1"}


def test_a_waiter_wakes_when_the_session_is_released(backend: Backend[Any]) -> None:
    lease = taken(backend, "T1")
    holder = backend.take(KEY, request("T2"))
    assert isinstance(holder, Holder)
    wake = Wake()
    releasing = threading.Thread(target=backend.release, args=(lease,))
    releasing.start()
    standing = backend.line_up(KEY)
    # Returning at all is the point: the fallback poll would not be a failure, a hang would.
    while isinstance(got := backend.take(KEY, request("T2"), standing=standing), Holder):
        backend.wait(KEY, got, standing, 30.0, wake)
        got.close()
    standing.close()
    releasing.join()
    holder.close()
    assert backend.holds(got)


def test_a_waiter_can_be_called_off(backend: Backend[Any]) -> None:
    lease = taken(backend, "T1")
    holder = backend.take(KEY, request("T2"))
    assert isinstance(holder, Holder)
    wake = Wake()
    wake.set()
    backend.wait(KEY, holder, backend.line_up(KEY), 3600.0, wake)
    holder.close()
    assert backend.holds(lease)


def test_a_holder_past_its_limit_is_superseded_after_the_grace(make_backend: MakeBackend) -> None:
    clock = ManualClock()
    backend = make_backend(clock)
    old: Any = backend.take(KEY, request("T1", max_hold=10.0))
    clock.advance(11.0)
    holder = backend.take(KEY, request("T2"))
    assert isinstance(holder, Holder)
    holder.close()
    # To the very end: a waiter that sleeps until then would find nothing, and wait for 0 seconds.
    clock.advance(1.0)
    new = taken(backend, "T2")
    assert not backend.holds(old)
    assert [(turn.turn_id, turn.reason) for turn in new.owed] == [("T1", "hold-limit")]


def test_a_session_that_is_not_there_reads_as_empty(backend: Backend[Any]) -> None:
    assert list(backend.read(KEY)) == []
    assert backend.end(KEY, turns=1).epoch == 0


def test_sessions_and_locks_are_listed(backend: Backend[Any]) -> None:
    lease = taken(backend, "T1")
    assert [record.session for record in backend.sessions()] == ["main/a"]
    (lock,) = backend.locks()
    assert (lock.session, lock.turn_id, lock.pid_status, lock.stale) == (
        "main/a",
        "T1",
        "alive",
        False,
    )
    backend.release(lease)
    assert list(backend.locks()) == []


def test_of_many_takers_at_a_barrier_one_gets_it(backend: Backend[Any]) -> None:
    barrier = threading.Barrier(8)
    got: list[object] = []

    def take() -> None:
        barrier.wait()
        found = backend.take(KEY, request(f"T{threading.get_ident()}"))
        got.append(found)

    for _ in range(20):
        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        leases = [one for one in got if not isinstance(one, Holder)]
        assert len(leases) == 1
        backend.release(leases[0])
        for one in got:
            if isinstance(one, Holder):
                one.close()
        got.clear()
