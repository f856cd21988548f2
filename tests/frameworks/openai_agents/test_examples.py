"""The examples say what their texts say that they say, and so does the page that shows it."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.docs.pages import Block, blocks

from .conftest import KEY, Practice, agent_of, said

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "openai_agents"
PAGE = ROOT / "docs" / "howto" / "openai-agents.md"

WITHOUT = """\
user       /tool look_up {"order": 7}
user       and what is the weather?
assistant  practice reply 2 to: and what is the weather?
call       look_up({"order": 7})
result     order 7 is on its way
assistant  practice reply 1 to: order 7 is on its way
"""
WITH = """\
model-limit

-- turnlock:turn
user       /tool look_up {"order": 7}
call       look_up({'order': 7})
result     order 7 is on its way
assistant  practice reply 1 to: order 7 is on its way
-- turnlock:end
-- turnlock:turn
user       and what is the weather?
assistant  practice reply 2 to: and what is the weather?
-- turnlock:end
-- turnlock:turn
user       /hang
-- openclaw:prompt-error model-limit
-- turnlock:turn
user       are you there?
assistant  practice reply 4 to: are you there?
-- turnlock:end
"""


@pytest.mark.processes
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("name", "output"), [("without", WITHOUT), ("with_turnlock", WITH)])
def test_an_example_prints_what_the_page_shows(name: str, output: str) -> None:
    program = [sys.executable, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=150)
    assert (done.stdout, done.returncode) == (output, 0), done.stderr
    assert output.strip() in PAGE.read_text()


@pytest.mark.parametrize("block", blocks("python", PAGE), ids=str)
def test_the_code_of_the_page_runs(practice: Practice, store: turnlock.Store, block: Block) -> None:
    code = compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def test() -> None:
        async with agent_of(practice) as agent:
            names: dict[str, Any] = {"agent": agent, "store": store}
            await eval(code, names)

    asyncio.run(test())
    assert said(store, KEY)[-2:] == ["assistant practice reply 1 to: hello", "turnlock:end"]
