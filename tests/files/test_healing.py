"""Healed copies: nothing readable is lost, and the path is never without a whole transcript."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.files.test_faults import FaultyOps
from tests.files.test_owed import HEADER, begun, calls, entries, result, transcript_of
from tests.helpers import child, holder
from turnlock.backends import TakeRequest
from turnlock.backends.files import FilesBackend, StateDirectory, replacing
from turnlock.backends.files.fileops import FileOps
from turnlock.backends.files.guard import Guard
from turnlock.backends.files.layout import Place
from turnlock.backends.files.transcripts import Transcripts
from turnlock.doctor.examine import examine
from turnlock.doctor.healing import Healed, Healer
from turnlock.errors import GuardTimeout, SessionBusy, TranscriptError, TurnlockError
from turnlock.session import SessionKey
from turnlock.transcript.entries import end, message_of
from turnlock.transcript.history import active_branch
from turnlock.transcript.jsonl import encode

KEY = SessionKey("main", "a")
END = encode({"type": "custom", "id": "e", "timestamp": "2026"} | end("T1", 1.0) | {"epoch": 1})
SOUND = encode(HEADER) + begun(1) + END
DAMAGED = (
    b'ession","version":3}\n'
    + begun(1, calls("c"), turnlock.user("x"))[:-1]
    + END
    + b"\n\0\0\0\n"
    + END
    + b'{"type":"mess'
    + begun(2)
    + b'{"type"'
)


def heal(state: Path, files: FileOps | None = None) -> Healed:
    return Healer(StateDirectory(str(state)), KEY, files=files).heal(wait=0)


def originals(state: Path) -> list[Path]:
    return sorted(transcript_of(state).parent.glob("*.bak"))


def ids(state: Path) -> list[Any]:
    return [entry["id"] for entry in entries(state)]


def test_every_entry_stays_and_the_original_is_kept(state: Path) -> None:
    path = transcript_of(state, DAMAGED)
    original = path.stat().st_ino
    before = ids(state)
    healed = heal(state)
    assert healed.changes is not None
    assert (healed.changes.damaged, healed.changes.headers) == (4, "made")
    assert (healed.changes.separated, healed.changes.results) == (2, 1)
    (kept,) = originals(state)
    assert (kept.stat().st_ino, kept.stat().st_nlink) == (original, 1)
    assert kept.read_bytes().startswith(DAMAGED)
    assert str(kept) == healed.original
    found = ids(state)
    assert [one for one in found if one in before] == before
    lines = path.read_bytes().splitlines()
    assert b'"type":"session"' in lines[0]
    assert len(lines) == len(found) + 1
    assert b"(3 NUL bytes at byte" in Path(f"{path}.torn").read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_healed_is_not_healed_again(state: Path) -> None:
    """I10."""
    path = transcript_of(state, DAMAGED)
    heal(state)
    before = path.stat(), path.read_bytes()
    assert heal(state).changes is None
    assert (path.stat(), path.read_bytes()) == before
    assert len(originals(state)) == 1
    report = examine(str(state), fix=True, deep=True)
    assert {one.check for one in report.findings} == {
        *("duplicate-ids", "torn-copy", "healed-original")
    }
    assert (path.stat().st_mtime_ns, path.read_bytes()) == (before[0].st_mtime_ns, before[1])


@pytest.mark.parametrize("sample", ["ok", "hold-watchdog", "reset_mid_stream"])
def test_a_sound_transcript_is_left_as_it_is(state: Path, sample: str) -> None:
    """Also one that OpenClaw wrote, and that forks."""
    samples = Path(__file__).parent.parent / "samples/openclaw-2026.2.17"
    content = (samples / f"transcript-{sample}.jsonl").read_bytes()
    path = transcript_of(state, content)
    before = path.stat().st_ino, path.stat().st_mtime_ns
    assert heal(state).changes is None
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before
    assert path.read_bytes() == content
    assert not originals(state)


def test_what_a_turn_owes_is_written_before_the_copy_is_made(state: Path) -> None:
    transcript_of(state, DAMAGED)
    assert heal(state).markers == 1
    (kept,) = originals(state)
    assert kept.read_bytes().count(b"openclaw:prompt-error") == 1
    assert transcript_of(state).read_bytes().count(b"openclaw:prompt-error") == 1


def test_the_chain_of_parents_leads_through_what_was_damaged(state: Path) -> None:
    """OpenClaw's reader ends at a parent that is gone, and would lose all before it."""
    lines = [
        encode({"type": "message", "id": one, "parentId": parent, "timestamp": "2026"})
        for one, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "c"))
    ]
    lines[1] = lines[1][:30] + b"\n"
    transcript_of(state, encode(HEADER) + b"".join(lines))
    heal(state)
    parents = {entry["id"]: entry["parentId"] for entry in entries(state)}
    assert parents == {"a": None, "c": "a", "d": "c"}


def test_a_result_is_put_behind_its_call_and_before_what_followed(state: Path) -> None:
    said: list[Any] = [calls("x", "y"), turnlock.user("2"), result("y")]
    chain = [{"id": f"{n}", "parentId": f"{n - 1}"} | entry for n, entry in enumerate(said)]
    transcript_of(state, encode(HEADER) + b"".join(map(encode, chain)))
    heal(state)
    found = entries(state)
    assert [message_of(one).get("toolCallId") for one in found] == [None, "x", None, "y"]
    assert found[2]["parentId"] == found[1]["id"]
    assert found[1]["parentId"] == "0"


def test_who_went_on_from_the_second_of_two_entries_with_one_id_still_does(state: Path) -> None:
    """The result that the first one gets must not hide what was said between the two."""
    said: list[Any] = [calls("x"), turnlock.user("between"), calls("x"), turnlock.user("last")]
    chain = [("c", None), ("b", None), ("c", "b"), ("d", "c")]
    named = [{"id": own, "parentId": parent} for own, parent in chain]
    lines = [encode(names | entry) for names, entry in zip(named, said, strict=True)]
    transcript_of(state, encode(HEADER) + b"".join(lines))
    heal(state)
    branch = [entry["id"] for entry in active_branch(entries(state))]
    assert branch[-3:] == ["b", "c", "d"]


def test_a_call_that_may_still_be_answered_gets_no_result(state: Path) -> None:
    transcript_of(state, encode(HEADER) + encode({"id": "0", "timestamp": "2026"} | calls("x")))
    assert heal(state).changes is None


def test_another_version_is_not_healed(state: Path) -> None:
    content = encode(HEADER | {"version": 4}) + b'{"cut\n'
    path = transcript_of(state, content)
    with pytest.raises(TranscriptError, match="version 4"):
        heal(state)
    assert path.read_bytes() == content


def test_nobody_heals_what_somebody_holds(state: Path) -> None:
    path = transcript_of(state, DAMAGED)
    with turnlock.open_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("held"))
        before = path.read_bytes()
        with pytest.raises(SessionBusy):
            heal(state)
        assert path.read_bytes() == before


# Who else may be there


@pytest.mark.processes
def test_a_zombie_with_the_old_file_open_writes_neither(state: Path) -> None:
    transcript_of(state, DAMAGED)
    with holder(state, "T9") as process:
        assert turnlock.open_store(state).revoke("main/a")
        heal(state)
        before = transcript_of(state).read_bytes(), originals(state)[0].read_bytes()
        process.tell("too late")
        process.expect("revoked operator")
    assert (transcript_of(state).read_bytes(), originals(state)[0].read_bytes()) == before


class At(FileOps):
    """Does something once, just before a call of that name on that kind of path."""

    def __init__(self, call: str, ending: str, act: Callable[[], object]) -> None:
        self._call = call
        self._ending = ending
        self._act: Callable[[], object] | None = act

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name != super().__getattribute__("_call"):
            return value

        def acting(*args: Any) -> Any:
            act = self._act
            if act is not None and any(str(one).endswith(self._ending) for one in args):
                self._act = None
                act()
            return value(*args)

        return acting


def test_who_is_superseded_while_it_heals_replaces_nothing(state: Path) -> None:
    path = transcript_of(state, DAMAGED)
    took = At("link", ".bak", lambda: turnlock.open_store(state).revoke("main/a"))
    inode = path.stat().st_ino
    with pytest.raises(TranscriptError, match="somebody took the session"):
        heal(state, took)
    assert path.stat().st_ino == inode
    assert not list(path.parent.glob("*.tmp"))


@pytest.mark.parametrize("how", ["written", "replaced", "removed"])
def test_what_another_program_changed_meanwhile_is_not_replaced(state: Path, how: str) -> None:
    path = transcript_of(state, DAMAGED)

    def change() -> None:
        content = path.read_bytes()
        if how == "replaced":
            path.rename(f"{path}.old")
            path.write_bytes(content)
        elif how == "removed":
            path.unlink()
        else:
            path.write_bytes(content + b"\nmore")

    with pytest.raises(TurnlockError):
        heal(state, At("link", ".bak", change))
    assert not list(path.parent.glob("*.tmp"))
    assert how == "removed" or path.read_bytes().startswith(DAMAGED)
    assert how != "written" or path.read_bytes().endswith(b"\nmore")


def test_who_is_stopped_in_the_guard_is_waited_for_and_named(state: Path) -> None:
    path = transcript_of(state, DAMAGED)
    with open(path, "rb") as other:
        stop = At("link", ".bak", lambda: fcntl.flock(other, fcntl.LOCK_EX))
        before = path.stat().st_ino
        with pytest.raises(GuardTimeout) as caught:
            heal(state, stop)
        assert caught.value.pid == os.getpid()
        assert path.stat().st_ino == before
        fcntl.flock(other, fcntl.LOCK_UN)
    assert heal(state).changes is not None


def is_guarded(path: Path) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextlib.contextmanager
def naive(self: Transcripts, place: Place, *, lenient: bool = False) -> Iterator[None]:
    """The guard of the file that was opened, whatever the path names by now."""
    transcript = self.open(place)
    assert transcript is not None
    with self.guard(place, transcript):
        yield


@pytest.mark.parametrize("is_naive", [False, True])
def test_who_supersedes_guards_the_file_that_the_path_names(
    state: Path, is_naive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transcript is replaced between its opening and the guard. A naive guard is of no use."""
    path = transcript_of(state, SOUND)
    if is_naive:
        monkeypatch.setattr(Transcripts, "guarded", naive)
    enter = Guard.__enter__

    def replaced_first(self: Guard) -> None:
        monkeypatch.setattr(Guard, "__enter__", enter)
        shutil.copy(path, f"{path}.copy")
        os.replace(f"{path}.copy", path)
        enter(self)

    guarded: list[bool] = []
    files = At("rename", ".lock", lambda: guarded.append(is_guarded(path)))
    backend = FilesBackend(StateDirectory(str(state)), files=files)
    request = TakeRequest(None, 2.0, header=False)
    with pytest.raises(turnlock.LeaseRevoked), turnlock.open_store(state).turn("main/a"):
        monkeypatch.setattr(Guard, "__enter__", replaced_first)
        taken = backend.supersede(KEY, request, lease=None, reason="operator")
        assert taken is not None
        backend.release(taken)
    assert guarded == [not is_naive]


def test_the_copy_is_guarded_from_the_moment_it_is_there(state: Path) -> None:
    path = transcript_of(state, DAMAGED)
    seen: list[bool] = []

    def look() -> None:
        (copy,) = path.parent.glob("*.tmp")
        seen.extend([is_guarded(path), is_guarded(copy)])

    heal(state, At("rename", ".jsonl", look))
    assert seen == [True, True]
    assert not is_guarded(path)


def test_a_reader_goes_on_with_what_it_began(state: Path) -> None:
    transcript_of(state, DAMAGED)
    reading = turnlock.open_store(state).read("main/a")
    first = next(reading)["id"]
    before = ids(state)
    heal(state)
    assert [first, *(entry["id"] for entry in reading)][: len(before)] == before


def test_a_store_that_had_the_transcript_open_goes_on_with_the_copy(state: Path) -> None:
    transcript_of(state, DAMAGED)
    store = turnlock.open_store(state)
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("before"))
    heal(state)
    with store.turn("main/a") as turn:
        turn.append({"id": "after"} | turnlock.user("after"))
    assert "after" in ids(state)
    assert heal(state).changes is None


# Faults and death


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_every_call_fails_once_and_no_entry_is_lost(tmp_path: Path, number: int) -> None:
    failed: set[str] = set()
    for fail_at in range(1, 10_000):
        state = tmp_path / str(fail_at)
        transcript_of(state, DAMAGED)
        before = dict.fromkeys(ids(state))
        files = FaultyOps(fail_at, number)
        with contextlib.suppress(TurnlockError):
            heal(state, files)
        if not files.failed:
            break
        failed.add(files.failed)
        assert set(before) <= set(ids(state)), (fail_at, files.failed)
        heal(state)
        assert list(dict.fromkeys(ids(state)))[:3] == list(before)[:3]
        assert heal(state).changes is None
        assert len(originals(state)) == 1
    assert {"open", "write", "fsync", "link", "rename", "flock"} <= failed


KILLED = """
    import os, signal
    from pathlib import Path
    from tests.files.test_faults import CALLS
    from tests.files.test_healing import DAMAGED, heal
    from tests.files.test_owed import transcript_of
    from turnlock.backends.files.fileops import FileOps

    class Deadly(FileOps):
        count = 0

        def __getattribute__(self, name):
            value = super().__getattribute__(name)
            if name not in CALLS:
                return value
            def counted(*args):
                Deadly.count += 1
                if Deadly.count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return value(*args)
            return counted

    for number in range(1, 1000):
        state = Path(sys.argv[1]) / str(number)
        transcript_of(state, DAMAGED)
        pid = os.fork()
        if pid == 0:
            heal(state, Deadly())
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            print(number, flush=True)
            break
"""


@pytest.mark.processes
def test_killed_at_every_call_the_path_has_a_whole_transcript(tmp_path: Path) -> None:
    """G1: SIGKILL at each file call of a healing."""
    with child(KILLED, tmp_path) as process:
        number = int(process.line())
    assert number > 40
    whole = heal(tmp_path / str(number))
    assert whole.changes is None
    healed = 0
    for killed in range(1, number):
        state = tmp_path / str(killed)
        path = transcript_of(state)
        content = path.read_bytes()
        is_healed = not content.startswith(DAMAGED)
        healed += is_healed
        assert not is_healed or content.startswith(b'{"type":"session"')
        found = set(ids(state))
        assert {"1-0", "1-1", "1-2", "1-3", "e", "2-0", "2-1"} <= found
        assert len(originals(state)) <= 1
        heal(state)
        assert heal(state).changes is None
        assert found <= set(ids(state))
        assert len(originals(state)) == 1
        assert originals(state)[0].read_bytes().startswith(DAMAGED)
    assert healed >= 2


def test_the_names_of_originals_are_known(state: Path) -> None:
    transcript_of(state, DAMAGED)
    heal(state)
    name = originals(state)[0].name
    assert replacing.is_original(name)
    assert replacing.transcript_of(name) == "a.jsonl"
    assert not replacing.is_original("a.jsonl.bak")
