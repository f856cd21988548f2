"""Transcripts: what is broken is named, kept aside, marked, and never rewritten."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

import turnlock
from tests.doctor.planting import (
    FRAGMENT,
    HEADER,
    MESSAGE,
    bytes_of,
    claim_of,
    found,
    gone_pid,
    killed_holder,
    lock,
    names,
    reasons,
    sleeper,
    start_time,
    transcript,
)
from tests.helpers import holder
from turnlock.backends.files.fileops import FileOps
from turnlock.doctor.endings import SMALL_BYTES
from turnlock.doctor.examine import examine
from turnlock.doctor.fragments import TornCopy

SAMPLES = Path(__file__).parent.parent / "samples"
OPENING = (
    b'{"type":"custom","id":"o","customType":"turnlock:turn","data":{"v":1,"turnId":"T9"},'
    b'"epoch":4}\n'
)


def torn_copy(path: Path) -> Path:
    return Path(f"{path}.torn")


def test_a_sound_directory_has_no_findings(state: Path) -> None:
    with turnlock.open_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("hello"))
    report = examine(str(state), fix=True)
    assert (report.locks, report.findings, report.is_sound) == ((), (), True)


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*/transcript-*.jsonl")), ids=lambda p: p.stem)
def test_what_openclaw_leaves_in_peace_is_sound(state: Path, path: Path) -> None:
    copy = transcript(state, content=path.read_bytes())
    assert examine(str(state), fix=True).findings == ()
    assert copy.read_bytes() == path.read_bytes()


def test_a_torn_tail_is_copied_aside_and_the_transcript_stays(state: Path) -> None:
    content = HEADER + MESSAGE + FRAGMENT
    path = transcript(state, content=content)
    assert found(state)["torn-tail"].severity == "warning"
    assert not torn_copy(path).exists()
    assert found(state, fix=True)["torn-tail"].fixed
    assert path.read_bytes() == content
    assert torn_copy(path).read_bytes() == FRAGMENT + b"\n"
    assert stat.S_IMODE(torn_copy(path).stat().st_mode) == 0o600


def test_the_same_bytes_are_never_copied_twice(state: Path) -> None:
    path = transcript(state, content=HEADER + MESSAGE + FRAGMENT)
    examine(str(state), fix=True)
    before = bytes_of(state)
    report = examine(str(state), fix=True)
    assert names(report) == ["torn-copy"]
    assert report.is_sound
    with turnlock.open_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("on a line of its own"))
    assert names(examine(str(state), fix=True)) == ["torn-copy"]
    assert bytes_of(state)[str(torn_copy(path))] == before[str(torn_copy(path))]


def test_what_another_doctor_has_just_copied_is_not_copied_again(state: Path) -> None:
    path = transcript(state)
    for _ in range(2):
        TornCopy(FileOps(), str(path)).keep([b"one", b"two", b"one"])
    assert torn_copy(path).read_bytes() == b"one\ntwo\n"


def test_other_bytes_are_added_to_the_copy(state: Path) -> None:
    path = transcript(state, content=HEADER + MESSAGE + FRAGMENT)
    torn_copy(path).write_bytes(b'{"an earlier')
    assert found(state, fix=True)["torn-tail"].fixed
    assert torn_copy(path).read_bytes() == b'{"an earlier\n' + FRAGMENT + b"\n"


def test_damaged_lines_of_a_small_file_are_counted_and_kept(state: Path) -> None:
    path = transcript(state, content=HEADER + b'{"one\n' + MESSAGE + b"\xff\n\n" + MESSAGE)
    assert "2 lines are no JSON object" in found(state)["damaged-lines"].message
    assert found(state, fix=True)["damaged-lines"].fixed
    assert torn_copy(path).read_bytes() == b'{"one\n\xff\n'
    assert list(found(state, fix=True)) == ["torn-copy"]


def test_of_a_long_file_only_the_ends_are_read(state: Path) -> None:
    filling = MESSAGE * (SMALL_BYTES // len(MESSAGE))
    transcript(state, content=HEADER + b'{"one\n' + filling + FRAGMENT)
    assert list(found(state)) == ["torn-tail"]


def test_a_fragment_is_not_torn_while_somebody_may_be_writing_it(state: Path) -> None:
    with sleeper() as process:
        pid = process.pid
        lock(state, claim_of(pid, starttime=start_time(pid)))
        transcript(state, content=HEADER + OPENING + FRAGMENT)
        assert list(found(state, fix=True)) == ["foreign-holder"]


def test_an_unfinished_turn_without_a_lock_gets_its_marker(state: Path) -> None:
    path = transcript(state, content=HEADER + OPENING)
    assert "turn T9 has no terminal entry" in found(state)["unfinished-turn"].message
    assert reasons(state) == []
    assert found(state, fix=True)["unfinished-turn"].fixed
    assert reasons(state) == ["interrupted"]
    assert json.loads(path.read_bytes().splitlines()[-1])["epoch"] == 4
    assert path.read_bytes().startswith(HEADER + OPENING)
    assert not Path(f"{path}.lock").exists()
    assert examine(str(state), fix=True).findings == ()


@pytest.mark.processes
def test_a_turn_whose_lock_was_removed_by_hand_is_found(state: Path) -> None:
    killed_holder(state)
    Path(f"{transcript(state, content=None)}.lock").unlink()
    assert found(state, fix=True)["unfinished-turn"].fixed
    assert reasons(state) == ["interrupted"]


@pytest.mark.processes
def test_a_turn_that_is_being_held_is_not_unfinished(state: Path) -> None:
    with holder(state, "T1"):
        assert examine(str(state), fix=True).findings == ()


def test_a_turn_behind_a_stale_lock_is_that_locks_finding(state: Path) -> None:
    lock(state, claim_of(gone_pid()))
    transcript(state, content=HEADER + OPENING)
    assert list(found(state)) == ["stale-lock"]
    assert list(found(state, fix=True)) == ["stale-lock"]
    assert reasons(state) == ["interrupted"]


def test_an_empty_transcript_is_a_note(state: Path) -> None:
    transcript(state, content=b"")
    assert found(state)["transcript-empty"].severity == "info"


@pytest.mark.parametrize(
    ("first", "check"),
    [(b'{"type":"sess\n', "header-damaged"), (b"\n", "header-damaged"), (b"", "header-missing")],
)
def test_a_header_is_needed_and_never_made_up(state: Path, first: bytes, check: str) -> None:
    path = transcript(state, content=first + MESSAGE)
    assert list(found(state, fix=True)) == [check]
    assert "turnlock sessions heal main/a" in found(state)[check].hint
    assert path.read_bytes() == first + MESSAGE


@pytest.mark.parametrize("kind", ["fifo", "directory", "symlink"])
def test_what_is_no_transcript_is_named_and_left(state: Path, kind: str) -> None:
    path = transcript(state, content=None)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to("/etc/passwd")
    assert list(found(state, fix=True)) == ["transcript-object"]
    assert found(state)["transcript-object"].severity == "error"


@pytest.mark.parametrize("kind", ["fifo", "directory", "symlink"])
def test_a_copy_is_never_written_into_something_else(state: Path, kind: str) -> None:
    path = transcript(state, content=HEADER + FRAGMENT)
    victim = state / "victim"
    victim.write_text("untouched")
    match kind:
        case "fifo":
            os.mkfifo(torn_copy(path))
        case "directory":
            torn_copy(path).mkdir()
        case _:
            torn_copy(path).symlink_to(victim)
    finding = found(state, fix=True)["torn-tail"]
    assert not finding.fixed
    assert "could not be copied" in finding.message
    assert victim.read_text() == "untouched"


def test_a_copy_whose_transcript_is_gone_may_be_removed(state: Path) -> None:
    torn_copy(transcript(state, content=None)).write_bytes(b"x\n")
    assert "rm " in found(state)["torn-copy"].hint


def test_a_name_that_is_no_key_is_looked_at_as_well(state: Path) -> None:
    path = transcript(state, "not a key", HEADER + OPENING + FRAGMENT)
    assert set(found(state, fix=True)) == {"torn-tail", "unfinished-turn"}
    assert torn_copy(path).exists()
    assert b'"reason":"interrupted"' in path.read_bytes()
    assert names(examine(str(state), fix=True)) == ["torn-copy"]


def test_what_openclaw_keeps_beside_a_transcript_is_none(state: Path) -> None:
    transcript(state, "a.trajectory", b"no transcript")
    assert examine(str(state)).findings == ()
