"""Locks: each is named with its verdict, the stale ones go, and never a live one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import turnlock
from tests.doctor.planting import (
    claim_of,
    found,
    gone_pid,
    killed_holder,
    lock,
    reasons,
    sleeper,
    start_time,
    transcript,
    undead,
)
from tests.helpers import holder
from turnlock.clock import SystemClock
from turnlock.doctor.checks import CHECKS
from turnlock.doctor.examination import Examination
from turnlock.doctor.examine import examine, run_checks
from turnlock.doctor.findings import Report

HOUR = 3600.0


def one_lock(state: Path, *, fix: bool = False) -> tuple[Report, turnlock.backends.LockRecord]:
    report = examine(str(state), fix=fix)
    [record] = report.locks
    return report, record


def assert_removed(state: Path, reason: str) -> None:
    """First only found, then removed, then nothing is left."""
    report, record = one_lock(state)
    assert (record.stale, record.removed, record.reasons) == (True, False, (reason,))
    assert [one.check for one in report.findings] == ["stale-lock"]
    assert "turnlock doctor --fix" in report.findings[0].hint
    assert not report.is_sound
    report, record = one_lock(state, fix=True)
    assert (record.stale, record.removed) == (True, True)
    assert [one.fixed for one in report.findings] == [True]
    assert report.is_sound
    assert examine(str(state), fix=True).locks == ()


def assert_kept(state: Path, *expected: str) -> None:
    """Whatever is asked of doctor, the lock stays as it is."""
    _, before = one_lock(state)
    path = Path(before.path)
    status = path.lstat()
    report, after = one_lock(state, fix=True)
    assert not after.stale
    assert not after.removed
    assert [one.check for one in report.findings if one.path == before.path] == list(expected)
    assert os.path.samestat(status, path.lstat())


def test_the_lock_of_a_dead_process_goes(state: Path) -> None:
    lock(state, claim_of(gone_pid()))
    assert_removed(state, "dead-pid")


def test_a_process_that_was_not_reaped_is_dead(state: Path) -> None:
    with undead() as pid:
        lock(state, claim_of(pid, starttime=start_time(pid)))
        assert_removed(state, "dead-pid")


def test_a_number_that_another_process_has_now_is_no_holder(state: Path) -> None:
    with sleeper() as process:
        lock(state, claim_of(process.pid, starttime=start_time(process.pid) - 1))
        assert_removed(state, "recycled-pid")


def test_a_live_process_without_start_time_holds_for_half_an_hour(state: Path) -> None:
    with sleeper() as process:
        lock(state, claim_of(process.pid, age=1700.0))
        assert_kept(state, "foreign-holder")
        lock(state, claim_of(process.pid, age=1900.0))
        assert_removed(state, "too-old")


def test_a_live_foreign_holder_is_kept_at_any_age(state: Path) -> None:
    with sleeper() as process:
        pid = process.pid
        lock(state, claim_of(pid, age=HOUR, starttime=start_time(pid)), age=HOUR)
        assert_kept(state, "foreign-holder")
        note = found(state)["foreign-holder"]
        assert note.severity == "info"
        assert "cannot fence a running OpenClaw" in note.message
        assert "is not supported" in note.message
        assert examine(str(state)).is_sound


def test_a_live_holder_over_its_limit_is_for_a_person_to_release(state: Path) -> None:
    with sleeper() as process:
        pid = process.pid
        lock(state, claim_of(pid, age=HOUR, starttime=start_time(pid), maxHoldMs=300_000))
        assert_kept(state, "over-limit", "foreign-holder")
        warning = found(state)["over-limit"]
        assert (warning.severity, warning.fixed) == ("warning", False)
        assert warning.hint == f"turnlock release main/a --state-dir {state}"
        assert examine(str(state)).is_sound


def test_the_default_directory_needs_no_name_in_a_hint(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNLOCK_STATE_DIR", str(state))
    lock(state, claim_of(gone_pid()))
    assert found(state)["stale-lock"].hint == "turnlock doctor --fix"


@pytest.mark.processes
def test_a_killed_holder_of_ours_gets_its_marker(state: Path) -> None:
    process = killed_holder(state, "T1")
    _, record = one_lock(state)
    assert (record.session, record.pid, record.turn_id) == ("main/a", process.pid, "T1")
    assert (record.pid_status, record.max_hold_seconds) == ("dead", 300.0)
    assert record.age_seconds is not None
    assert reasons(state) == []
    assert_removed(state, "dead-pid")
    assert reasons(state) == ["interrupted"]


@pytest.mark.processes
def test_a_live_holder_of_ours_is_not_touched(state: Path) -> None:
    with holder(state, "T1") as process:
        assert_kept(state)
        process.tell("still mine")
        process.expect("appended")


class LaterClock(SystemClock):
    """This system's clock, ten minutes on."""

    def monotonic(self) -> float:
        return super().monotonic() + 600

    def wall(self) -> float:
        return super().wall() + 600


@pytest.mark.processes
def test_a_live_holder_of_ours_over_its_limit_keeps_it(state: Path) -> None:
    with holder(state, "T1", max_hold=300.0) as process:
        later = Examination(str(state), fix=True, clock=LaterClock())
        [warning] = run_checks(later, CHECKS).findings
        assert (warning.check, warning.fixed) == ("over-limit", False)
        assert f"by turn T1 of process {process.pid}" in warning.message
        process.tell("still mine")
        process.expect("appended")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"pid":-1}', b"\0" * 100, b"[" * 100_000])
def test_an_unreadable_lock_goes_when_it_is_old(state: Path, content: bytes) -> None:
    lock(state, content)
    assert_kept(state, "young-lock")
    assert found(state)["young-lock"].severity == "info"
    lock(state, content, age=31)
    assert_removed(state, "unreadable")


@pytest.mark.parametrize(
    "claim",
    [
        {"v": 2, "pid": 1},
        {"v": True, "pid": 1},
        {"v": 1, "pid": 1, "host": "elsewhere", "bootId": "other"},
        {"pid": 1, "host": "elsewhere"},
        {"pid": 1, "pidNamespace": 1},
    ],
    ids=json.dumps,
)
def test_what_nobody_here_can_judge_is_kept(state: Path, claim: dict[str, object]) -> None:
    lock(state, claim, age=HOUR)
    assert_kept(state, "unknown-holder")
    assert examine(str(state)).is_sound


def test_a_lock_of_the_boot_before_goes(state: Path) -> None:
    with sleeper() as process:
        lock(state, claim_of(process.pid, bootId="another"))
        assert_removed(state, "other-boot")


@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a symbolic link"])
def test_what_is_no_file_is_named_and_left(state: Path, kind: str) -> None:
    path = f"{transcript(state)}.lock"
    match kind:
        case "a FIFO":
            os.mkfifo(path)
        case "a directory":
            os.mkdir(path)
        case _:
            os.symlink("/dev/zero", path)
    assert_kept(state, "lock-object")
    assert found(state)["lock-object"].message == f"it is {kind}, not a regular file"


def test_the_json_has_every_field_and_null_for_what_is_unknown(state: Path) -> None:
    lock(state, b"{", age=HOUR)
    [record] = examine(str(state)).as_json()["locks"]
    assert record.pop("age_seconds") > HOUR - 60
    assert record == {
        "path": f"{transcript(state, content=None)}.lock",
        "session": "main/a",
        "pid": None,
        "pid_status": "unknown",
        "turn_id": None,
        "max_hold_seconds": None,
        "stale": True,
        "reasons": ("unreadable",),
        "removed": False,
    }


def test_other_locks_are_none_of_ours(state: Path) -> None:
    path = transcript(state).parent / "sessions.json.lock"
    path.write_text("{}")
    report = examine(str(state), fix=True)
    assert (report.locks, report.findings) == ((), ())
    assert path.exists()
