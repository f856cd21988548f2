"""``doctor --fix`` on a disk that is slow or hangs: what it says is what became of it."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from tests.doctor.disks import slow_disk
from tests.doctor.planting import (
    FRAGMENT,
    HEADER,
    MESSAGE,
    bytes_of,
    killed_holder,
    names,
    reasons,
    transcript,
)
from tests.doctor.test_doctor_meanwhile import OPENING, unfinished
from tests.files.test_faults import FullDisk
from tests.files.test_protocol import a_dead_lock
from tests.helpers import eventually
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.clock import Clock
from turnlock.doctor.checks import CHECKS
from turnlock.doctor.examination import Examination
from turnlock.doctor.examine import examine, run_checks
from turnlock.doctor.findings import Report
from turnlock.events import Event, LockReclaimed
from turnlock.store import Store
from turnlock.transcript.jsonl import encode


def doctor(state: Path, files: FileOps, clock: Clock | None = None) -> Report:
    return run_checks(Examination(str(state), fix=True, files=files, clock=clock), CHECKS)


@pytest.mark.processes
def test_a_stale_lock_on_a_slow_disk_is_waited_for(state: Path) -> None:
    killed_holder(state)
    with slow_disk(needs=20.0) as (files, clock):
        report = doctor(state, files, clock)
    (found,) = report.findings
    assert (found.check, found.fixed, report.removed) == ("stale-lock", True, 1)
    assert "owed" not in found.message
    assert report.is_sound
    assert reasons(state) == ["interrupted"]
    assert names(examine(str(state))) == []


@pytest.mark.processes
def test_a_lock_that_clean_up_did_not_wait_for_is_reported_when_it_is_removed(state: Path) -> None:
    """A gateway that starts waits a second; the disk needs longer."""
    killed_holder(state)
    events: list[Event] = []
    with slow_disk(needs=20.0) as (files, clock):
        backend = FilesBackend(StateDirectory(str(state)), files=files, clock=clock)
        store = Store(backend, location=str(state), clock=clock)
        store.subscribe(events.append)
        (record,) = store.clean_stale()
        assert (record.removed, events) == (False, [])
    eventually(lambda: any(isinstance(event, LockReclaimed) for event in events))
    assert store.locks() == []
    assert reasons(state) == ["interrupted"]


class Noisy(FileOps):
    """While something is made durable, another thread of the process warns of something else."""

    def fdatasync(self, handle: Handle) -> None:
        warn = logging.getLogger("turnlock").warning
        other = threading.Thread(target=warn, args=("the process stood still for 1.9 s",))
        other.start()
        other.join()
        super().fdatasync(handle)


def test_what_others_warn_of_is_no_reason_why_a_marker_was_not_written(state: Path) -> None:
    unfinished(state)
    (found,) = doctor(state, Noisy()).findings
    assert (found.check, found.fixed) == ("unfinished-turn", True)
    assert reasons(state) == ["interrupted"]


def told_in_silence(state: Path) -> Report:
    """On a full disk, in a program that has enough of our warnings."""
    files = FullDisk()
    files.room = 0
    logger = logging.getLogger("turnlock")
    logger.setLevel(logging.CRITICAL)
    try:
        return doctor(state, files)
    finally:
        logger.setLevel(logging.NOTSET)


def test_a_marker_that_was_not_written_is_told_where_nothing_is_logged(state: Path) -> None:
    unfinished(state)
    report = told_in_silence(state)
    (found,) = report.findings
    assert (found.check, found.fixed, report.is_sound) == ("unfinished-turn", False, False)
    assert "No space" in found.message


@pytest.mark.processes
def test_a_lock_that_was_not_removed_is_told_where_nothing_is_logged(state: Path) -> None:
    killed_holder(state)
    report = told_in_silence(state)
    (found,) = [one for one in report.findings if one.check == "stale-lock"]
    assert (found.fixed, report.removed, report.is_sound) == (False, 0, False)
    assert "No space" in found.message


def test_a_disk_that_hangs_is_waited_for_once_in_all(state: Path) -> None:
    """What comes after it is left for the next run, and it says why."""
    kept = a_dead_lock(state)
    for name in "bc":
        content = kept.read_bytes().replace(b"main/a", f"main/{name}".encode())
        kept.with_name(f"{name}.jsonl.lock").write_bytes(content)
    opening = encode({**OPENING, "id": "o", "epoch": 4})
    for name in "de":
        transcript(state, name, HEADER + opening)
    transcript(state, "f", HEADER + MESSAGE + FRAGMENT)
    before = bytes_of(state)
    with slow_disk(needs=1000.0) as (files, clock):
        report = doctor(state, files, clock)
        assert clock.waited == [30.0]
        found = [(one.check, one.fixed, "hangs" in one.message) for one in report.findings]
        after = bytes_of(state)
    left = [*3 * ["stale-lock"], *2 * ["unfinished-turn"], "torn-tail"]
    assert found == [(check, False, True) for check in left]
    changed = {os.path.basename(path) for path in after if after[path] != before.get(path)}
    assert not {name for name in changed if name[0] in "bcdef"}, changed
    assert not report.is_sound


class TakenOver(FileOps):
    """Whoever waits takes the session from doctor once the marker is durable."""

    def fdatasync(self, handle: Handle) -> None:
        super().fdatasync(handle)
        lock = f"{os.readlink(f'/proc/self/fd/{handle.fd}')}.lock"
        os.rename(lock, f"{lock}.aside")


def test_a_marker_that_was_written_is_said_to_be_whoever_has_the_session_by_then(
    state: Path,
) -> None:
    unfinished(state)
    (found,) = doctor(state, TakenOver()).findings
    assert (found.check, found.fixed) == ("unfinished-turn", True)
    assert reasons(state) == ["interrupted"]
