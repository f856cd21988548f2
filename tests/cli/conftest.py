"""The command line without a process of its own, for what needs none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.running import Done
from turnlock.cli.frame import run
from turnlock.cli.log import leave_log_alone

RunHere = Callable[..., Done]


@pytest.fixture
def run_here(
    state: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[RunHere]:
    """Runs a command line in this process; ``stdin`` is a file."""

    def run_here(*arguments: str, stdin: str = "") -> Done:
        given = tmp_path / "stdin"
        given.write_text(stdin)
        with given.open() as file, monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", file)
            code = run(arguments)
        shown = capfd.readouterr()
        assert "Traceback" not in shown.err
        return Done(code, shown.out, shown.err)

    monkeypatch.setenv("TURNLOCK_STATE_DIR", str(state))
    yield run_here
    leave_log_alone()
