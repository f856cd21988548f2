"""The code in the documentation runs, and its commands are commands."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from types import CodeType
from typing import Any

import click
import pytest

import turnlock
from tests.docs.pages import PAGES, ROOT, Block, blocks
from turnlock.cli.commands import cli
from turnlock.config import parse_config

# The page of a framework runs where the framework is: make frameworks.
FRAMEWORKS = [
    path.name.removesuffix("-oldest.txt")
    for path in (ROOT / "requirements" / "frameworks").glob("*-oldest.txt")
]
PYTHON = [
    block
    for block in blocks("python")
    if "FastAPI(" not in block.text and block.page.stem not in FRAMEWORKS
]
COMMAND = re.compile(r"^\s*\$ (turnlock\b.*(?:\\\n.*)*)", re.MULTILINE)


async def _model(messages: object) -> AsyncIterator[str]:
    yield f"a reply to {len(list(messages))} message"  # type: ignore[call-overload]


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_in_the_documentation_runs(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    import openai

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    code = compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    # What a page's reader has already, or is told of in the text around the block.
    names: dict[str, Any] = {
        "turnlock": turnlock,
        "openai": openai,
        "store": turnlock.open_store("memory:"),
        "model": _model,
        "reply": "the reply",
        "ask_the_model": lambda messages: f"a reply to {len(messages)} message",
    }
    _execute(code, names)


def _execute(code: CodeType, names: dict[str, Any]) -> None:
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, names)
        return

    async def run() -> None:
        await eval(code, names)

    asyncio.run(run())


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_a_configuration_in_the_documentation_is_accepted(block: Block) -> None:
    parse_config(str(block), tomllib.loads(block.text))


def commands() -> list[tuple[str, str]]:
    return [
        (f"{page.relative_to(ROOT)}", " ".join(found[1].split()))
        for page in PAGES
        for found in COMMAND.finditer(page.read_text())
    ]


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_in_the_documentation_is_one(page: str, command: str) -> None:
    words = shlex.split(command.partition(" | ")[0], comments=True)[1:]
    ctx = click.Context(cli)
    found: click.Command | None = cli
    while isinstance(found, click.Group) and words and words[0] in found.list_commands(ctx):
        found = found.get_command(ctx, words.pop(0))
    assert found is not None
    assert found is not cli
    found.make_context("turnlock", words)


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_the_shell_of_the_page_on_cron_runs_as_it_stands(tmp_path: Path) -> None:
    page = ROOT / "docs/howto/cron.md"
    script = "set -eu\n" + "\n".join(block.text for block in blocks("sh", page))
    tools = tmp_path / "bin"
    tools.mkdir()
    turnlock_command = tools / "turnlock"
    turnlock_command.write_text(f'#!/bin/sh\nexec {sys.executable} -m turnlock "$@"\n')
    turnlock_command.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env=os.environ
        | {"PATH": f"{tools}:{os.environ['PATH']}", "TURNLOCK_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done
    printed = done.stdout.splitlines()
    # What the page says that is answered, twice: the second time nothing was written.
    answer = blocks("json", page)[0].text.strip()
    assert printed[:2] == [answer, answer]
    assert "working on main/digest" in printed
