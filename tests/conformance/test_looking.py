"""What every backend shows of sessions, locks and lines, without taking anything."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import turnlock
from tests.conformance.test_backend import KEY, append, line, request, taken
from tests.helpers import eventually
from turnlock.backends import Backend
from turnlock.events import Event, TurnQueued
from turnlock.session import SessionKey
from turnlock.store import Store
from turnlock.transcript.jsonl import LINE_BYTES_MAX, find_entry, read_lines

# Reading from a place


def test_lines_are_read_from_where_one_begins(backend: Backend[Any]) -> None:
    append(backend, taken(backend), line("1"), line("2"), line("3"))
    lines = list(backend.read(KEY))
    for number, one in enumerate(lines):
        assert list(backend.read(KEY, start=one.offset)) == lines[number:]
    assert list(backend.read(KEY, start=lines[-1].end)) == []


def test_an_entry_is_found_by_its_id(backend: Backend[Any]) -> None:
    append(backend, taken(backend), line("1"), line('"id":"2"'), line("2"))
    found = backend.find(KEY, "2")
    assert found is not None
    first = next(backend.read(KEY, start=found))
    assert first.entry is not None
    assert first.entry["id"] == "2"
    assert backend.find(KEY, "3") is None
    assert backend.find(SessionKey("main", "nobody"), "1") is None


def test_a_line_that_is_too_long_has_its_size_and_hides_no_other() -> None:
    content = b'{"id":"1"}\n' + b"x" * (LINE_BYTES_MAX + 1_000_000) + b'\n{"id":"2"}\n'
    lines = list(read_lines(lambda offset, length: content[offset : offset + length]))
    assert [one.size for one in lines] == [10, LINE_BYTES_MAX + 1_000_000, 10]
    assert [one.entry for one in lines] == [{"id": "1"}, None, {"id": "2"}]
    assert lines[1].end == lines[2].offset
    assert len(lines[1].raw) <= LINE_BYTES_MAX
    assert find_entry(lambda at, length: content[at : at + length], "2") == lines[2].offset


# Sessions

NAMES = ["main/a", "main/a+b", "main/b", "other/a"]


def test_sessions_go_on_behind_one_of_them(store: Store) -> None:
    for name in NAMES:
        with store.turn(name) as turn:
            turn.append(turnlock.user("x"))
    listed = [one.session for one in store.sessions()]
    assert sorted(listed) == sorted(NAMES)
    for number, name in enumerate(listed):
        assert [one.session for one in store.sessions(after=name)] == listed[number + 1 :]
    # Behind one that is not there as well.
    assert [one.session for one in store.sessions(after="main/zzz")] == ["other/a"]


def test_the_status_of_a_session_has_its_holder_its_end_and_its_waiters(store: Store) -> None:
    nothing = store.status("main/a")
    assert (nothing.record, nothing.lock, nothing.end.turns, nothing.waiters) == (None, None, (), 0)
    with store.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("x"))
    with store.turn("main/a", turn_id="T2") as turn:
        turn.append(turnlock.user("y"))
        held = store.status("main/a")
    assert held.lock is not None
    assert held.lock.turn_id == "T2"
    assert [(seen.turn_id, seen.terminal) for seen in held.end.turns] == [
        ("T2", False),
        ("T1", True),
    ]
    free = store.status("main/a")
    assert free.record is not None
    assert (free.lock, free.end.turns[0].terminal, free.record.size) == (None, True, free.end.size)


def test_waiters_are_counted_and_the_holder_is_none(store: Store) -> None:
    queued = threading.Semaphore(0)

    def hear(event: Event) -> None:
        if isinstance(event, TurnQueued):
            queued.release()

    store.subscribe(hear)

    def wait() -> None:
        with store.turn("main/a"):
            pass

    threads = [threading.Thread(target=wait) for _ in range(3)]
    with store.turn("main/a"):
        assert store.waiters(["main/a"]) == {"main/a": 0}
        for thread in threads:
            thread.start()
            assert queued.acquire(timeout=20)
        assert store.waiters(["main/a", "main/b"]) == {"main/a": 3, "main/b": 0}
    for thread in threads:
        thread.join(20)
    assert store.waiters(["main/a"]) == {"main/a": 0}


def test_a_waiter_for_another_store_is_counted_once(backend: Backend[Any], store: Store) -> None:
    lease = taken(backend)
    thread = threading.Thread(target=lambda: store.turn("main/a").__enter__())
    thread.start()
    eventually(lambda: store.waiters(["main/a"]) == {"main/a": 1})
    backend.release(lease)
    thread.join(20)
    store.close()


# Leases


def test_a_lease_says_what_its_turn_is_at(store: Store) -> None:
    assert store.leases() == []
    with store.turn("main/a", max_hold=50, max_stall=9, turn_id="T1") as turn:
        (fresh,) = store.leases()
        assert (fresh.session, fresh.turn_id, fresh.phase) == ("main/a", "T1", "")
        turn.progress("tool")
        (lease,) = store.leases()
        assert (lease.phase, lease.max_hold, lease.max_stall) == ("tool", 50.0, 9.0)
        assert 0 <= lease.progress_age <= lease.held


# Revoking one turn and no other


@pytest.mark.parametrize("turn_id", ["T2", None])
def test_another_turn_than_the_named_one_is_left_alone(
    backend: Backend[Any], store: Store, turn_id: str | None
) -> None:
    lease = taken(backend, "T1")
    assert not store.revoke("main/a", turn_id=turn_id)
    assert backend.holds(lease)
    assert store.revoke("main/a", turn_id="T1")
    assert not backend.holds(lease)


@pytest.mark.parametrize("turn_id", ["T2", None])
def test_another_turn_of_this_process_is_left_alone(store: Store, turn_id: str | None) -> None:
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a", turn_id="T1") as turn:
        assert not store.revoke("main/a", turn_id=turn_id)
        turn.check()
        assert store.revoke("main/a", turn_id="T1")
        turn.check()


def test_a_holder_that_names_no_turn_can_be_meant(backend: Backend[Any], store: Store) -> None:
    lease = backend.take(KEY, request("")._replace(turn_id=None))
    assert not store.revoke("main/a", turn_id="T1")
    assert backend.holds(lease)
    assert store.revoke("main/a", turn_id=None)
    assert not backend.holds(lease)
