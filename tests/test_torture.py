"""``make torture``: what a part leaves behind makes it fail, as a red part does."""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import load
from tests.mutants.catalogue import chosen
from tests.mutants.mutant import ROOT

Run = Callable[[str], bool]

STAYS = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
"""


@pytest.fixture
def torture(monkeypatch: pytest.MonkeyPatch) -> Any:
    script = load(ROOT / "scripts/torture.py")
    monkeypatch.setattr(script, "_PATIENCE", 0.0)
    return script


@pytest.fixture
def run(torture: Any, tmp_path: Path) -> Run:
    """Runs a part that is this code."""

    def run(code: str) -> bool:
        path = tmp_path / "part.py"
        path.write_text(code)
        torture.PARTS["x"] = torture.Part("of a test", f"python {shlex.quote(str(path))}")
        return bool(torture.run("x"))

    return run


def test_a_part_that_passes_and_leaves_nothing_passed(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("pass")
    assert "x: passed in" in capsys.readouterr().out


def test_a_red_part_failed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run("raise SystemExit(3)")
    assert "x: FAILED (exit 3)" in capsys.readouterr().out


def test_a_part_may_give_up_root(run: Run) -> None:
    """Its files are where another user gets to."""
    look = "import os, tempfile; raise SystemExit(not os.stat(tempfile.gettempdir()).st_mode & 1)"
    assert run(look)


def test_a_file_that_is_left_is_a_failure(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run("import tempfile; tempfile.mkstemp(prefix='left-')")
    assert "x: left a file: left-" in capsys.readouterr().out


def test_a_process_that_is_left_is_a_failure(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run(STAYS)
    left = re.search(r"x: left a process: (\d+) .*signal.pause", capsys.readouterr().out)
    assert left is not None
    os.kill(int(left[1]), signal.SIGKILL)


def test_a_mount_that_is_left_is_a_failure(torture: Any) -> None:
    assert torture.Left([], [], ["tmpfs /x"]).lines == ["left a mount: tmpfs /x"]


def test_a_name_that_is_no_part_is_refused(
    torture: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["torture", "model", "nothing"])
    assert torture.main() == 2
    assert "no such part: nothing" in capsys.readouterr().err


def test_its_parts_have_every_planted_fault(torture: Any) -> None:
    words = [word for part in torture.PARTS.values() for word in part.command.split()]
    assert {fault.part for fault in chosen([])} <= set(words)
