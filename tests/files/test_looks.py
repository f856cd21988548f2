"""A look at a lock changes nothing for anybody else, and an error of the disk proves nothing."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import turnlock
from tests.files.test_faults import a_store
from tests.files.test_protocol import KEY, a_backend, a_dead_lock
from turnlock.backends import STALE_AFTER, Holder, TakeRequest
from turnlock.backends.files import StateDirectory, native
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.backends.files.inspect import Inspector, Judged
from turnlock.clock import SystemClock


class OnFirstProbe(FileOps):
    """Lets somebody else act while the first flock that is got is held."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act: Callable[[], object] | None = act

    def flock(self, handle: Handle, operation: int) -> None:
        super().flock(handle, operation)
        act, self._act = self._act, None
        if act is not None:
            act()


def test_two_who_look_at_once_do_not_take_each_other_for_the_holder(state: Path) -> None:
    a_dead_lock(state)
    seen: list[bool] = []

    def look() -> None:
        seen.extend(record.stale for record in a_backend(state).locks())

    (record,) = a_backend(state, OnFirstProbe(look)).locks()
    assert (record.stale, seen) == (True, [True])


@contextmanager
def looking(state: Path, *, to_take: bool) -> Iterator[tuple[Inspector, Judged]]:
    inspector = Inspector(FileOps(), SystemClock(), native().processes)
    place = StateDirectory(str(state)).place(KEY)
    judged = inspector.look(place, to_take=to_take, stale_after=STALE_AFTER)
    assert judged is not None
    try:
        yield inspector, judged
    finally:
        judged.close()


def test_who_has_looked_keeps_nobody_from_taking_what_is_stale(state: Path) -> None:
    a_dead_lock(state)
    with looking(state, to_take=False):
        lease = a_backend(state).take(KEY, TakeRequest("next", 60.0))
        assert not isinstance(lease, Holder)


def test_a_taker_that_may_not_take_keeps_nobody_else_from_it(state: Path) -> None:
    lock = a_dead_lock(state, {"pid": os.getpid(), "createdAt": "2026-01-01T00:00:00Z", "v": 9})
    with looking(state, to_take=True), lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_waiter_that_finds_its_holder_dead_keeps_nobody_from_the_claim(state: Path) -> None:
    lock = a_dead_lock(state)
    with looking(state, to_take=False) as (inspector, judged), lock.open() as file:
        assert inspector.is_free(judged.handle)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not inspector.is_free(judged.handle)


class Failing(FileOps):
    """Fails one call on the lock path for as long as there is an ``error``."""

    error: OSError | None = None

    def __init__(self, call: str) -> None:
        self._call = call

    def _fail(self, call: str, path: str) -> None:
        if self.error is not None and call == self._call and path.endswith(".jsonl.lock"):
            raise self.error

    def stat_path(self, path: str) -> os.stat_result:  # type: ignore[override]
        self._fail("stat_path", path)
        return os.lstat(path)

    def open_quietly(self, path: str) -> Handle:
        self._fail("open_quietly", path)
        return super().open_quietly(path)


def test_a_disk_that_cannot_look_at_a_lock_takes_it_from_nobody(state: Path) -> None:
    files = Failing("stat_path")
    store = a_store(state, files)
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        files.error = OSError(errno.EIO, "Input/output error")
        with pytest.raises(turnlock.StoreError):
            turn.append(turnlock.user("unknown"))
        with pytest.raises(turnlock.StoreError):
            turn.check()
        files.error = None
        turn.check()
        turn.append(turnlock.user("2"))
    texts = [e["message"]["content"][0]["text"] for e in store.read("main/a") if "message" in e]
    assert texts == ["1", "2"]


def test_a_lock_that_may_not_be_read_is_there(state: Path) -> None:
    lock = a_dead_lock(state)
    files = Failing("open_quietly")
    files.error = PermissionError(errno.EACCES, "Permission denied")
    store = a_store(state, files)
    (record,) = store.clean_stale()
    assert (record.stale, record.removed) == (False, False)
    with pytest.raises(turnlock.LockPathError, match="permission denied"), store.turn("main/a"):
        pass
    assert lock.exists()
