"""Taking a transcript away: by its holder, as it was, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.test_backend import KEY, append, ids, line, request, taken
from tests.helpers import PATIENCE
from turnlock.backends import Backend, Holder, Lost, NoSession, Wake
from turnlock.errors import TranscriptError


def size_of(backend: Backend[Any]) -> int:
    record = backend.record(KEY)
    assert record is not None
    return record.size


def test_what_was_taken_away_is_as_what_never_was(backend: Backend[Any]) -> None:
    lease = taken(backend)
    append(backend, lease, line("1"))
    backend.remove(lease, size_of(backend))
    backend.release(lease)
    assert backend.record(KEY) is None
    assert list(backend.sessions()) == []
    assert list(backend.read(KEY)) == []
    assert list(backend.locks()) == []
    again = taken(backend)
    assert (again.owed, again.tail.epoch) == ((), 0)
    append(backend, again, line("2"))
    assert ids(backend) == ["2"]


def test_a_holder_that_was_superseded_takes_nothing_away(backend: Backend[Any]) -> None:
    old = taken(backend, "T1")
    append(backend, old, line("1"))
    new = backend.supersede(KEY, request("T2"), lease=old, reason="operator")
    assert new is not None
    with pytest.raises(Lost):
        backend.remove(old, size_of(backend))
    assert ids(backend) == ["1"]
    backend.release(new)
    # Nor does one that has given its session back.
    with pytest.raises(Lost):
        backend.remove(new, size_of(backend))
    assert ids(backend) == ["1"]


def test_what_is_not_as_its_holder_knows_it_stays(backend: Backend[Any]) -> None:
    lease = taken(backend)
    append(backend, lease, line("1"))
    size = size_of(backend)
    append(backend, lease, line("2"))
    with pytest.raises(TranscriptError):
        backend.remove(lease, size)
    assert ids(backend) == ["1", "2"]
    assert backend.holds(lease)


def test_a_zombie_writes_nothing_to_what_was_taken_away(backend: Backend[Any]) -> None:
    zombie = taken(backend, "T1")
    append(backend, zombie, line("1"))
    lease = backend.supersede(KEY, request("T2"), lease=zombie, reason="operator")
    assert lease is not None
    backend.remove(lease, size_of(backend))
    with pytest.raises(Lost):
        append(backend, zombie, line("late"))
    backend.release(lease)
    with pytest.raises(Lost):
        append(backend, zombie, line("later"))
    assert backend.record(KEY) is None


def test_who_would_wait_for_a_session_that_was_taken_away_takes_it(backend: Backend[Any]) -> None:
    lease = taken(backend, "T1")
    found = backend.take(KEY, request("T2"))
    assert isinstance(found, Holder)
    removed(backend, lease)
    standing = backend.line_up(KEY)
    # Returning is the point: there is nothing to wait for.
    backend.wait(KEY, found, standing, PATIENCE, Wake())
    assert not isinstance(backend.take(KEY, request("T2"), standing=standing), Holder)
    standing.close()


def removed(backend: Backend[Any], lease: Any) -> None:
    append(backend, lease, line("1"))
    backend.remove(lease, size_of(backend))
    backend.release(lease)


def test_who_asks_for_no_session_makes_none(backend: Backend[Any]) -> None:
    """A copy or a pruning of a session that went away meanwhile must not leave an empty one."""
    with pytest.raises(NoSession):
        backend.take(KEY, request()._replace(make=False))
    assert backend.record(KEY) is None
    assert [*backend.sessions(), *backend.locks()] == []
    lease = taken(backend)
    append(backend, lease, line("1"))
    backend.release(lease)
    lease = backend.take(KEY, request()._replace(make=False))
    assert backend.holds(lease)
