"""The table of verdicts, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnlock.backends.files.claim import parse_claim
from turnlock.backends.files.judgement import Evidence, Here, State, judge
from turnlock.backends.files.process import GONE, PidStatus, ProcessFacts

HERE = Here("host", "boot", 1)
ALIVE = ProcessFacts(alive=True, start_time=500)
OURS = {"v": 1, "pid": 9, "host": "host", "bootId": "boot", "pidNamespace": 1, "maxHoldMs": 5000}
FOREIGN = {"pid": 9, "createdAt": "2026-01-01T00:00:00.000Z"}
TIMED = FOREIGN | {"starttime": 500, "maxHoldMs": 5000}


def verdict(payload: Any, **evidence: Any) -> tuple[str, tuple[str, ...], str]:
    facts: dict[str, Any] = {
        "here": HERE,
        "flock_held": False,
        "age": 1.0,
        "file_age": 1.0,
        "process": ALIVE,
    } | evidence
    claim = parse_claim(json.dumps(payload).encode())
    found = judge(claim, Evidence(**facts), stale_after=1800.0)
    return found.state.value, found.reasons, found.pid_status.value


@pytest.mark.parametrize(
    ("payload", "evidence", "state", "reasons"),
    [
        (OURS, {"flock_held": True}, "live", ()),
        (OURS, {"flock_held": True, "age": 5.1}, "live", ("over-limit",)),
        (OURS, {}, "stale", ("dead-pid",)),
        (OURS | {"bootId": "other"}, {}, "stale", ("other-boot",)),
        (OURS | {"bootId": "other", "host": "other"}, {}, "unknown", ("other-host",)),
        # Another container of this kernel: the flock is the same flock.
        (OURS | {"host": "other", "pidNamespace": 2}, {}, "stale", ("dead-pid",)),
        (OURS | {"host": "other"}, {"flock_held": True}, "live", ()),
        (OURS | {"v": 2}, {}, "unknown", ("unknown-version",)),
        (OURS | {"v": True}, {}, "unknown", ("unknown-version",)),
        (OURS | {"v": "1"}, {"flock_held": True}, "unknown", ("unknown-version",)),
        (FOREIGN, {"process": GONE}, "stale", ("dead-pid",)),
        (FOREIGN, {"process": GONE, "pid_elsewhere": True}, "unknown", ("other-namespace",)),
        (TIMED | {"starttime": 501}, {}, "stale", ("recycled-pid",)),
        (TIMED | {"bootId": "other"}, {}, "stale", ("other-boot",)),
        (TIMED, {"age": 4.0}, "live", ()),
        (TIMED, {"age": 1e6}, "live", ("over-limit",)),
        (FOREIGN, {"age": 1799.0}, "live", ()),
        (FOREIGN, {"age": 1801.0}, "stale", ("too-old",)),
        (FOREIGN | {"maxHoldMs": 3_600_000}, {"age": 3599.0}, "live", ()),
        (FOREIGN | {"maxHoldMs": 3_600_000}, {"age": 3601.0}, "stale", ("too-old",)),
        (FOREIGN | {"host": "other"}, {"process": GONE}, "unknown", ("other-host",)),
        (FOREIGN | {"pidNamespace": 2}, {"process": GONE}, "unknown", ("other-namespace",)),
        ({}, {"file_age": 29.0}, "young", ("unreadable",)),
        ({}, {"file_age": 31.0}, "stale", ("unreadable",)),
        ([1], {"file_age": 31.0}, "stale", ("unreadable",)),
        (None, {"file_age": 31.0}, "stale", ("unreadable",)),
        # A claim of ours that another program wrote over: its holder lives.
        (None, {"file_age": 31.0, "flock_held": True}, "unknown", ("flock-held",)),
        ({}, {"file_age": 1.0, "flock_held": True}, "unknown", ("flock-held",)),
        (FOREIGN, {"process": GONE, "flock_held": True}, "unknown", ("flock-held",)),
        (TIMED, {"age": 4.0, "flock_held": True}, "live", ()),
    ],
)
def test_verdict(
    payload: Any, evidence: dict[str, Any], state: str, reasons: tuple[str, ...]
) -> None:
    assert verdict(payload, **evidence)[:2] == (state, reasons)


@pytest.mark.parametrize("pid", ["9", 0, -1, 1.5, True, None, 2**40, [], float("1e99")])
def test_a_pid_that_is_none_makes_the_claim_unreadable(pid: Any) -> None:
    assert verdict({"pid": pid}, file_age=31.0)[:2] == ("stale", ("unreadable",))


def test_pid_status_says_what_was_found() -> None:
    assert verdict(TIMED | {"starttime": 501})[2] == PidStatus.RECYCLED.value
    assert verdict(FOREIGN, process=GONE)[2] == PidStatus.DEAD.value
    assert verdict(FOREIGN)[2] == PidStatus.ALIVE.value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 100,
        b"[" * 60_000,
        b'{"pid": 1' + b"0" * 6000 + b"}",
        b"\xff\xfe",
        b'{"pid": NaN}',
        b"{" * 1000,
        b'"text"',
    ],
)
def test_hostile_bytes_are_no_claim(raw: bytes) -> None:
    claim = parse_claim(raw)
    assert claim is None or claim.pid is None


@pytest.mark.parametrize(
    "payload",
    [
        {"v": 1, "pid": 9, "supersedes": "x"},
        {"v": 1, "pid": 9, "supersedes": [1, None, {"turnId": 7, "heldMs": "x", "opening": "x"}]},
        {"v": 1, "pid": 9, "maxHoldMs": float("inf"), "monotonic": "1", "createdAt": 7},
        {"v": 1, "pid": 9, "turnId": "x" * 10_000, "session": ["a"], "bootId": {}},
        {"v": 1, "pid": 9, "maxHoldMs": -5, "monotonic": 10**400},
    ],
)
def test_a_field_that_is_wrong_counts_as_absent(payload: Any) -> None:
    claim = parse_claim(json.dumps(payload).encode())
    assert claim is not None
    assert (claim.max_hold, claim.monotonic, claim.turn_id, claim.session) == (None,) * 4
    assert all(turn.turn_id is None and turn.opening is None for turn in claim.owed)


def test_every_state_is_reached_by_the_table() -> None:
    assert {State.LIVE, State.STALE, State.YOUNG, State.UNKNOWN} == set(State)
