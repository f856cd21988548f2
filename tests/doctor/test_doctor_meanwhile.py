"""Somebody acts between two steps of ``doctor --fix``: it goes by what is there by then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import turnlock
from tests.doctor.planting import FRAGMENT, HEADER, MESSAGE, make_old, names, reasons, transcript
from tests.files.test_handing_over import taken
from tests.files.test_protocol import a_backend, a_dead_lock
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.doctor.checks import CHECKS, Check
from turnlock.doctor.checks.locks import check_locks
from turnlock.doctor.checks.transcripts import check_transcripts
from turnlock.doctor.examination import Examination
from turnlock.doctor.examine import run_checks
from turnlock.doctor.findings import Report
from turnlock.transcript.jsonl import encode


def checked(check: Check, examination: Examination) -> list[tuple[str, bool]]:
    return [(one.check, one.fixed) for one in check(examination)]


OPENING = {"type": "custom", "customType": "turnlock:turn", "data": {"v": 1, "turnId": "T9"}}
END = {"type": "custom", "customType": "turnlock:end", "data": {"v": 1, "turnId": "T9"}}


class Between(FileOps):
    """Lets somebody act before the ``number``-th call of that name on a path."""

    def __init__(self, call: str, path: Path, act: Callable[[], object], *, number: int = 1):
        self._wanted = call, str(path)
        self._left = number
        self._act = act

    def _on(self, call: str, path: str) -> None:
        if (call, path) == self._wanted:
            self._left -= 1
            if self._left == 0:
                self._act()

    def stat_path(self, path: str) -> os.stat_result:  # type: ignore[override]
        self._on("stat_path", path)
        return os.lstat(path)

    def open_quietly(self, path: str) -> Handle:
        self._on("open_quietly", path)
        return super().open_quietly(path)

    def link_unnamed(self, handle: Handle, path: str, proc: Handle) -> None:
        self._on("link", path)
        super().link_unnamed(handle, path, proc)

    def flock(self, handle: Handle, operation: int) -> None:
        super().flock(handle, operation)
        self._on("flocked", os.readlink(f"/proc/self/fd/{handle.fd}"))


def doctor(state: Path, files: FileOps) -> Report:
    return run_checks(Examination(str(state), fix=True, files=files), CHECKS)


def test_a_stale_lock_that_somebody_takes_first_is_no_stale_lock(state: Path) -> None:
    lock = a_dead_lock(state)
    other = a_backend(state)
    holders = []
    files = Between("open_quietly", lock, lambda: holders.append(taken(other, "next")), number=2)
    report = doctor(state, files)
    assert [(one.turn_id, one.stale) for one in report.locks] == [("next", False)]
    assert "stale-lock" not in names(report)
    assert other.holds(holders[0])


def test_another_file_in_a_strays_place_is_not_removed(state: Path) -> None:
    path = transcript(state).with_name("a.jsonl.0123456789abcdef.tmp")
    path.write_bytes(b"old")
    make_old(path, 3600)

    def replace() -> None:
        path.unlink()
        path.write_bytes(b"somebody's")

    assert names(doctor(state, Between("flocked", path, replace))) == []
    assert path.read_bytes() == b"somebody's"


def test_a_fragment_that_became_an_entry_is_not_torn(state: Path) -> None:
    path = transcript(state, content=HEADER + MESSAGE + FRAGMENT)

    def finish() -> None:
        with path.open("ab") as file:
            file.write(b'"}\n')

    files = Between("stat_path", path.with_name("a.jsonl.lock"), finish)
    assert "torn-tail" not in names(doctor(state, files))
    assert not path.with_name("a.jsonl.torn").exists()


@pytest.mark.parametrize("fix", [True, False])
def test_what_the_next_holder_of_a_stale_lock_writes_just_now_is_not_torn(
    state: Path, fix: bool
) -> None:
    """The lock was stale when it was looked at, and is removed; somebody has it by now."""
    a_dead_lock(state)
    examination = Examination(str(state), fix=fix)
    assert checked(check_locks, examination) == [("stale-lock", fix)]
    holder = taken(a_backend(state), "next")
    path = transcript(state, content=None)
    with path.open("ab") as file:
        file.write(FRAGMENT)
    assert checked(check_transcripts, examination) == []
    assert not path.with_name("a.jsonl.torn").exists()
    a_backend(state).abandon(holder)


def unfinished(state: Path) -> Path:
    return transcript(state, content=HEADER + encode({**OPENING, "id": "o", "epoch": 4}))


def test_a_turn_that_ended_meanwhile_gets_no_marker(state: Path) -> None:
    """Its lock file was removed by hand, and it went on for a moment."""
    path = unfinished(state)

    def end() -> None:
        with path.open("ab") as file:
            file.write(encode({**END, "id": "e", "epoch": 4}))

    files = Between("link", path.with_name("a.jsonl.lock"), end)
    (finding,) = doctor(state, files).findings
    assert (finding.check, finding.fixed) == ("unfinished-turn", False)
    assert "somebody wrote it meanwhile" in finding.message
    assert reasons(state) == []


def test_a_session_that_somebody_takes_first_is_not_said_to_be_settled(state: Path) -> None:
    path = unfinished(state)
    other = turnlock.open_store(state)
    with other.turn("main/b") as held:
        held.append(turnlock.user("b"))
    holders = []
    backend = a_backend(state)
    files = Between(
        "link", path.with_name("a.jsonl.lock"), lambda: holders.append(taken(backend, "next"))
    )
    found = {one.check: one for one in doctor(state, files).findings}
    assert not found["unfinished-turn"].fixed
    assert "somebody holds the session now" in found["unfinished-turn"].message
