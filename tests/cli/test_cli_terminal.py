"""Nothing that comes from a disk steers the terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import turnlock
from tests.cli.conftest import RunHere
from tests.cli.running import PROGRAM, a_turn, environment, run, transcript
from tests.doctor.planting import claim_of, gone_pid, lock
from turnlock.cli.jsonout import to_json
from turnlock.cli.terminal import columns
from turnlock.printable import printable

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"


@given(st.text(st.characters()))
def test_printable_text_does_nothing_to_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(shown) & set(BIDI)
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb", r"a\u202eb"),
        ("\udc80", r"\udc80"),
        ("line\nline\r", r"line\x0aline\x0d"),
        ("grüße 日本 👩\u200d💻", "grüße 日本 👩\u200d💻"),
    ],
)
def test_what_people_write_stays_and_the_rest_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.dictionaries(st.text(), st.text()))
@example({"\x7f": "\x7f\x1b\u2028"})
def test_json_is_ascii_without_controls_and_says_the_same(value: dict[str, str]) -> None:
    text = to_json(value)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == value


def test_columns_are_as_wide_as_their_widest() -> None:
    assert columns([("a", "bb", "c"), ("aaa", "b", "")], indent="  ") == [
        "  a    bb  c",
        "  aaa  b",
    ]


EVIL = "\x1b[31m\x9b\u202e\r"


@pytest.mark.parametrize("command", [["doctor"], ["locks"], ["sessions", "read", "main/a"]])
@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
def test_hostile_names_claims_and_entries_are_shown_escaped(
    state: Path, run_here: RunHere, command: list[str], as_json: bool
) -> None:
    plant_evil(state)
    done = run_here(*command, *(["--json"] if as_json else []))
    assert not set(done.out) & set("\x1b\x9b\u202e\r" + BIDI)
    assert "\x1b" not in done.err
    assert "x1b[31m" in done.out or "u001b[31m" in done.out


def plant_evil(state: Path) -> None:
    with turnlock.open_store(state).turn("main/a") as turn:
        turn.append(turnlock.user(EVIL))
    name = transcript(state, f"name{EVIL}")
    name.write_text("{")
    claim = {"v": 99, "pid": 1, "turnId": EVIL, "session": EVIL, "host": EVIL}
    Path(f"{transcript(state)}.lock").write_text(json.dumps(claim))
    Path(f"{name}.lock").write_text(json.dumps(claim))


@pytest.mark.processes
def test_a_stream_that_knows_less_than_unicode_gets_escapes(state: Path) -> None:
    a_turn(state, text="日本")
    done = run(state, "sessions", "read", "main/a", PYTHONIOENCODING="latin-1")
    assert done.code == 0
    assert r"user       \u65e5\u672c" in done.out


@pytest.mark.processes
@pytest.mark.parametrize(
    ("variables", "colored"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    state: Path, variables: dict[str, str], colored: bool
) -> None:
    state.mkdir()
    shown = on_a_terminal(state, ["doctor"], variables)
    assert (b"\x1b[" in shown) == colored


@pytest.mark.processes
@pytest.mark.parametrize("command", ["doctor", "locks"])
def test_a_table_too_wide_for_the_terminal_is_folded_and_a_pipe_gets_whole_lines(
    state: Path, command: str
) -> None:
    a_turn(state)
    name = "n" * 60
    lock(state, claim_of(gone_pid(), turnId="T1"), name=name)
    narrow = on_a_terminal(state, [command], {"TERM": "dumb", "COLUMNS": "80"}).decode()
    lines = narrow.replace("\r", "").splitlines()
    folded = lines.index(f"  stale       main/{name}")
    assert lines[folded + 1].split()[:3] == ["pid", str(dead_pid(narrow)), "dead"]
    assert "turn T1" in lines[folded + 1]
    assert not [line for line in lines if len(line) > 80 and "/" not in line]
    whole = run(state, command, COLUMNS="80").out
    assert any(
        "stale" in line and name in line and "turn T1" in line for line in whole.splitlines()
    )


def dead_pid(shown: str) -> int:
    return int(shown.partition("pid ")[2].split()[0])


def on_a_terminal(state: Path, arguments: list[str], variables: dict[str, str]) -> bytes:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    subprocess.run(
        [*PROGRAM, *arguments], stdout=theirs, env=environment(state, **variables), check=False
    )
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    return shown
