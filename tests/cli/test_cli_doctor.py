"""``turnlock doctor`` as a person and as a program sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import RunHere
from tests.cli.running import a_turn, run, transcript
from tests.doctor.planting import claim_of, gone_pid, killed_holder, lock, sleeper, start_time
from tests.helpers import holder


def test_a_sound_directory_is_exit_0_and_says_so(state: Path, run_here: RunHere) -> None:
    a_turn(state)
    done = run_here("doctor")
    assert done.code == 0
    assert done.out.endswith("0 locks; findings: none\nNothing stale or broken is left.\n")


def test_json_is_one_object_with_the_promised_fields(state: Path, run_here: RunHere) -> None:
    lock(state, claim_of(gone_pid()))
    done = run_here("doctor", "--json")
    report = done.object
    assert done.code == 1
    assert list(report) == ["locks", "findings", "summary"]
    assert list(report["locks"][0]) == [
        *("path", "session", "pid", "pid_status", "turn_id", "age_seconds", "max_hold_seconds"),
        *("stale", "reasons", "removed"),
    ]
    assert list(report["findings"][0]) == [
        *("check", "severity", "path", "message", "hint", "fixed")
    ]
    assert report["summary"] == {"locks": 1, "stale": 1, "removed": 0, "findings": 1}


def test_fix_is_exit_0_when_nothing_is_left(state: Path, run_here: RunHere) -> None:
    lock(state, claim_of(gone_pid()))
    done = run_here("doctor", "--fix", "--json")
    assert done.code == 0
    assert done.object["summary"] == {"locks": 1, "stale": 1, "removed": 1, "findings": 1}
    again = run_here("doctor", "--json")
    assert again.object["summary"] == {"locks": 0, "stale": 0, "removed": 0, "findings": 0}


def test_the_report_can_be_read_at_night(state: Path, run_here: RunHere) -> None:
    with sleeper() as process:
        pid, dead = process.pid, gone_pid()
        lock(state, claim_of(dead, age=400), name="dead")
        limits = {"starttime": start_time(pid), "maxHoldMs": 300_000}
        lock(state, claim_of(pid, age=3600, **limits), name="live")
        done = run_here("doctor")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[:3] == [f"state directory  {state}", "", "Locks (2)"]
    assert lines[3].split() == [
        *("stale", "main/dead", "pid", str(dead), "dead"), *("6", "min", "40", "s", "dead-pid"),
    ]  # fmt: skip
    assert lines[4].startswith(f"  over limit  main/live  pid {pid} alive")
    assert "of 5 min 0 s  over-limit" in lines[4]
    assert "→ turnlock release main/live" in done.out
    assert lines[-2:] == [
        "2 locks, 1 stale; findings: 2 warnings, 1 info",
        "Something is stale or broken: see the findings above.",
    ]


def test_a_live_lock_over_its_limit_is_no_trouble_but_is_not_passed_over(
    state: Path, run_here: RunHere
) -> None:
    with sleeper() as process:
        limits = {"starttime": start_time(process.pid), "maxHoldMs": 300_000}
        lock(state, claim_of(process.pid, age=3600, **limits))
        done = run_here("doctor", "--fix")
    assert done.code == 0
    assert "→ turnlock release main/a" in done.out
    assert done.out.endswith("Nothing stale or broken is left; 1 warning to judge, see above.\n")


@pytest.mark.processes
def test_a_killed_command_is_found_and_repaired(state: Path) -> None:
    killed_holder(state, "T1")
    first = run(state, "doctor", "--json")
    assert (first.code, first.object["locks"][0]["turn_id"]) == (1, "T1")
    assert run(state, "doctor", "--fix").code == 0
    shown = run(state, "sessions", "read", "main/a").out
    assert "!! failed  interrupted: " in shown
    assert json.loads(run(state, "locks", "--json").out) == {"locks": []}


@pytest.mark.processes
def test_a_live_command_survives_every_doctor(state: Path, run_here: RunHere) -> None:
    with holder(state, "T1") as process:
        for _ in range(20):
            assert run_here("doctor", "--fix").code == 0
            process.tell("still mine")
            process.expect("appended")
    assert transcript(state).read_bytes().count(b"still mine") == 20
