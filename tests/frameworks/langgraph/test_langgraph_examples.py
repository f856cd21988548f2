"""The examples show what their page says that they show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

import turnlock

EXAMPLES = Path(__file__).parents[3] / "examples/langgraph"
REPORT = ["human: /slow 3 write the report", "ai: practice reply 1 to: /slow 3 write the report"]
PAGE = Path(__file__).parents[3] / "docs/howto/langgraph.md"


def printed(name: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, check=True
    )
    return [line.strip() for line in done.stdout.splitlines()]


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_without_turns_a_finished_turn_vanishes() -> None:
    """Two turns ended well, and one of them is all that is left."""
    lines = printed("without.py")
    assert len(lines) == 2
    assert sum("table" in line for line in lines) in (0, 2)


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_with_turns_both_are_there() -> None:
    """Each answer follows its message."""
    assert printed("with_turnlock.py") == [
        *REPORT,
        "human: book a table for two",
        "ai: practice reply 2 to: book a table for two",
    ]


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader has it, who has a graph and a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [("assistant", "hi")]})
    builder.add_edge(START, "model")
    names: dict[str, Any] = {"builder": builder, "turnlock": turnlock, "ChatOpenAI": ChatOpenAI}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    state = names["graph"].get_state({"configurable": {"thread_id": "alice"}})
    assert [message.content for message in state.values["messages"]] == ["hello", "hi"]


def test_the_page_has_what_the_examples_print() -> None:
    """The transcripts before and after, as they are printed."""
    page = " ".join(PAGE.read_text().split())
    for line in REPORT:
        assert " ".join(line.split()) in page
