"""Verbs for tests of the command line: real processes of ``python -m turnlock``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import turnlock
from tests.helpers import PATIENCE
from turnlock.transcript.entries import Entry, custom_type

PROGRAM = [sys.executable, "-m", "turnlock"]


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        """stdout as one JSON object."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def objects(self) -> list[dict[str, Any]]:
        """stdout as lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(state: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TURNLOCK_STATE_DIR": str(state), **more}


def run(state: Path, *arguments: str, stdin: str = "", **variables: str) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        [*PROGRAM, *arguments],
        input=stdin,
        env=environment(state, **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(
    state: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs while the block does; killed at its end if it still does."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment(state, **(variables or {})),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def line_of(process: subprocess.Popen[bytes]) -> str:
    """The next line on the stdout of a running command."""
    assert process.stdout is not None
    return process.stdout.readline().decode().rstrip("\n")


def tell(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")


def errors_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    text = process.stderr.read().decode()
    assert "Traceback" not in text, text
    return text


def a_message(text: str, **more: str) -> str:
    """A user's message as a line for ``append``."""
    return json.dumps(turnlock.user(text) | more)


def entries(state: Path, key: str = "main/a") -> list[Entry]:
    return list(turnlock.open_store(state).read(key))


def story(state: Path, key: str = "main/a") -> list[str]:
    """What the entries are: the text of a message, a marker's reason, or the custom type."""
    return [_short(entry) for entry in entries(state, key)]


def marker(state: Path, key: str = "main/a") -> dict[str, Any]:
    """The data of the last error marker."""
    found = [one for one in entries(state, key) if custom_type(one) == "openclaw:prompt-error"]
    data = found[-1]["data"]
    assert isinstance(data, dict)
    return data


def a_turn(state: Path, key: str = "main/a", text: str = "hello") -> None:
    with turnlock.open_store(state).turn(key) as turn:
        turn.append(turnlock.user(text))


def transcript(state: Path, name: str = "a", agent: str = "main") -> Path:
    return state / "agents" / agent / "sessions" / f"{name}.jsonl"


def _short(entry: Entry) -> str:
    if "message" in entry:
        return str(entry["message"]["content"][0]["text"])
    return str(entry["data"].get("reason") or entry["customType"])
