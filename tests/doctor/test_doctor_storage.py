"""Storage that fails, hostile files, many sessions: findings, never a traceback, and soon."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.planting import (
    FRAGMENT,
    HEADER,
    MESSAGE,
    bytes_of,
    claim_of,
    gone_pid,
    lock,
    make_old,
    names,
    transcript,
)
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.doctor.checks import CHECKS
from turnlock.doctor.examination import Examination
from turnlock.doctor.examine import examine, run_checks
from turnlock.doctor.findings import Report
from turnlock.doctor.looking import CannotLook

OPENING = (
    b'{"type":"custom","id":"o","customType":"turnlock:turn","data":{"v":1,"turnId":"T9"},'
    b'"epoch":4}\n'
)
REPAIRS = ["stale-lock", "stray-file", "torn-tail", "unfinished-turn"]


def wreck(state: Path, dead: int) -> None:
    """What --fix would repair."""
    lock(state, claim_of(dead))
    transcript(state, "torn", HEADER + FRAGMENT)
    transcript(state, "unfinished", HEADER + OPENING)
    stray = transcript(state).parent / "a.jsonl.0123456789abcdef.tmp"
    stray.write_bytes(b"")
    make_old(stray, 3600)


class NoRoom(FileOps):
    """A disk that is full, or can only be read."""

    def __init__(self, number: int) -> None:
        self._number = number

    def _fail(self) -> OSError:
        return OSError(self._number, os.strerror(self._number))

    def open(self, path: str, flags: int, mode: int = 0o600) -> Handle:
        if flags & os.O_CREAT or (self._number == errno.EROFS and flags & os.O_RDWR):
            raise self._fail()
        return super().open(path, flags, mode)

    def write(self, handle: Handle, data: bytes | memoryview) -> int:
        raise self._fail()

    def link_unnamed(self, handle: Handle, path: str, proc: Handle) -> None:
        raise self._fail()


def fixed_on(files: FileOps, state: Path) -> Report:
    return run_checks(Examination(str(state), fix=True, files=files), CHECKS)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_what_cannot_be_repaired_stays_a_finding_that_says_why(state: Path, number: int) -> None:
    wreck(state, gone_pid())
    report = fixed_on(NoRoom(number), state)
    assert sorted(names(report)) == REPAIRS
    for one in report.findings:
        if one.check != "stray-file":
            assert not one.fixed
            assert os.strerror(number) in one.message
    assert not report.is_sound
    assert examine(str(state), fix=True).is_sound


class FailAt(FileOps):
    """Fails the n-th call of all that doctor makes."""

    def __init__(self, fail_at: int) -> None:
        self.count = 0
        self._fail_at = fail_at

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or name == "count" or name in ("close", "open_directory"):
            return value
        return self._counted(value)

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            if args[1:] == (fcntl.LOCK_UN,):
                # No file system fails to unlock.
                return call(*args)
            self.count += 1
            if self.count == self._fail_at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(*args)

        return counted


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_every_call_may_fail_and_the_next_run_repairs_all(tmp_path: Path) -> None:
    dead = gone_pid()
    for fail_at in range(1, 1000):
        state = tmp_path / str(fail_at)
        wreck(state, dead)
        files = FailAt(fail_at)
        try:
            fixed_on(files, state)
        except CannotLook:
            assert fail_at < 10
        assert examine(str(state), fix=True).is_sound, fail_at
        again = examine(str(state), fix=True)
        assert not [one for one in again.findings if one.fixed], fail_at
        if files.count < fail_at:
            return
    raise AssertionError("it never came to an end")


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "nul": b"\0" * 100_000,
    "deep": b"[" * 1_000_000,
    "deeper": b'{"a":' * 100_000,
    "big": b"x" * 10_000_000,
    "digits": b'{"pid":' + b"9" * 100_000 + b"}",
    "infinite": b'{"pid":1,"createdAt":1e999,"maxHoldMs":NaN,"starttime":-1e400}',
    "lines": b"\n" * 20_000,
    "invalid": b"\xff\xfe\x00" * 1000,
    "keys": json.dumps({"pid": {"pid": 1}, "v": [1], "host": 7, "supersedes": {"a": 1}}).encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["lock", "transcript", "gateway", "torn"])
@pytest.mark.timeout(20)
def test_hostile_content_is_answered_in_time(state: Path, name: str, place: str) -> None:
    path = transcript(state)
    match place:
        case "lock":
            lock(state, HOSTILE[name], age=100)
        case "transcript":
            path.write_bytes(HOSTILE[name])
        case "gateway":
            (state / "gateway.json").write_bytes(HOSTILE[name])
        case _:
            path.write_bytes(HEADER + MESSAGE + FRAGMENT)
            Path(f"{path}.torn").write_bytes(HOSTILE[name])
    reports = [examine(str(state)), examine(str(state), fix=True)]
    before = bytes_of(state)
    reports.append(examine(str(state), fix=True))
    assert bytes_of(state) == before
    assert not [one for report in reports for one in report.findings if "crash" in one.check]


HOSTILE_NAMES = [
    "\x1b[31m",
    "a\nb",
    "\u202egnp",
    "-rf",
    " ",
    "x" * 245,
    "..",
    "\udcff\udcfe",
    "a'b",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_hostile_names_are_only_names(state: Path, name: str) -> None:
    transcript(state, f"n{name}", HEADER + FRAGMENT)
    if name not in ("..",):
        (state / "agents" / f"n{name}" / "sessions").mkdir(parents=True)
    report = examine(str(state), fix=True)
    assert [one.check for one in report.findings] == ["torn-tail"]
    assert report.findings[0].fixed == (len(name) < 200)


def test_directories_in_a_circle_are_one_finding(state: Path) -> None:
    lock(state, claim_of(gone_pid()))
    loop = state / "agents" / "loop"
    loop.mkdir()
    (loop / "sessions").symlink_to("sessions")
    report = examine(str(state), fix=True)
    assert sorted(names(report)) == ["directory-unreadable", "stale-lock"]
    assert report.removed == 1


def test_other_things_among_the_agents_are_no_agents(state: Path) -> None:
    transcript(state)
    (state / "agents" / "notes.txt").write_text("x")
    os.mkfifo(state / "agents" / "fifo")
    (state / "agents" / "empty").mkdir()
    assert examine(str(state)).findings == ()


@pytest.mark.timeout(20)
def test_thousands_of_sessions_take_seconds(state: Path) -> None:
    sessions = transcript(state).parent
    for number in range(1000):
        (sessions / f"s{number}.jsonl").write_bytes(HEADER + MESSAGE * 5)
    assert examine(str(state)).findings == ()
