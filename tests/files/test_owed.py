"""What a take writes on behalf of turns that ended without saying so."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.helpers import PATIENCE, child, kinds
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.transcript.entries import (
    CUT_OFF,
    EPOCH_MAX,
    MARKER,
    TERMINAL,
    Entry,
    custom_type,
    message_of,
    opening,
)
from turnlock.transcript.jsonl import encode

HEADER = {"type": "session", "version": 3, "id": "s", "timestamp": "2026-01-01T00:00:00.000Z"}

END = {"type": "custom", "customType": "turnlock:end", "data": {"v": 1, "turnId": "T2"}}


def transcript_of(state: Path, content: bytes | None = None) -> Path:
    path = state / "agents/main/sessions/a.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        path.write_bytes(content)
    return path


def begun(epoch: int, *messages: Entry, turn_id: str | None = None) -> bytes:
    """The lines of a turn without terminal entry."""
    entries = [opening(turn_id or f"T{epoch}"), turnlock.user(f"from {epoch}"), *messages]
    return b"".join(
        encode(
            {"type": entry["type"], "id": f"{epoch}-{number}", "parentId": None}
            | {"timestamp": "2026-01-01T00:00:00.000Z"}
            | entry
            | {"epoch": epoch}
        )
        for number, entry in enumerate(entries)
    )


def calls(*ids: str, **more: str) -> Entry:
    parts = [{"type": "toolCall", "id": one, "name": "look", "arguments": {}} for one in ids]
    return {"type": "message", "message": {"role": "assistant", "content": parts} | more}


def result(identity: str) -> Entry:
    return {"type": "message", "message": {"role": "toolResult", "toolCallId": identity}}


def entries(state: Path) -> list[Entry]:
    return list(turnlock.open_store(state).read("main/a"))


def markers(state: Path) -> list[tuple[str, int, Any]]:
    """(turn, epoch, closes) of every error marker."""
    found = [entry for entry in entries(state) if custom_type(entry) == MARKER]
    return [(one["data"]["turnId"], one["epoch"], one["data"].get("closes")) for one in found]


def take(state: Path) -> None:
    with turnlock.open_store(state).turn("main/a"):
        pass


def test_every_turn_that_was_left_open_gets_its_marker_once(state: Path) -> None:
    """I6, I10. Epochs never decrease: an old turn is closed under a new one."""
    content = encode(HEADER) + begun(1) + begun(2) + begun(3)
    path = transcript_of(state, content)
    take(state)
    assert markers(state) == [("T3", 3, None), ("T1", 4, 1), ("T2", 5, 2)]
    assert path.read_bytes().startswith(content)
    after = path.read_bytes()
    take(state)
    assert path.read_bytes() == after
    epochs = [entry["epoch"] for entry in entries(state)]
    assert epochs == sorted(epochs)


def test_a_turn_left_open_behind_one_that_ended_gets_its_marker(state: Path) -> None:
    """Nothing else is owed: the last turn ended well, and no claim names the other one."""
    transcript_of(state, encode(HEADER) + begun(1, turn_id="T1"))
    with transcript_of(state).open("ab") as file:
        file.write(begun(2, turn_id="T2") + encode({**END, "id": "end", "epoch": 2}))
    take(state)
    assert markers(state) == [("T1", 3, 1)]


def test_the_next_turn_has_an_epoch_of_its_own(state: Path) -> None:
    transcript_of(state, encode(HEADER) + begun(1) + begun(2))
    with turnlock.open_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("next"))
        assert turn.epoch == 4
    ended = [entry["epoch"] for entry in entries(state) if custom_type(entry) in TERMINAL]
    assert ended == [2, 3, 4]


def test_calls_of_a_turn_that_was_left_open_get_results(state: Path) -> None:
    """F1: a process that died in a tool."""
    content = encode(HEADER) + begun(1, calls("a", "b"), result("a"))
    path = transcript_of(state, content)
    take(state)
    added = entries(state)[4:]
    assert [message_of(entry).get("toolCallId") for entry in added] == ["b", None]
    assert message_of(added[0])["content"][0]["text"] == CUT_OFF
    assert (message_of(added[0])["isError"], added[0]["epoch"]) == (True, 1)
    assert custom_type(added[1]) == MARKER
    after = path.read_bytes()
    take(state)
    assert path.read_bytes() == after


@pytest.mark.parametrize("reason", ["aborted", "error"])
def test_half_a_call_gets_no_result(state: Path, reason: str) -> None:
    """F2: a result for a call that was only partly stored is refused for ever."""
    transcript_of(state, encode(HEADER) + begun(1, calls("a", stopReason=reason), calls("")))
    take(state)
    assert [custom_type(entry) for entry in entries(state)[4:]] == [MARKER]


@pytest.mark.processes
def test_openclaw_killed_in_a_tool_leaves_no_open_call(state: Path) -> None:
    gone = child("pass")
    with gone as process:
        pid = process.pid
        process.ended()
    lines: list[Entry] = [HEADER, {"id": "u"} | turnlock.user("1"), {"id": "c"} | calls("a")]
    path = transcript_of(state, b"".join(map(encode, lines)))
    path.with_name("a.jsonl.lock").write_text(json.dumps({"pid": pid, "createdAt": "2026"}))
    take(state)
    closing = [
        message_of(entry).get("toolCallId") or custom_type(entry) for entry in entries(state)
    ]
    assert closing[2:] == ["turnlock:turn", "a", MARKER]


def test_an_entry_that_lacks_its_newline_is_not_written_twice(state: Path) -> None:
    """I4: an append that was cut before its newline, and is tried again with its id."""
    store = turnlock.open_store(state)
    with store.turn("main/a") as turn:
        turn.append({"id": "mine"} | turnlock.user("1"))
    path = transcript_of(state)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3])[:-1])
    with store.turn("main/a") as turn:
        turn.append({"id": "mine"} | turnlock.user("1"), {"id": "more"} | turnlock.user("2"))
    found = [entry["id"] for entry in entries(state) if "message" in entry]
    assert found == ["mine", "more"]


def test_cut_at_every_byte_of_the_last_record_the_rest_is_read_and_written_on(state: Path) -> None:
    """F4, F5: what is left of it hides neither what came before nor what comes next."""
    whole = encode(HEADER) + begun(1)
    last = encode({"type": "x", "id": "last", "parentId": "1-1", "timestamp": "2026", "epoch": 1})
    store = turnlock.open_store(state, durability="none")
    for length in range(1, len(last) + 1):
        path = transcript_of(state, whole + last[:length])
        is_whole = length >= len(last) - 1
        with store.turn("main/a") as turn:
            turn.append({"id": "next"} | turnlock.user("next"))
        assert path.read_bytes().startswith(whole + last[:length])
        found = [entry["id"] for entry in entries(state)]
        assert found[:2] == ["1-0", "1-1"]
        assert ("last" in found, found.count("next")) == (is_whole, 1)
        assert markers(state) == [("T1", 1, None)]


@pytest.mark.parametrize("first", [b'{"type":"sess', b"\0" * 100, b"", b'ion","version":3}'])
def test_a_damaged_header_hides_nothing_and_is_left(state: Path, first: bytes) -> None:
    """F6: a loader that cannot read the first line must not begin afresh."""
    content = first + b"\n" + begun(1)
    path = transcript_of(state, content)
    take(state)
    assert path.read_bytes().startswith(content)
    assert [entry["id"] for entry in entries(state)][:2] == ["1-0", "1-1"]


class CountingReads(FileOps):
    read = 0

    def read_at(self, handle: Handle, offset: int, length: int) -> bytes:
        found = super().read_at(handle, offset, length)
        self.read += len(found)
        return found


@pytest.mark.parametrize("name", ["hole", "nuls"])
def test_a_gigabyte_of_nuls_at_the_end_costs_a_take_nothing(state: Path, name: str) -> None:
    """I7: a power loss may leave a tail of NULs; as a hole it is not even read."""
    from turnlock.backends.files import FilesBackend, StateDirectory
    from turnlock.store import Store

    path = transcript_of(state, encode(HEADER) + begun(1) + b"\0" * 5_000_000 * (name == "nuls"))
    size = path.stat().st_size
    os.truncate(path, 1024**3)
    files = CountingReads()
    store = Store(FilesBackend(StateDirectory(str(state)), files=files), location="test")
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("after"))
    assert files.read < size + 1_000_000
    with open(path, "rb") as file:
        file.seek(1024**3)
        added = file.read()
    assert added.startswith(b'\n{"type":"custom"')
    assert added.count(b"openclaw:prompt-error") == 1


def poisoned(epoch: int) -> bytes:
    return encode(HEADER) + encode({"type": "custom", "customType": "x", "id": "p", "epoch": epoch})


DIES = """
    import os, turnlock
    with turnlock.open_store(sys.argv[1]).turn("main/a", turn_id=sys.argv[2]) as turn:
        turn.append(turnlock.user("x"))
        os._exit(0)
"""


@pytest.mark.parametrize("epoch", [2**53 - 1, 2**53, 2**63, 10**30])
def test_a_number_that_is_no_epoch_starts_no_sequence(state: Path, epoch: int) -> None:
    """I2, I6: one line of another program makes no epoch come twice, and no marker."""
    transcript_of(state, poisoned(epoch))
    for name in ("T1", "T2"):
        with child(DIES, state, name) as process:
            process.ended()
    take(state)
    assert [e["epoch"] for e in entries(state) if custom_type(e) == "turnlock:turn"] == [1, 2]
    assert [turn_id for turn_id, _, _ in markers(state)] == ["T1", "T2"]


def test_no_epoch_is_given_that_no_reader_knows(state: Path) -> None:
    """The highest one can be reached by a line of another program alone."""
    transcript_of(state, poisoned(EPOCH_MAX))
    store = turnlock.open_store(state)
    for _ in range(2):
        with pytest.raises(turnlock.TranscriptError, match="epoch"), store.turn("main/a") as turn:
            turn.append(turnlock.user("x"))
    # What looks like a turn without an end has got one, once; nothing came after it.
    assert [entry["epoch"] for entry in entries(state)] == [EPOCH_MAX, EPOCH_MAX]
    assert markers(state) == [("unknown", EPOCH_MAX, None)]
    assert store.locks() == []


@pytest.mark.parametrize("wrote", [False, True])
def test_a_turn_that_was_killed_is_marked_although_one_of_its_name_ended_before(
    wrote: bool, state: Path
) -> None:
    with turnlock.open_store(state) as store:
        with store.turn("main/a", turn_id="job-7") as turn:
            turn.append(turnlock.user("1"))
        code = """
            import turnlock
            with turnlock.open_store(sys.argv[1]).turn("main/a", turn_id="job-7") as turn:
                if len(sys.argv) > 2:
                    turn.append(turnlock.user("2"))
                print("holds")
                sys.stdin.read()
        """
        with child(code, state, *["wrote"][: int(wrote)]) as process:
            process.expect("holds")
            process.kill()
        with store.turn("main/a", wait=PATIENCE):
            pass
        assert kinds(store)[3:] == ["turn", *["user:2"][: int(wrote)], "interrupted"]
