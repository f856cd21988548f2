"""Faults of the storage: every call fails once, writes are cut short, the disk is full."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.helpers import child, holder
from turnlock.backends import Holder, Superseded, TakeRequest, Wake, give_back
from turnlock.backends.files import FilesBackend, StateDirectory, portable
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.pruning import Fate
from turnlock.session import parse_key
from turnlock.store import Store
from turnlock.transcript.jsonl import encode

CALLS = (
    *("open", "read_at", "write", "stat_handle", "stat_path", "link", "link_unnamed", "rename"),
    *("unlink", "flock", "fsync", "fdatasync", "make_directory", "names"),
    *("lock_byte", "locked_byte"),
)


class FaultyOps(FileOps):
    """Counts calls, and fails the n-th. ``failed`` names the one that did.

    ``broken`` names a call that fails every time.
    """

    def __init__(self, fail_at: int = -1, number: int = errno.EIO) -> None:
        self.count = 0
        self.failed = ""
        self.broken = ""
        self._fail_at = fail_at
        self._number = number

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return self._counted(name, value) if name in CALLS else value

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self.count += 1
            if self.count == self._fail_at or name == self.broken:
                self.failed = name
                raise OSError(self._number, os.strerror(self._number))
            return call(*args)

        return counted


def a_store(state: Path, files: FileOps | None = None, *, is_portable: bool = False) -> Store:
    platform = portable() if is_portable else None
    backend = FilesBackend(StateDirectory(str(state)), files=files, platform=platform)
    return Store(backend, location=str(state))


def two_turns(store: Store) -> list[str]:
    """A story whose every call will fail once; the ids that were acknowledged."""
    acknowledged: list[str] = []
    for number in range(2):
        try:
            with store.turn("main/a", wait=0.2) as turn:
                acknowledged += turn.append(turnlock.user(f"{number}"))
                acknowledged += turn.append(turnlock.assistant("reply"))
        except turnlock.TurnlockError:
            pass
    return acknowledged


@pytest.mark.parametrize(
    ("number", "is_portable"),
    [(errno.EIO, False), (errno.ENOSPC, False), (errno.EACCES, False), (errno.EMFILE, True)],
)
def test_every_call_fails_once_and_nothing_acknowledged_is_lost(
    tmp_path: Path, number: int, is_portable: bool
) -> None:
    logging.getLogger("turnlock").setLevel(logging.CRITICAL)
    failed: set[str] = set()
    for fail_at in range(1, 10_000):
        state = tmp_path / str(fail_at)
        files = FaultyOps(fail_at, number)
        acknowledged = two_turns(a_store(state, files, is_portable=is_portable))
        if not files.failed:
            break
        failed.add(files.failed)
        fresh = a_store(state)
        # What the fault left behind costs the next one nothing, not even a wait.
        with fresh.turn("main/a", wait=0.2) as turn:
            turn.append(turnlock.user("afterwards"))
        found = [entry["id"] for entry in fresh.read("main/a")]
        assert len(found) == len(set(found))
        assert set(acknowledged) <= set(found), (fail_at, files.failed)
        assert_turns_are_whole(fresh)
    logging.getLogger("turnlock").setLevel(logging.NOTSET)
    assert {"open", "write", "flock", "fdatasync", "unlink"} <= failed


def assert_turns_are_whole(store: Store) -> None:
    """Every epoch has its opening first and one terminal entry last."""
    turns: dict[int, list[str]] = {}
    for entry in store.read("main/a"):
        turns.setdefault(entry["epoch"], []).append(entry.get("customType", "message"))
    assert list(turns) == sorted(turns)
    for kinds in turns.values():
        ends = [kind for kind in kinds if kind in ("turnlock:end", "openclaw:prompt-error")]
        assert (kinds[0], ends) == ("turnlock:turn", [kinds[-1]])


@pytest.mark.parametrize("call", ["open", "read_at", "stat_handle", "stat_path", "names"])
def test_whoever_looks_is_told_of_a_broken_disk_in_words_of_ours(state: Path, call: str) -> None:
    files = FaultyOps()
    store = a_store(state, files)
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        files.broken = call
        for look in (
            lambda: list(store.read("main/a")),
            lambda: store.find("main/a", "x"),
            lambda: store.status("main/a"),
            lambda: list(store.sessions()),
            turn.check,
        ):
            with suppress(turnlock.TurnlockError):
                look()
        files.broken = ""


@pytest.mark.parametrize("call", ["stat_handle", "flock", "read_at"])
def test_a_lock_that_a_broken_disk_hides_is_left_and_stops_no_clean_up(
    state: Path, call: str
) -> None:
    files = FaultyOps()
    store = a_store(state, files)
    with store.turn("main/a"):
        files.broken = call
        (record,) = store.clean_stale()
        files.broken = ""
    assert (record.stale, record.removed, record.reasons[0]) == (False, False, "read-error")


@pytest.mark.processes
def test_a_waiter_is_told_of_a_broken_disk_in_words_of_ours(state: Path) -> None:
    files = FaultyOps()
    backend = FilesBackend(StateDirectory(str(state)), files=files)
    key = parse_key("main/a")
    with holder(state):
        found = backend.take(key, TakeRequest("W", 60.0))
        assert isinstance(found, Holder)
        standing = backend.line_up(key)
        files.broken = "stat_path"
        with pytest.raises(turnlock.StoreError, match="Input/output error"):
            backend.wait(key, found, standing, 5.0, Wake())
        found.close()
        standing.close()


def test_a_lease_that_cannot_be_looked_at_is_left_all_the_same(state: Path) -> None:
    """Its process may live on for long, and nobody could have the session for as long."""
    files = FaultyOps()
    backend = FilesBackend(StateDirectory(str(state)), files=files)
    lease = backend.take(parse_key("main/a"), TakeRequest("T1", 60.0))
    assert not isinstance(lease, Holder)
    lease.owed = (Superseded("T0", None, "interrupted", None),)
    files.broken = "stat_path"
    with pytest.raises(turnlock.StoreError):
        give_back(backend, lease)
    with a_store(state).turn("main/a", wait=0):
        pass


class ShortWrites(FileOps):
    def write(self, handle: Handle, data: bytes | memoryview) -> int:
        return super().write(handle, data[:7])


def test_short_writes_are_continued(state: Path) -> None:
    acknowledged = two_turns(a_store(state, ShortWrites()))
    assert len(acknowledged) == 4
    found = [entry["id"] for entry in a_store(state).read("main/a") if entry["type"] == "message"]
    assert found == acknowledged
    assert_turns_are_whole(a_store(state))


class FullDisk(FileOps):
    """Has room for ``room`` more bytes in transcripts; claims always fit."""

    room = 10**9

    def write(self, handle: Handle, data: bytes | memoryview) -> int:
        if not os.readlink(f"/proc/self/fd/{handle.fd}").endswith(".jsonl"):
            return super().write(handle, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = super().write(handle, data[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 60, 150])
def test_a_full_disk_is_a_typed_error_and_the_session_goes_on(state: Path, room: int) -> None:
    files = FullDisk()
    store = a_store(state, files)
    with pytest.raises(turnlock.StoreError) as caught, store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        files.room = room
        turn.append(turnlock.user("2"))
    assert "No space" in str(caught.value)
    assert store.statistics().markers_owed == 1
    # Still full: taking the session is no error, writing is.
    with pytest.raises(turnlock.StoreError), store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("3"))
    files.room = 10**9
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("4"))
    assert_turns_are_whole(store)
    texts = [e["message"]["content"][0]["text"] for e in store.read("main/a") if "message" in e]
    assert texts == ["1", "4"]


def test_a_marker_that_clean_up_cannot_write_is_written_by_the_next_turn(state: Path) -> None:
    """Of a turn that wrote nothing, the dead claim is the only record: it must not be removed."""
    with child(DIES_UNWRITTEN, state) as process:
        process.expect("holding")
        process.kill()
    files = FullDisk()
    store = a_store(state, files)
    files.room = 0
    (record,) = store.clean_stale()
    assert not record.removed
    files.room = 10**9
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("next"))
    marked = [e["data"]["turnId"] for e in store.read("main/a") if "reason" in e.get("data", {})]
    assert marked == ["T1"]
    assert_turns_are_whole(store)


def test_takers_that_are_no_turns_do_not_crowd_out_a_turn_that_died(state: Path) -> None:
    """I6: each copy that answers "unfinished" leaves a claim that says what is still owed."""
    with child(DIES_UNWRITTEN, state) as process:
        process.expect("holding")
        process.kill()
    store = a_store(state)
    backend = store._backend
    for _ in range(100):
        lease = backend.take(parse_key("main/a"), TakeRequest(None, 60.0, header=False))
        assert not isinstance(lease, Holder)
        give_back(backend, lease)
    with store.turn("main/a", wait=0):
        pass
    assert store.statistics().reclaimed == 2, "the turn that died, and the last taker"
    marked = [e["data"]["turnId"] for e in store.read("main/a") if "reason" in e.get("data", {})]
    assert marked == ["T1"]


DIES_UNWRITTEN = """
    import turnlock
    with turnlock.open_store(sys.argv[1]).turn("main/a", turn_id="T1"):
        print("holding", flush=True)
        sys.stdin.readline()
"""


class RemovedByHand(FileOps):
    """Removes the lock file by hand in the moment before it is released."""

    def unlink(self, path: str) -> None:  # type: ignore[override]
        if path.endswith(".jsonl.lock"):
            os.unlink(path)
        os.unlink(path)


def test_a_lock_file_removed_in_the_moment_of_its_release_is_released(state: Path) -> None:
    store = a_store(state, RemovedByHand())
    for _ in range(2):
        with store.turn("main/a", wait=0) as turn:
            turn.append(turnlock.user("1"))
    assert_turns_are_whole(store)


class GuardStays(FileOps):
    """A guard is not dropped at the first try once a lock file is removed."""

    def __init__(self) -> None:
        self.refused = 0
        self._removed = False

    def unlink(self, path: str) -> None:  # type: ignore[override]
        super().unlink(path)
        self._removed = path.endswith(".jsonl.lock")

    def flock(self, handle: Handle, operation: int) -> None:
        if operation == fcntl.LOCK_UN and self._removed:
            self._removed = False
            self.refused += 1
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        super().flock(handle, operation)


def test_a_turn_that_gave_its_session_back_ended_well_whatever_the_guard_does(state: Path) -> None:
    """Nobody would ever mark it: its claim is gone."""
    files = GuardStays()
    store = a_store(state, files)
    for number in range(3):
        with store.turn("main/a", wait=0) as turn:
            if number:
                turn.append(turnlock.user("1"))
        assert files.refused == number + 1
    assert_turns_are_whole(store)
    # Where no transcript is any more, its directory stands in for it.
    with store.turn("main/a", wait=0):
        (state / "agents/main/sessions/a.jsonl").unlink()
    assert files.refused == 4
    assert store.locks() == []


class NoRoomForClaims(FileOps):
    full = False

    def open(self, path: str, flags: int, mode: int = 0o600) -> Handle:
        if self.full and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().open(path, flags, mode)


def test_a_hung_turn_is_revoked_on_a_full_disk_too(state: Path) -> None:
    files = NoRoomForClaims()
    store = a_store(state, files)
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        files.full = True
        assert store.revoke("main/a")
        turn.append(turnlock.user("late"))
    assert store.statistics().markers_owed == 1
    files.full = False
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("2"))
    assert_turns_are_whole(store)


class FailingSync(FileOps):
    failing = False

    def fdatasync(self, handle: Handle) -> None:
        if self.failing:
            raise OSError(errno.EIO, "Input/output error")
        super().fdatasync(handle)


def test_after_a_failed_fsync_nothing_is_acknowledged_and_the_lease_has_ended(state: Path) -> None:
    files = FailingSync()
    store = a_store(state, files)
    with pytest.raises(turnlock.StoreError), store.turn("main/a") as turn:
        files.failing = True
        with pytest.raises(turnlock.StoreError):
            turn.append(turnlock.user("1"))
        files.failing = False
        turn.append(turnlock.user("2"))
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("3"))
    texts = [e["message"]["content"][0]["text"] for e in store.read("main/a") if "message" in e]
    assert "2" not in texts
    assert_turns_are_whole(store)


class SlowSync(FileOps):
    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self.let_go.set()

    def fdatasync(self, handle: Handle) -> None:
        self.entered.set()
        assert self.let_go.wait(20)
        super().fdatasync(handle)


def test_a_begun_append_is_known_before_a_cancellation_passes_on(state: Path) -> None:
    files = SlowSync()
    store = a_store(state, files)
    outcome: list[str] = []

    async def work() -> None:
        async with store.turn("main/a") as turn:
            files.let_go.clear()
            files.entered.clear()
            try:
                outcome.extend(await turn.append(turnlock.user("1")))
            except asyncio.CancelledError:
                found = [entry["id"] for entry in store.read("main/a")]
                outcome.append(f"cancelled with {len(found)} entries there")
                raise

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.to_thread(files.entered.wait)
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not outcome, "it may not pass on while the append is under way"
        files.let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert outcome == ["cancelled with 2 entries there"]


def test_a_disk_that_hangs_in_fsync_does_not_stop_the_session(state: Path) -> None:
    files = SlowSync()
    store = a_store(state, files)
    other = a_store(state)

    def hang() -> None:
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a", max_hold=0.2) as turn:
            turn.append(turnlock.user("1"))
            files.entered.clear()
            files.let_go.clear()
            turn.append(turnlock.user("2"))

    thread = threading.Thread(target=hang)
    thread.start()
    assert files.entered.wait(20)
    # The revoker's own marker hangs in the same fsync; the fence does not.
    with other.turn("main/a", wait=20) as turn:
        turn.append(turnlock.user("3"))
    files.let_go.set()
    thread.join()
    assert_turns_are_whole(other)


@pytest.mark.parametrize("damage", [b"{half an entry", b"\0" * 300, b'{"type":"x"}', b"\xff"])
def test_a_torn_tail_is_left_and_stepped_over(state: Path, damage: bytes) -> None:
    store = a_store(state)
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
    transcript = state / "agents/main/sessions/a.jsonl"
    whole = transcript.read_bytes()
    transcript.write_bytes(whole + damage)
    assert len(list(store.read("main/a"))) == 3
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("2"))
    content = transcript.read_bytes()
    assert content.startswith(whole + damage + b"\n")
    texts = [e["message"]["content"][0]["text"] for e in store.read("main/a") if "message" in e]
    assert texts == ["1", "2"]


def test_what_another_program_appends_in_between_is_kept(state: Path) -> None:
    store = a_store(state)
    transcript = state / "agents/main/sessions/a.jsonl"
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        with transcript.open("ab") as file:
            file.write(encode({"type": "note", "id": "foreign"}) + b"torn")
        turn.append(turnlock.user("2"))
    entries = list(store.read("main/a"))
    assert [entry["id"] for entry in entries][2] == "foreign"
    assert entries[3]["parentId"] == "foreign"
    assert [entry["epoch"] for entry in entries if "epoch" in entry] == [1, 1, 1, 1]


class Growing(FileOps):
    """Another program appends to the transcript while it is read."""

    def __init__(self, state: Path, *, always: bool) -> None:
        self.readings = 0
        self._transcript = state / "agents/main/sessions/a.jsonl"
        self._always = always

    def read_at(self, handle: Handle, offset: int, length: int) -> bytes:
        content = super().read_at(handle, offset, length)
        is_transcript = os.readlink(f"/proc/self/fd/{handle.fd}") == str(self._transcript)
        # Reading from the start takes long; the writer adds a line in that time. Up to a bound.
        if is_transcript and self.readings < 500 and (self._always or offset == 0):
            self.readings += 1
            with self._transcript.open("ab") as file:
                file.write(encode({"type": "message", "id": "f", "message": {"role": "user"}}))
        return content


def of_another_program(state: Path) -> None:
    transcript = state / "agents/main/sessions/a.jsonl"
    transcript.parent.mkdir(parents=True)
    line = encode({"type": "message", "id": "f", "message": {"role": "user", "content": "x" * 999}})
    transcript.write_bytes(200 * line)


def test_a_turn_is_begun_beside_a_program_that_keeps_writing(state: Path) -> None:
    """What was read is not read again, or each reading would end behind the next line."""
    of_another_program(state)
    files = Growing(state, always=False)
    store = a_store(state, files)
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("mine"))
    assert files.readings <= 3


def test_a_transcript_that_never_stands_still_is_given_up(state: Path) -> None:
    """A take has an end: it says who is in the way, and holds nothing."""
    of_another_program(state)
    files = Growing(state, always=True)
    store = a_store(state, files)
    with pytest.raises(turnlock.TranscriptError, match="another program"):
        store.turn("main/a", wait=0).__enter__()
    assert store.locks() == []
    assert files.readings < 500


def test_a_removal_that_is_not_durable_yet_is_one_all_the_same(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The session is gone; a power cut may bring it back, whole, and the next pruning takes it."""
    files = FaultyOps(number=errno.EIO)
    store = a_store(state, files)
    two_turns(store)
    files.broken = "fsync"
    assert store.prune("main/a", idle=0.0, archive=None).fate is Fate.GONE
    assert files.failed == "fsync"
    assert [*store.sessions(), *store.locks()] == []
    assert "a power cut may bring it back" in caplog.text
