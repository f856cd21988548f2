"""``doctor --deep``: what is found in the middle of a transcript, and what is repaired there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.doctor.planting import (
    HEADER,
    MESSAGE,
    bytes_of,
    everything,
    facts,
    make_unread,
    transcript,
)
from tests.files.test_owed import begun, calls, result
from turnlock.doctor.checks import CHECKS
from turnlock.doctor.endings import SMALL_BYTES
from turnlock.doctor.examine import examination_of, examine, run_checks
from turnlock.doctor.findings import Finding
from turnlock.transcript.entries import MARKER, custom_type
from turnlock.transcript.jsonl import encode

SAMPLES = Path(__file__).parent.parent / "samples"
FILLING = MESSAGE * (2 * SMALL_BYTES // len(MESSAGE))


def deep(state: Path, *, fix: bool = False) -> dict[str, Finding]:
    return {one.check: one for one in examine(str(state), fix=fix, deep=True).findings}


def shallow(state: Path) -> list[str]:
    return [one.check for one in examine(str(state)).findings]


def test_damaged_lines_in_the_middle_are_found_kept_and_found_no_more(state: Path) -> None:
    """F7: nothing is skipped in silence."""
    middle = b'{"cut\n' + b"\0" * 5000 + b"\n" + MESSAGE[:-1] + b'{"type":"x"\xff\n'
    path = transcript(state, content=HEADER + FILLING + middle + FILLING)
    assert shallow(state) == []
    assert "3 lines" in deep(state)["damaged-lines"].message
    assert deep(state, fix=True)["damaged-lines"].fixed
    torn = Path(f"{path}.torn").read_bytes()
    at = len(HEADER + FILLING) + len(b'{"cut\n')
    assert b'{"cut\n(5000 NUL bytes at byte %d)\n' % at in torn
    before = bytes_of(state)
    assert "damaged-lines" not in deep(state, fix=True)
    assert bytes_of(state) == before


def test_every_turn_without_end_gets_its_marker_wherever_it_is(state: Path) -> None:
    """I6, I10: doctor finds what a take, which reads only the end, does not."""
    content = HEADER + begun(1) + begun(2, turn_id="T1") + begun(3)[50:] + FILLING + begun(4)
    path = transcript(state, content=content)
    assert (
        "turn T4 has"
        in {one.check: one for one in examine(str(state)).findings}["unfinished-turn"].message
    )
    assert "4 turns (T1, T1, unknown, T4)" in deep(state)["unfinished-turn"].message
    assert "--fix --deep" in deep(state)["unfinished-turn"].hint.replace(
        f" --state-dir {state}", ""
    )
    assert deep(state, fix=True)["unfinished-turn"].fixed
    after = path.read_bytes()
    assert after.startswith(content)
    assert "unfinished-turn" not in deep(state, fix=True)
    assert path.read_bytes() == after
    entries = [
        one for one in turnlock.open_store(state).read("main/a") if custom_type(one) == MARKER
    ]
    assert [(one["epoch"], one["data"].get("closes")) for one in entries] == [
        (4, None),
        (5, 1),
        (6, 2),
        (7, 3),
    ]


def test_turns_before_the_newest_are_found_near_the_end_without_deep(state: Path) -> None:
    transcript(state, content=HEADER + begun(1) + begun(2))
    found = {one.check: one for one in examine(str(state), fix=True).findings}
    assert "2 turns (T1, T2)" in found["unfinished-turn"].message
    assert found["unfinished-turn"].fixed
    assert examine(str(state), fix=True).findings == ()


A, B = turnlock.user("a"), turnlock.user("b")
GLUED = encode({"id": "b", "parentId": None, "timestamp": "2026"} | B)


def chain(*entries: dict[str, Any]) -> bytes:
    """Entries that follow each other, unless they say otherwise."""
    linked = [
        {"id": f"{n}", "parentId": f"{n - 1}" if n else None} | e for n, e in enumerate(entries)
    ]
    return HEADER + b"".join(encode({"timestamp": "2026"} | entry) for entry in linked)


@pytest.mark.parametrize(
    ("check", "content"),
    [
        (
            "glued-lines",
            chain(A) + GLUED[:-1] + GLUED,
        ),
        ("second-header", chain(A) + HEADER),
        ("forked", chain(A, B, {"parentId": "0"} | calls("x"))),
        ("missing-parents", chain(A, {"parentId": "gone"} | B)),
        ("duplicate-ids", chain(A, {"id": "0"} | B)),
        ("open-calls", chain(calls("x"), turnlock.user("b"))),
        ("open-calls", chain(A, result("x"))),
        ("epochs-decrease", chain({"type": "x", "epoch": 2}, {"type": "x", "epoch": 1})),
        ("header-version", HEADER.replace(b'"version":3', b'"version":4') + MESSAGE),
    ],
)
def test_what_readers_cope_with_is_a_note(state: Path, check: str, content: bytes) -> None:
    path = transcript(state, content=content)
    found = deep(state)
    assert found[check].severity == "info"
    assert path.read_bytes() == content


def test_openclaws_fork_is_told_of(state: Path) -> None:
    path = SAMPLES / "openclaw-2026.2.17/transcript-hold-watchdog.jsonl"
    transcript(state, content=path.read_bytes())
    assert (
        "not on the active branch, so no model sees them: 2 entries"
        in deep(state)["forked"].message
    )
    other = SAMPLES / "openclaw-2026.2.17/transcript-ok.jsonl"
    transcript(state, content=other.read_bytes())
    assert deep(state) == {}


def test_a_gigabyte_of_nuls_is_kept_as_a_number(state: Path) -> None:
    path = transcript(state, content=HEADER + MESSAGE + b'{"cut')
    os.truncate(path, 1024**3)
    assert (
        "ends in NULs"
        in {one.check: one for one in examine(str(state)).findings}["torn-tail"].message
    )
    examine(str(state), fix=True)
    assert Path(f"{path}.torn").read_bytes() == b'{"cut\n'
    os.truncate(path, len(HEADER + MESSAGE))
    os.truncate(path, 1024**3)
    examine(str(state), fix=True)
    kept = Path(f"{path}.torn").read_bytes().splitlines()[1]
    assert kept == b"(%d NUL bytes at byte %d)" % (
        1024**3 - len(HEADER + MESSAGE),
        len(HEADER + MESSAGE),
    )
    assert [one.check for one in examine(str(state), fix=True).findings] == ["torn-copy"]


def test_looking_deeply_changes_nothing(state: Path) -> None:
    transcript(state, content=HEADER + begun(1) + FILLING + b"{\n" + begun(2) + b'{"')
    paths = everything(state)
    make_unread(paths)
    before = facts(paths)
    examine(str(state), deep=True)
    assert facts(paths) == before


def test_what_was_read_is_told_of(state: Path) -> None:
    size = transcript(state, content=HEADER + FILLING).stat().st_size
    size += transcript(state, "b", content=HEADER).stat().st_size
    examination = examination_of(str(state), fix=False, deep=True)
    assert examination.transcript_bytes() == size
    read: list[int] = []
    examination.on_read = read.append
    run_checks(examination, CHECKS)
    assert sum(read) == size


def test_a_session_that_is_held_is_nobodys_unfinished_turn(state: Path) -> None:
    transcript(state, content=HEADER + begun(1) + FILLING)
    with turnlock.open_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("held"))
        assert "unfinished-turn" not in deep(state, fix=True)
