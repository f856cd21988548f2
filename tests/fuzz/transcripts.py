"""Transcripts: any bytes are read, nothing whole is lost, and what we write we read.

``lines`` holds the readers of lines against a naive one and against each other. ``entries`` writes
what JSON can say and reads it back. ``transcript`` puts bytes in the place of a transcript and has
everybody work on it: readers, a taker, doctor, the healer.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import turnlock
from tests.doctor.planting import bytes_of
from tests.transcript.strict import judge
from turnlock.backends.files import StateDirectory
from turnlock.doctor.examine import examine
from turnlock.doctor.healing import Healer
from turnlock.session import SessionKey
from turnlock.transcript import tail
from turnlock.transcript.entries import Entry, entry_object, epoch_of
from turnlock.transcript.history import messages
from turnlock.transcript.jsonl import (
    Line,
    ReadAt,
    decode,
    encode,
    find_entry,
    read_lines,
    whole_pieces,
)
from turnlock.transcript.scan import Scan

KEY = SessionKey("main", "a")
# What only a healed copy repairs.
_LEFT_TO_HEAL = {"header-missing", "header-damaged", "header-version"}
_NESTING_MAX = 200


def _reader(data: bytes, most: int = 1 << 30) -> ReadAt:
    return lambda offset, length: data[offset : offset + min(length, most)]


# The readers of lines


def read(data: bytes) -> None:
    found = list(read_lines(_reader(data), fragment=True))
    _agree_with_naive(data, found)
    _lose_nothing(data, found)
    # However the file comes in pieces, its lines are the same.
    assert list(read_lines(_reader(data, 7), fragment=True)) == found
    entries = [line.entry for line in found if line.entry is not None]
    _scan(found)
    _find(data, found)
    _agree_with_the_end(data, found)
    judge(messages(entries))
    for entry in entries:
        entry_object(entry)


def _agree_with_naive(data: bytes, found: list[Line]) -> None:
    """Line by line as json reads it; what has the newline and is an object, is an entry."""
    naive = [value for raw in data.split(b"\n")[:-1] if (value := _object(raw)) is not None]
    whole = [line.entry for line in found if line.entry is not None]
    rest = iter(whole)
    assert all(any(_same(value, entry) for entry in rest) for value in naive), (naive, whole)
    if all(_object(raw) is not None for raw in data.split(b"\n")[:-1]) and data.endswith(b"\n"):
        assert len(whole) == len(naive)


def _object(raw: bytes) -> Entry | None:
    if raw.count(b"[") + raw.count(b"{") > _NESTING_MAX:
        # How deep a parser gets depends on who calls it.
        return None
    try:
        value = json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _same(one: object, other: object) -> bool:
    # Not by ==, which has no opinion on NaN and is too kind to True and 1.
    return json.dumps(one) == json.dumps(other)


def _lose_nothing(data: bytes, found: list[Line]) -> None:
    """Each byte but blanks and newlines is in a line, at its place, and no line has it twice."""
    at = 0
    for line in found:
        assert line.offset >= at
        assert not data[at : line.offset].strip(), data[at : line.offset]
        assert data[line.offset : line.offset + len(line.raw)] == line.raw
        at = line.offset + len(line.raw)
    assert not data[at:].strip()


def _scan(found: list[Line]) -> Scan:
    scan = Scan()
    for line in found:
        scan.feed(line)
    assert scan.damaged_count == sum(line.entry is None for line in found if line.raw.strip())
    list(scan.unfinished)
    list(scan.open_calls)
    return scan


def _find(data: bytes, found: list[Line]) -> None:
    """The first entry with the id of the last one, as far as ids are written without escapes."""
    named = [line for line in found if line.entry and isinstance(line.entry.get("id"), str)]
    wanted = named[-1].entry["id"] if named and named[-1].entry else "none"
    place = find_entry(_reader(data), wanted)
    plain = [line for line in named if line.entry and line.entry["id"] == wanted]
    if place is None:
        raws = [line.raw for line in plain if _is_ended(data, line)]
        assert not any(f'"id":{json.dumps(wanted)}'.encode() in raw for raw in raws)
    else:
        assert place in [line.offset for line in plain]


def _is_ended(data: bytes, line: Line) -> bool:
    """What has no newline behind it may be half an entry, which is none yet."""
    return data[: line.end].endswith(b"\n")


def _agree_with_the_end(data: bytes, found: list[Line]) -> None:
    entries = [line.entry for line in found if line.entry is not None]
    end = tail.read_tail(_reader(data), len(data), turns=2)
    tail.read_end(_reader(data), len(data))
    bare = data.rstrip(b"\0")
    last = bare.rfind(b"\n") + 1
    assert end.fragment == (last if last < len(data) else None)
    assert end.epoch in {0, *map(epoch_of, entries)}
    ended = [line.entry for line in found if line.entry is not None and _is_ended(data, line)]
    epochs = [epoch for epoch in map(epoch_of, ended) if epoch is not None]
    if epochs == sorted(epochs) and _is_plain(data):
        assert end.epoch == max(epochs, default=0)
    ids = [one["id"] for one in entries if isinstance(one.get("id"), str)]
    assert end.last_id is None or end.last_id in ids


def _is_plain(data: bytes) -> bool:
    """Whether no name of a member is written with escapes, which the search by bytes passes."""
    return b"\\u" not in data and not whole_pieces(data.rpartition(b"\n")[2])


# The writer


def write_and_read(data: bytes) -> None:
    """An entry that is refused is refused with an error of ours; another is one line, and reads."""
    for raw in data.split(b"\n")[:4]:
        if raw.count(b"[") + raw.count(b"{") > 4 * _NESTING_MAX:
            continue
        try:
            entry = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        _encode(entry)
        if isinstance(entry, dict):
            _append(entry)


def _encode(entry: Any) -> None:
    try:
        line = encode(entry)
    except (ValueError, TypeError):
        return
    text = line.decode()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1, line
    json.loads(text, parse_constant=_refuse)
    if isinstance(entry, dict):
        assert decode(line[:-1]) is not None
        if _has_text(entry):
            assert _same(decode(line[:-1]), entry)


def _has_text(entry: Any) -> bool:
    """Whether all of its text has a form in UTF-8; half a character is replaced."""
    try:
        json.dumps(entry, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _append(entry: Entry) -> None:
    with turnlock.open_store("memory:") as store:
        try:
            with store.turn("main/a") as turn:
                (identity,) = turn.append(entry)
        except (turnlock.TurnlockError, ValueError, TypeError):
            return
        found = [one for one in store.read("main/a") if one.get("id") == identity]
        assert len(found) == 1
        if _has_text(entry):
            given = {name: entry[name] for name in entry if name not in _OURS}
            stored = {name: found[0].get(name) for name in given}
            assert _same(stored, given), (stored, given)
        judge(messages(list(store.read("main/a"))))


_OURS = frozenset({"id", "parentId", "timestamp", "epoch", "message"})


# A whole transcript


def heal(data: bytes) -> None:
    """I4 to I7, I10: whoever works on the file, nothing whole is lost and no byte is."""
    if any(800 < raw.count(b"[") + raw.count(b"{") < 1200 for raw in data.split(b"\n")):
        # Whether a parser gets so deep depends on who calls it.
        return
    with tempfile.TemporaryDirectory(prefix="turnlock-fuzz-") as directory:
        root = Path(directory)
        path = Path(StateDirectory(directory).place(KEY).transcript)
        path.parent.mkdir(parents=True, mode=0o700)
        path.write_bytes(data)
        path.chmod(0o600)
        wanted = _ids(data)
        _doctor_keeps(root, path, data)
        _next_turn_works(root)
        assert wanted <= _ids(path.read_bytes())
        _heals(root, path, data, wanted)


def _doctor_keeps(root: Path, path: Path, data: bytes) -> None:
    before = bytes_of(root)
    examine(str(root), deep=True)
    assert bytes_of(root) == before, "looking changed something"
    left = _troubles(root, fix=True) - _LEFT_TO_HEAL
    assert not left, f"doctor leaves {left}"
    assert path.read_bytes().startswith(data)
    before = bytes_of(root)
    left = _troubles(root, fix=True) - _LEFT_TO_HEAL
    assert not left, f"doctor leaves {left}"
    assert bytes_of(root) == before, "a second repair changed something"


def _next_turn_works(root: Path) -> None:
    with turnlock.open_store(root, durability="none") as store:
        with store.turn("main/a", wait=0) as turn:
            turn.append({"id": "new"} | turnlock.user("new"))
            said = turn.messages()
        judge(said)
        assert said[-1] == {"role": "user", "content": "new"}


def _heals(root: Path, path: Path, data: bytes, wanted: set[str]) -> None:
    known = _ids(path.read_bytes())
    try:
        _healer(root).heal(wait=0)
    except turnlock.TranscriptError as error:
        # One of its headers is of another version.
        _is_of_a_version(error)
        return
    assert known | wanted <= _ids(path.read_bytes()), "the healed copy lost an entry"
    kept = b"".join(one.read_bytes() for one in sorted(path.parent.iterdir()))
    for raw in data.split(b"\n"):
        assert raw.strip(b" \t\r\0") in kept, raw
    assert not _troubles(root, fix=True)
    before = bytes_of(root)
    assert _healer(root).heal(wait=0).changes is None
    assert not _troubles(root, fix=True)
    assert bytes_of(root) == before, "healing what is healed changed something"
    _next_turn_works_again(root)


def _is_of_a_version(error: turnlock.TranscriptError) -> None:
    assert "of version" in error.why, error


def _next_turn_works_again(root: Path) -> None:
    with turnlock.open_store(root, durability="none") as store, store.turn("main/a") as turn:
        judge(turn.messages())


def _healer(root: Path) -> Healer:
    return Healer(StateDirectory(str(root)), KEY)


def _troubles(root: Path, *, fix: bool = False) -> set[str]:
    report = examine(str(root), fix=fix, deep=True)
    found = {one.check for one in report.findings if one.is_trouble}
    assert "check-crashed" not in found, report.findings
    return found


def _ids(content: bytes) -> set[str]:
    found = read_lines(_reader(content), fragment=False)
    entries = [line.entry for line in found if line.entry is not None]
    return {one["id"] for one in entries if isinstance(one.get("id"), str) and not _is_header(one)}


def _is_header(entry: Entry) -> bool:
    return entry.get("type") == "session"


# Seeds


@functools.cache
def sound() -> bytes:
    """A transcript of ours: turns that ended well and one that failed, text of every kind."""
    with tempfile.TemporaryDirectory(prefix="turnlock-fuzz-") as state:
        with turnlock.open_store(state, durability="none") as store:
            with store.turn("main/a", turn_id="T1") as turn:
                turn.append(turnlock.user('"é\u2028" {"type":"x"}'), _call("c1"), _result("c1"))
                turn.append(turnlock.assistant("done"))
            try:
                with store.turn("main/a", turn_id="T2") as turn:
                    turn.append(turnlock.user("again"), _call("c2"))
                    raise ValueError("no")
            except ValueError:
                pass
        return Path(StateDirectory(state).place(KEY).transcript).read_bytes()


def _call(identity: str) -> Entry:
    part = {"type": "toolCall", "id": identity, "name": "search", "arguments": {"q": "x"}}
    return {"type": "message", "message": {"role": "assistant", "content": [part]}}


def _result(identity: str) -> Entry:
    message = {"role": "toolResult", "toolCallId": identity, "content": [], "isError": False}
    return {"type": "message", "message": message}


def seeds() -> list[bytes]:
    whole = sound()
    lines = whole.splitlines(keepends=True)
    glued = whole[:-30] + lines[2] + whole
    foreign = [
        {"type": "compaction", "id": "k", "summary": "s", "firstKeptEntryId": "m", "parentId": "m"},
        {"type": "branch_summary", "id": "b", "summary": "s", "parentId": None},
        {"type": "custom_message", "id": "q", "content": "text", "parentId": "gone"},
        {"type": "message", "id": "m", "message": {"role": "system", "content": [{"type": "i"}]}},
    ]
    odd = b"".join(json.dumps(one).encode() + b"\n" for one in foreign)
    return [b"", b"\n", whole, whole[:-1], whole[:-40], glued, odd, lines[0], *lines[1:4]]


def _each(*texts: str) -> Callable[[], tuple[bytes, ...]]:
    return lambda: tuple(text.encode() for text in texts)


WORDS = (
    *_each(
        '"type":', '"id":', '"parentId":', '"timestamp":', '"epoch":', '"data":', '"turnId":',
        '"closes":', '"reason":', '"message"', '"session"', '"custom"', '"customType":',
        '"turnlock:turn"', '"turnlock:end"', '"openclaw:prompt-error"', '"role":', '"content":',
        '"toolCall"', '"toolResult"', '"toolCallId":', '"stopReason":', '"error"', '"arguments":',
        '"version":', '"compaction"', '"summary":', '"firstKeptEntryId":', '{"type":', "null",
        "true", "[]", "{}", "[" * 3000, "9" * 4400, "1e999", "NaN", "-1", "0", "9007199254740993",
        '"\\ud800"', "\\u0000", "\u2028", "\u0085", "\r\n", "\n", '"', "\\", "}", "{", ",",
        '{"type":"message","id":"z","parentId":null,"timestamp":"","message":{"role":"user"}}\n',
    )(),
    b"\0" * 40,
    b"\xff",
    b"\xef\xbb\xbf",
)  # fmt: skip
