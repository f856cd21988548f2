"""``turnlock prune``: it says what would go, and does it when told to."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.cli.conftest import RunHere
from tests.helpers import kinds
from turnlock.store import Store

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


@pytest.mark.parametrize("as_json", [True, False])
def test_one_that_cannot_be_taken_stops_no_other_and_is_said(
    run_here: RunHere, state: Path, as_json: bool
) -> None:
    for name in "abc":
        write(state, name, 40)
    (state / "agents/main/sessions/b.jsonl.lock").mkdir()
    arguments = ("prune", "--idle-days", "30", "--no-archive", "--delete")
    done = run_here(*arguments, *(["--json"] if as_json else []))
    assert done.code == 1
    if as_json:
        said = done.object["sessions"]
        assert [one["fate"] for one in said] == ["gone", "failed", "gone"]
        assert "not a regular file" in said[1]["why"]
        assert all(one["size"] and one["modified"] for one in said)
    else:
        assert done.out.count("taken away") == 2
        assert "b.jsonl.lock" in done.out
    assert [one.session for one in turnlock.open_store(state).sessions()] == ["main/b"]


def test_a_storage_that_is_gone_is_not_asked_for_every_session(
    run_here: RunHere, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdef":
        write(state, name, 40)
    prune = Store.prune

    def gone_after_one(store: Store, key: str, **how: Any) -> Any:
        if key == "main/a":
            return prune(store, key, **how)
        raise turnlock.StoreError(store.location, "take", "the server is gone")

    monkeypatch.setattr(Store, "prune", gone_after_one)
    done = run_here("prune", "--idle-days", "30", "--no-archive", "--delete", "--json")
    fates = [one["fate"] for one in done.object["sessions"]]
    assert (done.code, fates) == (1, ["gone", "failed", "failed", "failed"])
    assert "given up, 2 sessions not tried: take " in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--idle-days", "30", "--delete"), "--no-archive"),
        (("--idle-days", "30", "--archive", "x", "--no-archive"), "exclude each other"),
        (("--idle-days", "0"), "0"),
        (("--idle-days", "nan"), "nan is no number of days"),
        (("--idle-days", "inf"), "36500"),
        (("--idle-days", "1e300"), "36500"),
        (("--idle-days", "1000000"), "36500"),
        (("--idle-days", "-1"), "-1"),
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
