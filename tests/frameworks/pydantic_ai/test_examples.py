"""The examples print what the documentation shows of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples/pydantic_ai"
PAGE = (ROOT / "docs/howto/pydantic-ai.md").read_text()
TURNS = {
    text: [f"user: {text}", f"assistant: practice reply {{}} to: {text}"]
    for text in ("book a table", "and a taxi")
}


def printed_by(name: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, check=True, timeout=200
    )
    return done.stdout.splitlines()


def turn(text: str, number: int) -> list[str]:
    return [line.format(number) for line in TURNS[text]]


@pytest.mark.timeout(240)
def test_without_turnlock_a_finished_turn_and_a_message_are_lost() -> None:
    first, *rest = printed_by("without.py")
    assert first == "(gave up after 1 s)"
    assert rest in (turn("book a table", 1), turn("and a taxi", 1))


@pytest.mark.timeout(240)
def test_with_turnlock_every_turn_and_every_message_is_kept() -> None:
    printed = printed_by("with_turnlock.py")
    hung = ["user: /hang and wait", "marker: model-limit"]
    after = ["user: are you there?", "assistant: practice reply 4 to: are you there?"]
    table, taxi = "book a table", "and a taxi"
    assert printed == ["(revoked: model-limit)", *turn(table, 1), *turn(taxi, 2), *hung, *after]
    for line in printed:
        assert line in PAGE
