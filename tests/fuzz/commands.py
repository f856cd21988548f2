"""Command lines: any arguments and any stdin end in a documented exit code, and in no bug.

An input is the arguments, a line each, then an empty line, then stdin. ``STATE`` in an argument
stands for the state directory. What serves, and what runs other programs, is not asked here.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import turnlock
from tests.doctor.planting import FRAGMENT, HEADER, MESSAGE
from turnlock.backends.files import StateDirectory
from turnlock.cli.exits import ExitCode
from turnlock.cli.frame import run
from turnlock.printable import printable
from turnlock.session import SessionKey

_ARGUMENTS_MAX = 12
# These serve until they are told to stop, or start another program.
_NOT_ASKED = {"gateway", "practice-model", "demo", "exec"}
_CODES = frozenset(code for code in ExitCode if code is not ExitCode.READER_GONE)


def call(data: bytes) -> None:
    head, _, stdin = data.partition(b"\n\n")
    arguments = [os.fsdecode(one) for one in head.split(b"\n")[:_ARGUMENTS_MAX] if b"\0" not in one]
    if not _is_harmless(arguments):
        return
    with _state() as root:
        given = [one.replace("STATE", str(root)) for one in arguments]
        code, out, err = _run(given, stdin, root)
    assert code in _CODES, (code, out, err)
    assert "internal error" not in err + out, (out, err)
    assert "Traceback" not in err
    _is_printable(err)
    if code == ExitCode.USAGE and "--json" not in arguments:
        assert err.startswith("turnlock: ")
    if "--json" in arguments and not {"--help", "--version", "--"} & set(arguments):
        _is_json(out)


def _is_json(text: str) -> None:
    """One object, or one a line."""
    try:
        json.loads(text or "{}")
    except ValueError:
        for line in text.splitlines():
            json.loads(line)


def _is_harmless(arguments: list[str]) -> bool:
    """No command that serves or runs others, and no state directory but that of the input."""
    if _NOT_ASKED & set(arguments):
        return False
    named = [
        after if one == "--state-dir" else one.partition("=")[2]
        for one, after in itertools.pairwise([*arguments, ""])
        if one.startswith("--state-dir")
    ]
    return all(name in ("", "STATE", "STATE/agents", "STATE/none") for name in named)


def _is_printable(text: str) -> None:
    """S16: nothing that a terminal acts on."""
    for line in text.split("\n"):
        assert printable(line) == line or line.isprintable(), line


@contextlib.contextmanager
def _state() -> Iterator[Path]:
    """A state directory with a session that is whole and one that is not."""
    with tempfile.TemporaryDirectory(prefix="turnlock-fuzz-") as directory:
        root = Path(directory)
        sound = _transcript(directory)
        sound.parent.mkdir(parents=True, mode=0o700)
        sound.write_bytes(_sound())
        sound.with_name("b.jsonl").write_bytes(HEADER + MESSAGE + FRAGMENT)
        sound.with_name("b.jsonl.lock").write_bytes(b'{"pid": 4194303}')
        yield root


@functools.cache
def _sound() -> bytes:
    with tempfile.TemporaryDirectory(prefix="turnlock-fuzz-") as directory:
        store = turnlock.open_store(directory, durability="none")
        with store, store.turn("main/a", turn_id="T1") as turn:
            turn.append(turnlock.user("hello \x1b[31m"), turnlock.assistant("ok"))
        return _transcript(directory).read_bytes()


def _transcript(directory: str) -> Path:
    return Path(StateDirectory(directory).place(SessionKey("main", "a")).transcript)


def _run(arguments: list[str], stdin: bytes, root: Path) -> tuple[int, str, str]:
    out, err = _stream(), _stream()
    environment = {"TURNLOCK_STATE_DIR": str(root), "NO_COLOR": "1", "TURNLOCK_TRACEBACK": ""}
    with (
        tempfile.TemporaryFile() as given,
        mock.patch.dict(os.environ, environment),
        mock.patch("sys.stdout", out),
        mock.patch("sys.stderr", err),
    ):
        given.write(stdin)
        given.seek(0)
        with io.TextIOWrapper(given, "utf-8") as text, mock.patch("sys.stdin", text):
            code = run(arguments)
    return code, _text(out), _text(err)


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()


def seeds() -> list[bytes]:
    message = json.dumps(turnlock.user("hi")).encode()
    lines = (
        "doctor --json", "doctor --fix", "doctor --deep", "locks --json", "locks",
        "sessions --json",
        "sessions read main/a", "sessions read main/b --json", "sessions heal main/b --wait 0",
        "release main/a --yes --json", "release main/b --yes", "--help", "--version", "nothing",
        "doctor --state-dir STATE/none", "sessions read ../a", "release STATE/agents --yes", "",
    )  # fmt: skip
    appends = ("append main/c --wait 0", "append main/a --turn-id T9 --max-hold 5 --json")
    return [
        *(line.replace(" ", "\n").encode() for line in lines),
        *(line.replace(" ", "\n").encode() + b"\n\n" + message + b"\n" for line in appends),
        b"append\nmain/a\n\n{\n" + message,
        b"append\nmain/a\n\n" + b"[" * 3000,
        b"append\nmain/a\n\n" + b"9" * 5000,
    ]


WORDS = (
    b"\n", b"\n\n", b"doctor", b"locks", b"sessions", b"read", b"heal", b"release", b"append",
    b"--json", b"--fix", b"--deep", b"--wait", b"--max-hold", b"--turn-id", b"--yes", b"--help",
    b"--version", b"--state-dir", b"STATE", b"--", b"-", b"main/a", b"main/b", b"agent:main:main",
    b"forever", b"nan", b"inf", b"-1", b"0", b"1e400", b"1_0", "\u0661".encode(), b"\xff",
    b"\x1b[31m", b"=", b"{", b"}", b'{"type":"message","message":{"role":"user","content":"x"}}',
    b"null", b"[]",
    b"[" * 3000, b"9" * 4400, b"NaN", b'"id":"x",', b'"\\ud800"', "\u202e".encode(), b"x" * 300,
)  # fmt: skip
