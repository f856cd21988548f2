"""The guard makes check and write one step, and is only good for the file that the path names."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.files.test_faults import a_store, assert_turns_are_whole
from tests.files.test_handing_over import refused, superseded, taken
from tests.files.test_protocol import FOREIGN, KEY, a_backend, a_dead_lock
from turnlock.backends import Lost, TakeRequest
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.transcript.jsonl import encode
from turnlock.transcript.tail import Tail


def path_of(handle: Handle) -> str:
    return os.readlink(f"/proc/self/fd/{handle.fd}")


class BeforeTheGuard(FileOps):
    """Lets somebody else act before the next flock on a file whose path ends like this."""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self.act: Callable[[], object] | None = None

    def flock(self, handle: Handle, operation: int) -> None:
        if operation & fcntl.LOCK_EX and path_of(handle).endswith(self._suffix):
            act, self.act = self.act, None
            if act is not None:
                act()
        super().flock(handle, operation)


class HeldAtFirst(FileOps):
    """The guard of a transcript is somebody else's for the first tries of each who wants it."""

    def __init__(self, tries: int) -> None:
        self._tries = self._left = tries

    def flock(self, handle: Handle, operation: int) -> None:
        if operation & fcntl.LOCK_EX and path_of(handle).endswith("a.jsonl"):
            self._left -= 1
            if self._left >= 0:
                raise BlockingIOError
            self._left = self._tries
        super().flock(handle, operation)


@pytest.mark.parametrize("tries", [1, 31, 32, 33, 40])
def test_a_guard_that_comes_free_in_time_is_had(state: Path, tries: int) -> None:
    backend = FilesBackend(StateDirectory(str(state)), files=HeldAtFirst(tries), guard_timeout=10.0)
    lease = taken(backend)
    backend.append(lease, [b"{}\n"], lease.tail)
    assert backend.release(lease)
    assert (state / "agents/main/sessions/a.jsonl").read_bytes().endswith(b"{}\n")


def test_who_is_superseded_before_it_has_the_guard_writes_nothing(state: Path) -> None:
    files = BeforeTheGuard("a.jsonl")
    backend, other = a_backend(state, files), a_backend(state)
    lease = taken(backend)
    size = (state / "agents/main/sessions/a.jsonl").stat().st_size
    files.act = lambda: superseded(other, None)
    with pytest.raises(Lost):
        backend.append(lease, [b"{}\n"], Tail())
    assert (state / "agents/main/sessions/a.jsonl").stat().st_size == size


def test_a_directorys_guard_is_no_good_once_there_is_a_transcript(state: Path) -> None:
    """Whoever writes that one has its guard, and not the directory's."""
    lock = a_dead_lock(state, FOREIGN)
    transcript = lock.with_suffix("")
    files = BeforeTheGuard("/sessions")
    with ExitStack() as stack:

        def make() -> None:
            fcntl.flock(stack.enter_context(transcript.open("w")), fcntl.LOCK_EX)

        files.act = make
        with pytest.raises(turnlock.StoreError):
            a_backend(state, files).take(KEY, TakeRequest("T", 60.0))
        assert json.loads(lock.read_text()) == FOREIGN
    taken(a_backend(state))


class AtTheTranscript(FileOps):
    """Lets somebody else act in the moment in which a transcript gets its name."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def link_unnamed(self, handle: Handle, path: str, proc: Handle) -> None:
        if path.endswith(".jsonl"):
            self._act()
        super().link_unnamed(handle, path, proc)


def test_nobody_takes_a_session_while_its_transcript_is_made(state: Path) -> None:
    """Or it would be taken under the directory's guard, and written under the transcript's."""
    got: list[Any] = []
    backend = a_backend(state, AtTheTranscript(refused(state, got)))
    lease = taken(backend)
    assert got == ["refused"]
    assert backend.holds(lease)


class Stumbling(FileOps):
    """Raises behind the flock, as a signal's handler may."""

    at: int | None = None

    def flock(self, handle: Handle, operation: int) -> None:
        super().flock(handle, operation)
        if operation & fcntl.LOCK_EX and path_of(handle).endswith("a.jsonl") and self.at:
            self.at = None
            raise KeyboardInterrupt


def test_an_exception_behind_the_flock_leaves_no_guard(state: Path) -> None:
    files = Stumbling()
    store = a_store(state, files)
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        files.at = 1
        with pytest.raises(KeyboardInterrupt):
            turn.append(turnlock.user("2"))
        with (state / "agents/main/sessions/a.jsonl").open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        turn.append(turnlock.user("3"))
    assert_turns_are_whole(store)


class DuringSync(FileOps):
    """Tries the guard while an append makes itself durable."""

    def __init__(self, transcript: Path) -> None:
        self._transcript = transcript
        self.free = 0

    def fdatasync(self, handle: Handle) -> None:
        with self._transcript.open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.free += 1
        super().fdatasync(handle)


def test_a_slow_disk_holds_the_guard_up_for_nobody(state: Path) -> None:
    files = DuringSync(state / "agents/main/sessions/a.jsonl")
    with a_store(state, files).turn("main/a") as turn:
        turn.append(turnlock.user("1"))
    assert files.free == 2


def an_entry(epoch: int, kind: str = "message") -> bytes:
    data = {"turnId": f"T{epoch}", "v": 1}
    entry = {"type": "custom", "customType": kind, "id": f"e{epoch}", "epoch": epoch, "data": data}
    return encode(entry | {"parentId": None, "timestamp": "2026-01-01T00:00:00.000Z"})


def test_who_is_superseded_before_it_begins_does_not_begin(state: Path) -> None:
    transcript = state / "agents/main/sessions/a.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.touch()
    files = BeforeTheGuard("a.jsonl")
    files.act = lambda: superseded(a_backend(state), None)
    with pytest.raises(Lost):
        a_backend(state, files).take(KEY, TakeRequest("T", 60.0))
    assert transcript.read_bytes().count(b'{"type":"session"') == 1, "the other one's"


def test_a_turn_begins_with_the_transcript_that_the_path_names_by_then(state: Path) -> None:
    transcript = state / "agents/main/sessions/a.jsonl"
    files = BeforeTheGuard("a.jsonl")
    with a_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("1"))

    def replace() -> None:
        healed = transcript.with_suffix(".new")
        healed.write_bytes(transcript.read_bytes() + an_entry(7))
        healed.rename(transcript)

    files.act = replace
    with a_store(state, files).turn("main/a") as turn:
        turn.append(turnlock.user("2"))
        assert turn.epoch == 8


def test_the_last_write_of_a_predecessor_is_waited_for_and_answered(state: Path) -> None:
    """Its lock file was removed by hand, and it had the guard: what it wrote owes a marker."""
    transcript = state / "agents/main/sessions/a.jsonl"
    with a_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("1"))

    def last_write() -> None:
        with transcript.open("ab") as file:
            file.write(an_entry(2, "turnlock:turn"))

    files = BeforeTheGuard("a.jsonl")
    files.act = last_write
    store = a_store(state, files)
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("2"))
    assert_turns_are_whole(store)


def test_nothing_is_appended_to_a_transcript_that_was_replaced(state: Path) -> None:
    transcript = state / "agents/main/sessions/a.jsonl"
    store = a_store(state)
    with pytest.raises(turnlock.TranscriptError), store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        kept = transcript.with_suffix(".old")
        before = transcript.read_bytes()
        transcript.rename(kept)
        transcript.write_bytes(before)
        with pytest.raises(turnlock.TranscriptError, match="replaced"):
            turn.append(turnlock.user("2"))
        assert kept.read_bytes() == before
    assert transcript.read_bytes().startswith(before)
