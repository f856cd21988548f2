"""What the demo says when its processes do something else, and that its contrast is not rigged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

import turnlock
from turnlock.clock import SystemClock
from turnlock.demo import FAST, FULL, Cast, DemoFailed, PlainStage, Setting, Texts
from turnlock.demo.cast import ENDED
from turnlock.demo.naive import check, naive_waiter, take
from turnlock.demo.playing import Playing
from turnlock.demo.reports import Report
from turnlock.demo.story import HANG


class Member:
    pid = 1

    def last_words(self) -> str:
        return "its last words"


class ScriptedCast:
    """In place of processes: reports that were written down."""

    def __init__(self, *reports: Report) -> None:
        self._reports = list(reports)

    def next(self, timeout: float) -> Report | None:
        return self._reports.pop(0) if self._reports else None

    def member(self, name: str) -> Member:
        return Member()


def playing(tmp_path: Path, *reports: Report) -> tuple[Playing, list[str]]:
    told: list[str] = []
    texts = Texts(str, lambda store, key: [])
    setting = Setting(tmp_path, tmp_path / "state", FAST, texts, SystemClock())
    store = turnlock.open_store("memory:")
    play = Playing(setting, cast("Cast", ScriptedCast(*reports)), PlainStage(told.append), store)
    play.begin(HANG, "", {"holder": "holder", "waiter": "waiter"})
    return play, told


def test_a_fenced_holder_that_wrote_is_no_success(tmp_path: Path) -> None:
    play, _ = playing(tmp_path, Report("holder", 0.0, "written", {}))
    with pytest.raises(DemoFailed, match="fenced wrote"):
        play.until("holder", "refused")


def test_a_process_that_ends_too_early_is_named_with_its_last_words(tmp_path: Path) -> None:
    play, _ = playing(tmp_path, Report("waiter", 0.0, ENDED, {}))
    with pytest.raises(DemoFailed, match=r"waiter ended too early.*its last words"):
        play.until("waiter", "TurnStarted")


def test_what_follows_from_the_fence_is_told_after_it_and_in_its_order(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"reason": "hold-limit", "late": 0.001, "stack": ["x.py:1 in f"]}
    play, told = playing(
        tmp_path,
        Report("waiter", 3.0, "TurnStarted", {"session": "main/a", "waited": 1.0}),
        Report("holder", 2.0, "TurnMarked", {"reason": "hold-limit"}),
        Report("holder", 4.0, "TurnRevoked", facts),
    )
    play.tell_after("TurnRevoked")
    revoked = play.until("holder", "TurnRevoked")
    assert not [line for line in told if "waiting" in line]
    play.tell_first(revoked._replace(at=1.0))
    words = [line.split("  ", 2)[-1].strip() for line in told[-3:]]
    assert [word.split()[0] for word in words] == ["hold-limit", "wrote", "has"]


class Later(SystemClock):
    """A clock that goes on when a test says so."""

    at = 0.0

    def monotonic(self) -> float:
        return self.at


@pytest.mark.parametrize(
    ("elapsed", "pauses"),
    [(0.0, [2.0, 1.0]), (HANG.read_by - 1.5, [1.5, 1.0]), (60.0, [-49.0] * 2)],
)
def test_a_scene_that_is_late_leaves_less_time_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elapsed: float, pauses: list[float]
) -> None:
    """The whole is to end within 40 seconds where processes start slowly, too."""
    clock = Later()
    setting = Setting(tmp_path, tmp_path / "state", FULL, Texts(str, lambda store, key: []), clock)
    stage, store = PlainStage(lambda line: None), turnlock.open_store("memory:")
    play = Playing(setting, cast("Cast", ScriptedCast()), stage, store)
    play.begin(HANG, "", {})
    clock.at = elapsed
    paused: list[float] = []
    with monkeypatch.context() as patched:
        patched.setattr(play, "pause", paused.append)
        play.read()
        play.read(1 / 2)
    assert paused == pauses
    play.pause(-1.0)


@pytest.fixture
def gone() -> int:
    """The pid of a process that has ended and was reaped."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_an_ordinary_lock_file_is_taken_over_when_a_check_says_so(
    tmp_path: Path, gone: int, capfd: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "session.lock"
    assert take(str(lock), {"pid": gone, "port": 1})
    assert not check(str(lock)).healthy
    naive_waiter(lock=str(lock), wait=30.0)
    told = [json.loads(line)["what"] for line in capfd.readouterr().out.splitlines()]
    assert told == ["looked", "took"]
    assert json.loads(lock.read_text())["pid"] == os.getpid()
