"""``turnlock prune``: it says what would go, and does it when told to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import turnlock
from tests.cli.conftest import RunHere
from tests.helpers import kinds

DAY = 86400.0


def write(state: Path, name: str, days: float) -> None:
    """A session that was last written so many days ago."""
    with turnlock.open_store(state) as store, store.turn(f"main/{name}") as turn:
        turn.append(turnlock.user(name))
    then = time.time() - days * DAY
    os.utime(state / "agents/main/sessions" / f"{name}.jsonl", (then, then))


def test_without_a_word_nothing_is_done(run_here: RunHere, state: Path) -> None:
    write(state, "old", 40)
    write(state, "new", 20)
    done = run_here("prune", "--idle-days", "30")
    assert done.code == 0
    assert "main/old" in done.out
    assert "main/new" not in done.out
    assert "nothing was done" in done.out
    said = run_here("prune", "--idle-days", "30", "--json").object["sessions"]
    assert [(one["session"], one["fate"]) for one in said] == [("main/old", "idle")]
    assert kinds(turnlock.open_store(state), "main/old") == ["turn", "user:old", "end"]


def test_what_is_idle_goes_into_the_archive(run_here: RunHere, state: Path, tmp_path: Path) -> None:
    write(state, "old", 40)
    write(state, "new", 20)
    archive = tmp_path / "archive"
    arguments = ("prune", "--idle-days", "30", "--archive", str(archive), "--delete")
    done = run_here(*arguments)
    assert (done.code, "taken away" in done.out) == (0, True)
    with turnlock.open_store(state) as store:
        assert [one.session for one in store.sessions()] == ["main/new"]
    assert kinds(turnlock.open_store(archive), "main/old") == ["turn", "user:old", "end"]
    again = run_here(*arguments)
    assert (again.code, again.out) == (0, "no session is idle for so long\n")


def test_one_that_is_held_is_left_alone_and_said(run_here: RunHere, state: Path) -> None:
    write(state, "old", 40)
    with turnlock.open_store(state) as store, store.turn("main/old"):
        done = run_here("prune", "--idle-days", "30", "--no-archive", "--delete", "--json")
    assert done.code == 1
    assert [one["fate"] for one in done.object["sessions"]] == ["busy"]
    assert kinds(turnlock.open_store(state), "main/old") == ["turn", "user:old", "end"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--idle-days", "30", "--delete"), "--no-archive"),
        (("--idle-days", "30", "--archive", "x", "--no-archive"), "exclude each other"),
        (("--idle-days", "0"), "0"),
        (("--idle-days", "30", "--delete", "--archive", ""), "empty"),
        ((), "--idle-days"),
    ],
)
def test_what_is_not_said_clearly_is_refused(
    run_here: RunHere, state: Path, arguments: tuple[str, ...], said: str
) -> None:
    state.mkdir()
    done = run_here("prune", *arguments)
    assert done.code == 2
    assert said in done.err
