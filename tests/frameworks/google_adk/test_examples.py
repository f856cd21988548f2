"""The examples, as a reader runs them: what they print, and what the page says that they print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples/google_adk"
PAGE = (ROOT / "docs/howto/google-adk.md").read_text()

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


def printed(name: str) -> str:
    run = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, timeout=200
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_without_turnlock_an_answer_is_lost() -> None:
    said = printed("without")
    # What the loser is told has another name in older versions.
    lost, *lines = said.splitlines()
    assert lost.startswith("lost the answer to '/slow 3 first': ")
    assert lines == [
        "user: /slow 3 first",
        "user: second",
        "assistant: practice reply 2 to: second",
    ]
    assert "\n".join(lines) in PAGE


def test_with_turnlock_both_are_answered_one_after_the_other() -> None:
    said = printed("with_turnlock")
    assert said.splitlines() == [
        "user: /slow 3 first",
        "assistant: practice reply 1 to: /slow 3 first",
        "user: second",
        "assistant: practice reply 2 to: second",
    ]
    assert said in PAGE


def test_the_two_examples_differ_in_the_lines_that_a_reader_adds() -> None:
    without, cured = (
        (EXAMPLES / f"{name}.py").read_text() for name in ("without", "with_turnlock")
    )
    bodies = [text.partition('"""\n\nimport')[2].splitlines() for text in (without, cured)]
    gone = [line.strip() for line in bodies[0] if line not in bodies[1]]
    added = [line.strip() for line in bodies[1] if line not in bodies[0]]
    assert gone == [
        "from google.adk.sessions.sqlite_session_service import SqliteSessionService",
        'service = SqliteSessionService(f"{directory}/sessions.db")',
    ]
    assert added == [
        "import turnlock",
        "from turnlock.integrations.google_adk import TurnlockSessionService",
        "service = TurnlockSessionService(turnlock.open_store(directory))",
    ]
