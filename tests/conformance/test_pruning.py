"""What nobody has used for long goes, once the archive has all of it; everything else stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.conformance.test_backend import KEY, append, line, taken
from tests.helpers import kinds
from turnlock.backends import Backend
from turnlock.copying import Result
from turnlock.errors import LimitsError, StoreError
from turnlock.pruning import Fate
from turnlock.session import SessionKey
from turnlock.store import Store

HOUR = 3600.0


@pytest.fixture
def archive(tmp_path: Path) -> Store:
    return turnlock.open_store(tmp_path / "archive")


def written(store: Store, key: str = "main/a") -> list[bytes]:
    with store.turn(key) as turn:
        turn.append(turnlock.user("é"))
    return [one.raw for one in store.read_lines(key)]


def test_an_idle_session_goes_and_its_copy_is_the_same_bytes(store: Store, archive: Store) -> None:
    lines = written(store)
    written(store, "main/b")
    assert [one.session for one in store.idle(0.0)] == ["main/a", "main/b"]
    pruned = store.prune("main/a", idle=0.0, archive=archive)
    assert (pruned.session, pruned.fate) == ("main/a", Fate.GONE)
    assert [one.session for one in store.sessions()] == ["main/b"]
    assert store.locks() == []
    assert [one.raw for one in archive.read_lines("main/a")] == lines
    # The session goes on as a new one, and the other was not touched.
    written(store)
    assert kinds(store) == ["turn", "user:é", "end"]


def test_a_session_that_was_used_stays(store: Store, archive: Store) -> None:
    written(store)
    assert list(store.idle(HOUR)) == []
    assert store.prune("main/a", idle=HOUR, archive=archive).fate is Fate.USED
    assert store.prune("main/none", idle=0.0, archive=archive).fate is Fate.USED
    assert kinds(store) == ["turn", "user:é", "end"]
    assert list(archive.sessions()) == []


def test_it_is_asked_again_under_the_lease_how_old_it_is(
    backend: Backend[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn may come between the look and the take."""
    store = Store(backend, location="test")
    written(store)
    real = backend.record(KEY)
    assert real is not None
    answers = iter([real._replace(modified="2000-01-01T00:00:00.000Z"), real])
    monkeypatch.setattr(backend, "record", lambda session: next(answers))
    assert store.prune("main/a", idle=HOUR, archive=None).fate is Fate.USED
    assert kinds(store) == ["turn", "user:é", "end"]


def test_a_session_that_somebody_holds_stays(store: Store, archive: Store) -> None:
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("x"))
        assert store.prune("main/a", idle=0.0, archive=archive).fate is Fate.BUSY
    assert kinds(store) == ["turn", "user:x", "end"]
    assert list(archive.sessions()) == []


def test_a_turn_that_owes_its_terminal_entry_keeps_its_session(
    backend: Backend[Any], archive: Store
) -> None:
    lease = taken(backend)
    append(backend, lease, line("1"))
    backend.release(lease)
    store = Store(backend, location="test")
    assert store.prune("main/a", idle=0.0, archive=archive).fate is Fate.UNFINISHED
    assert backend.record(KEY) is not None


def test_what_the_archive_has_under_its_name_is_not_written_over(
    store: Store, archive: Store
) -> None:
    theirs = written(archive)
    written(store)
    assert store.prune("main/a", idle=0.0, archive=archive).fate is Fate.DIFFERS
    assert kinds(store) == ["turn", "user:é", "end"]
    assert [one.raw for one in archive.read_lines("main/a")] == theirs


def test_a_session_that_could_not_be_copied_stays(
    store: Store, archive: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(store)

    def full(*_: object) -> None:
        raise StoreError("archive", "append", "no space left on device")

    with monkeypatch.context() as during:
        during.setattr(archive._backend, "append", full)
        with pytest.raises(StoreError, match="no space left"):
            store.prune("main/a", idle=0.0, archive=archive)
    assert kinds(store) == ["turn", "user:é", "end"]
    # The next time goes on from there.
    assert store.prune("main/a", idle=0.0, archive=archive).fate is Fate.GONE
    assert kinds(archive) == ["turn", "user:é", "end"]


def test_the_archive_of_a_store_is_another_place(state: Path) -> None:
    """Otherwise a copy into itself would be what was taken away."""
    with turnlock.open_store(state) as store, turnlock.open_store(state) as same:
        written(store)
        assert store.prune("main/a", idle=0.0, archive=same).fate is Fate.BUSY
        assert kinds(store) == ["turn", "user:é", "end"]


def test_a_session_that_another_pruning_takes_away_is_not_made_anew(
    backend: Backend[Any], archive: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once: the archive would have another session under the name of an empty one."""
    store = Store(backend, location="test")
    written(store)
    real = backend.record

    def other_is_first(session: SessionKey) -> Any:
        record = real(session)
        monkeypatch.setattr(backend, "record", real)
        assert store.prune("main/a", idle=0.0, archive=archive).fate is Fate.GONE
        return record

    monkeypatch.setattr(backend, "record", other_is_first)
    assert store.prune("main/a", idle=0.0, archive=archive).fate is Fate.USED
    assert [*store.sessions(), *store.locks()] == []


def test_a_copy_of_a_session_that_is_not_there_makes_none(store: Store, archive: Store) -> None:
    copied = archive.copy_from(store, "main/nothere")
    assert (copied.result, copied.lines) == (Result.MISSING, 0)
    assert list(store.sessions()) == list(archive.sessions()) == []
    assert store.locks() == archive.locks() == []


@pytest.mark.parametrize("idle", [float("nan"), float("inf"), -1.0, "1", True])
def test_what_is_no_time_is_refused(store: Store, idle: Any) -> None:
    written(store)
    with pytest.raises(LimitsError, match="'idle'"):
        store.idle(idle)
    with pytest.raises(LimitsError, match="'idle'"):
        store.prune("main/a", idle=idle, archive=None)


def test_nobody_is_idle_since_before_the_calendar(store: Store) -> None:
    written(store)
    assert list(store.idle(1e12)) == []
    assert store.prune("main/a", idle=1e300, archive=None).fate is Fate.USED
