"""``turnlock import`` and ``turnlock export``: what they say of many sessions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import turnlock
from tests.cli.running import a_turn
from tests.helpers import kinds
from turnlock.cli.transfer import copied, report
from turnlock.cli.unlisted import Unlisted


def test_one_that_cannot_be_copied_stops_no_other_and_is_said(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        a_turn(state, f"main/{name}")
    (state / "agents/main/sessions/b.jsonl.lock").mkdir()
    with turnlock.open_store(state) as source, turnlock.open_store(tmp_path / "to") as target:
        done = copied(source, target, [])
        assert kinds(target, "main/c") == ["turn", "user:hello", "end"]
    assert report(done, Unlisted(), as_json=True) == 1
    said = json.loads(capsys.readouterr().out)["sessions"]
    assert [one["result"] for one in said] == ["copied", "failed", "copied"]
    assert "b.jsonl.lock" in said[1]["why"]
    assert report(done, Unlisted(), as_json=False) == 1
    assert "b.jsonl.lock" in capsys.readouterr().out


def test_a_session_that_is_not_there_is_said_and_made_nowhere(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_turn(state)
    with turnlock.open_store(state) as source, turnlock.open_store(tmp_path / "to") as target:
        done = copied(source, target, ["main/misspelt", "main/a", "nobody/a"])
        for store in (source, target):
            assert [one.session for one in store.sessions()] == ["main/a"]
    assert report(done, Unlisted(), as_json=True) == 1
    said = json.loads(capsys.readouterr().out)["sessions"]
    assert [one["result"] for one in said] == ["missing", "copied", "missing"]
    report(done, Unlisted(), as_json=False)
    assert "there is no such session" in capsys.readouterr().out


def test_a_key_that_is_none_is_refused_before_anything_is_copied(
    state: Path, tmp_path: Path
) -> None:
    a_turn(state)
    with turnlock.open_store(state) as source, turnlock.open_store(tmp_path / "to") as target:
        with pytest.raises(turnlock.InvalidSessionKey):
            copied(source, target, ["main/a", "no key"])
        assert list(target.sessions()) == []
