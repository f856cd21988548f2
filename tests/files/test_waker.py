"""Waiters of one process read one inotify instance, one for all; the slow poll is not needed.

It is made so slow here that a waiter which depends on it hangs.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.planting import claim_of, lock
from tests.helpers import PATIENCE, eventually, holder
from turnlock.backends import Holder, TakeRequest, Wake
from turnlock.backends.files import FilesBackend, StateDirectory, native
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.backends.files.waker import InotifyWaker, InotifyWatch, PolledWatch, Watch
from turnlock.clock import SystemClock
from turnlock.session import SessionKey

A, B = SessionKey("main", "a"), SessionKey("main", "b")

pytestmark = pytest.mark.skipif(
    not isinstance(native().waker, InotifyWaker), reason="this system has no inotify"
)


@pytest.fixture
def waker(monkeypatch: pytest.MonkeyPatch) -> InotifyWaker:
    monkeypatch.setattr(InotifyWatch, "interval", 3600.0)
    return InotifyWaker()


@pytest.fixture
def backend(state: Path, waker: InotifyWaker) -> FilesBackend:
    return FilesBackend(StateDirectory(str(state)), platform=native()._replace(waker=waker))


class Waiting:
    """A thread in `FilesBackend.wait`, asleep."""

    def __init__(self, backend: FilesBackend, waker: InotifyWaker, session: SessionKey) -> None:
        self.wake = Wake()
        self._backend = backend
        self._session = session
        self._thread = threading.Thread(target=self._wait, daemon=True)
        before = _watches(waker)
        self._thread.start()
        eventually(lambda: _watches(waker) > before and waker._reader is not None)

    def returned(self) -> bool:
        self._thread.join(PATIENCE)
        return not self._thread.is_alive()

    def _wait(self) -> None:
        holder: Any = self._backend.take(self._session, TakeRequest("W", 300.0))
        assert isinstance(holder, Holder)
        standing = self._backend.line_up(self._session)
        self._backend.wait(self._session, holder, standing, 3600.0, self.wake)
        holder.close()
        standing.close()


def _watches(waker: InotifyWaker) -> int:
    return sum(map(len, waker._waiting.values()))


def held(backend: FilesBackend, session: SessionKey) -> Any:
    return backend.take(session, TakeRequest("H", 300.0))


def test_one_waiter_reads_for_all(backend: FilesBackend, waker: InotifyWaker) -> None:
    leases = {session: held(backend, session) for session in (A, B)}
    reader, other = Waiting(backend, waker, A), Waiting(backend, waker, B)
    backend.release(leases[B])
    assert other.returned()
    backend.release(leases[A])
    assert reader.returned()


@pytest.mark.parametrize("leaves_by", ["release", "being called off"])
def test_when_the_reader_leaves_another_one_reads(
    backend: FilesBackend, waker: InotifyWaker, leaves_by: str
) -> None:
    leases = {session: held(backend, session) for session in (A, B)}
    reader, other = Waiting(backend, waker, A), Waiting(backend, waker, B)
    if leaves_by == "release":
        backend.release(leases[A])
    else:
        reader.wake.set()
    assert reader.returned()
    # Told to read, it looks for itself first, and comes back to the caller.
    assert other.returned()
    last = Waiting(backend, waker, B)
    backend.release(leases[B])
    assert last.returned()


def test_a_reader_can_be_called_off(backend: FilesBackend, waker: InotifyWaker) -> None:
    """What sets its wake ends its read as well."""
    lease = held(backend, A)
    reader = Waiting(backend, waker, A)
    reader.wake.set()
    assert reader.returned()
    assert _watches(waker) == 0
    assert waker._reader is None
    assert backend.holds(lease)


class TooLate(InotifyWaker):
    """Begins to watch when it has happened already."""

    def __init__(self) -> None:
        super().__init__()
        self.happens: Callable[[], object] = list

    def watch(self, claim: Handle, wake: Wake) -> Watch:
        self.happens()
        return super().watch(claim, wake)


def test_what_happens_before_the_watch_begins_is_not_slept_through(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InotifyWatch, "interval", 3600.0)
    waker = TooLate()
    backend = FilesBackend(StateDirectory(str(state)), platform=native()._replace(waker=waker))
    lease = held(backend, A)
    waker.happens = lambda: backend.release(lease)
    found: Any = backend.take(A, TakeRequest("W", 300.0))
    standing = backend.line_up(A)

    def wait() -> None:
        backend.wait(A, found, standing, 3600.0, Wake())

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    found.close()
    standing.close()


def test_the_death_of_a_holder_is_heard(
    state: Path, backend: FilesBackend, waker: InotifyWaker
) -> None:
    with holder(state) as process:
        waiter = Waiting(backend, waker, A)
        process.kill()
        assert waiter.returned()


def test_a_waiter_wakes_by_itself_when_its_holder_is_over_its_limit(
    backend: FilesBackend, waker: InotifyWaker
) -> None:
    """Its own watchdog has failed then, and nothing will be heard of it."""
    lease: Any = backend.take(A, TakeRequest("H", 0.05))
    waiter = Waiting(backend, waker, A)
    assert waiter.returned()
    assert backend.holds(lease)


def test_who_waits_behind_a_live_lock_of_another_program_sleeps(
    backend: FilesBackend, waker: InotifyWaker, state: Path
) -> None:
    """It has no flock, which of ours would say that its holder has died."""
    path = lock(state, claim_of(os.getpid()))
    waiter = Waiting(backend, waker, A)
    path.unlink()
    assert waiter.returned()


def test_who_only_looks_wakes_nobody(backend: FilesBackend, waker: InotifyWaker) -> None:
    """Or two waiters would wake each other for ever."""
    lease = held(backend, A)
    files, wake = FileOps(), Wake()
    claim = files.open_quietly(lease.place.lock)
    watch = waker.watch(claim, wake)
    assert [record.stale for record in backend.locks()] == [False]
    assert not watch.wait(SystemClock(), 0.05)
    backend.release(lease)
    assert watch.wait(SystemClock(), PATIENCE)
    watch.close()
    claim.close()


def test_all_who_wait_for_one_claim_are_woken(backend: FilesBackend, waker: InotifyWaker) -> None:
    lease = held(backend, A)
    waiters = [Waiting(backend, waker, A) for _ in range(3)]
    backend.release(lease)
    # Whoever had not yet looked for itself when it was released need not be woken.
    assert all(waiter.returned() for waiter in waiters)


def test_when_the_kernel_has_dropped_events_all_are_woken(
    backend: FilesBackend, waker: InotifyWaker
) -> None:
    leases = [held(backend, session) for session in (A, B)]
    waiters = [Waiting(backend, waker, session) for session in (A, B)]
    waker._wake_those_of([(-1, 0x4000)])
    assert all(waiter.wake.is_set() for waiter in waiters)
    assert all(map(backend.holds, leases))


def test_without_inotify_a_waiter_looks_by_itself(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user has 128 instances, and other programs may have used them up."""

    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("turnlock.backends.files.waker._Inotify", refuse)
    waker = InotifyWaker()
    backend = FilesBackend(StateDirectory(str(state)), platform=native()._replace(waker=waker))
    lease = held(backend, A)
    found: Any = backend.take(A, TakeRequest("W", 300.0))
    standing = backend.line_up(A)
    thread = threading.Thread(
        target=lambda: backend.wait(A, found, standing, 3600.0, Wake()), daemon=True
    )
    thread.start()
    backend.release(lease)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    found.close()
    standing.close()


def test_what_cannot_be_made_whole_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of descriptors each wait would keep one more, until nothing could be opened."""

    def none_left(*args: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    def instances() -> int:
        links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return [os.readlink(one) for one in links if os.path.islink(one)].count(
            "anon_inode:inotify"
        )

    claim = Handle(os.open(tmp_path, os.O_RDONLY))
    waker = InotifyWaker()
    before = instances()
    monkeypatch.setattr(os, "eventfd", none_left)
    assert isinstance(waker.watch(claim, Wake()), PolledWatch)
    assert instances() == before
    claim.close()
