"""What doctor changes: nothing without --fix, and with it nothing twice."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import turnlock
from tests.doctor.planting import (
    FRAGMENT,
    HEADER,
    MESSAGE,
    bytes_of,
    claim_of,
    everything,
    facts,
    gone_pid,
    killed_holder,
    lock,
    make_old,
    make_unread,
    names,
    sleeper,
    start_time,
    transcript,
)
from turnlock.doctor.examine import examine

DAY = 86400.0
OPENING = (
    b'{"type":"custom","id":"o","customType":"turnlock:turn","data":{"v":1,"turnId":"T9"},'
    b'"epoch":4}\n'
)
# What `wreck` plants, as far as --fix repairs it.
REPAIRED = {
    "stale-lock",
    "torn-tail",
    "damaged-lines",
    "unfinished-turn",
    "stray-file",
    "gateway-gone",
}


def wreck(state: Path, live_pid: int) -> None:
    """One of everything that can be found."""
    killed_holder(state)
    lock(state, claim_of(gone_pid()), name="dead")
    lock(state, b"{", name="unreadable", age=60)
    lock(state, b"{", name="young")
    lock(state, {"v": 99}, name="unknown")
    lock(state, claim_of(live_pid, starttime=start_time(live_pid), age=DAY), name="live")
    transcript(state, "torn", HEADER + MESSAGE + FRAGMENT)
    transcript(state, "damaged", HEADER + b"{\n" + MESSAGE)
    transcript(state, "unfinished", HEADER + OPENING)
    transcript(state, "headless", MESSAGE)
    transcript(state, "empty", b"")
    transcript(state, "open", HEADER + OPENING + END).chmod(0o644)
    os.mkfifo(transcript(state, "fifo", None))
    make_old(transcript(state, "a.jsonl.lock.0123456789abcdef", b"").rename(stray(state)), DAY)
    (state / "gateway.json").write_text(json.dumps({"pid": gone_pid(), "url": "http://x"}))


END = b'{"type":"custom","id":"e","customType":"turnlock:end","data":{},"epoch":4}\n'


def stray(state: Path) -> Path:
    return state / "agents" / "main" / "sessions" / "a.jsonl.lock.0123456789abcdef.tmp"


@pytest.mark.processes
def test_without_fix_not_a_byte_or_time_stamp_changes(state: Path) -> None:
    with sleeper() as process:
        wreck(state, process.pid)
        paths = everything(state)
        make_unread(paths)
        before = facts(paths)
        report = examine(str(state))
        assert set(names(report)) > REPAIRED
        assert facts(paths) == before
        assert everything(state) == paths


def test_reading_or_listing_in_the_usual_way_would_have_been_seen(state: Path) -> None:
    transcript(state)
    paths = everything(state)
    for read in (lambda: transcript(state, content=None).read_bytes(), lambda: os.listdir(state)):
        make_unread(paths)
        before = facts(paths)
        read()
        assert facts(paths) != before


@pytest.mark.processes
def test_a_second_fix_finds_what_is_left_and_changes_nothing(state: Path) -> None:
    with sleeper() as process:
        wreck(state, process.pid)
        first = examine(str(state), fix=True)
        assert {one.check for one in first.findings if one.fixed} == REPAIRED
        before = bytes_of(state)
        second = examine(str(state), fix=True)
        assert not [one for one in second.findings if one.fixed]
        left = [one.check for one in first.findings if not one.fixed]
        assert sorted(names(second)) == sorted([*left, "torn-copy", "torn-copy"])
        assert bytes_of(state) == before


@pytest.mark.processes
def test_a_fix_only_ever_adds_markers_to_a_transcript(state: Path) -> None:
    with sleeper() as process:
        wreck(state, process.pid)
        before = {path: path.read_bytes() for path in state.rglob("*.jsonl") if path.is_file()}
        examine(str(state), fix=True)
    grown = []
    for path, content in before.items():
        added = path.read_bytes().removeprefix(content)
        assert path.read_bytes().startswith(content)
        if added:
            grown.append(path.stem)
            assert [json.loads(line)["data"]["reason"] for line in added.splitlines()] == [
                "interrupted"
            ]
    assert sorted(grown) == ["a", "unfinished"]


def test_a_locked_session_is_not_settled(state: Path) -> None:
    """The lock comes back between the look and the repair: nothing is written."""
    path = transcript(state, content=HEADER + OPENING)
    with turnlock.SessionLock(path):
        before = path.read_bytes()
        examine(str(state), fix=True)
        assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
@pytest.mark.processes
def test_a_fix_as_root_leaves_no_file_to_root(state: Path) -> None:
    with sleeper() as process:
        wreck(state, process.pid)
        for path in (state, *state.rglob("*")):
            os.chown(path, 12345, 12346, follow_symlinks=False)
        examine(str(state), fix=True)
        owners = {str(one): (one.lstat().st_uid, one.lstat().st_gid) for one in state.rglob("*")}
        assert any(path.endswith(".torn") for path in owners)
        assert set(owners.values()) == {(12345, 12346)}
