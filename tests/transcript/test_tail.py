"""What a new holder learns from the end of a transcript, whatever is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnlock.transcript import tail as tail_module
from turnlock.transcript.entries import Failure, end, marker, opening
from turnlock.transcript.jsonl import Line, decode, encode, pieces, read_lines
from turnlock.transcript.tail import Tail, read_end, read_on, read_tail


def text(*entries: Any) -> bytes:
    return b"".join(encode(entry) for entry in entries)


def tail_of(content: bytes, turns: int = 1) -> Any:
    return read_tail(lambda at, n: content[at : at + n], len(content), turns=turns)


def lines_of(content: bytes) -> list[Line]:
    return list(read_lines(lambda at, n: content[at : at + n]))


HEADER = {"type": "session", "version": 3, "id": "s"}


def numbered(entry: dict[str, Any], identity: str, epoch: int) -> dict[str, Any]:
    return {"id": identity} | entry | {"epoch": epoch}


def turn(epoch: int, *, ended: bool = True) -> list[dict[str, Any]]:
    entries = [
        numbered(opening(f"T{epoch}"), f"o{epoch}", epoch),
        numbered({"type": "message", "message": {"role": "user"}}, f"m{epoch}", epoch),
    ]
    return [*entries, numbered(end(f"T{epoch}", 1.0), f"e{epoch}", epoch)] if ended else entries


def test_an_empty_transcript() -> None:
    tail = tail_of(b"")
    assert (tail.epoch, tail.last_id, tail.fragment, tail.open_turn) == (0, None, None, None)


def test_a_header_alone_is_no_parent() -> None:
    assert tail_of(text(HEADER)).last_id is None


def test_the_last_turn_is_known_by_its_opening() -> None:
    tail = tail_of(text(HEADER, *turn(1), *turn(2)))
    assert (tail.epoch, tail.last_id, tail.open_turn) == (2, "e2", None)


def test_a_turn_without_terminal_entry_is_open() -> None:
    tail = tail_of(text(HEADER, *turn(1), *turn(2, ended=False)))
    assert (tail.open_turn.epoch, tail.open_turn.turn_id) == (2, "T2")


def test_foreign_entries_after_ours_hide_nothing() -> None:
    foreign = [{"type": "message", "id": f"f{n}"} for n in range(500)]
    tail = tail_of(text(HEADER, *turn(1, ended=False), *foreign))
    assert (tail.epoch, tail.last_id, tail.open_turn.turn_id) == (1, "f499", "T1")


def test_several_turns_are_seen_when_asked_for() -> None:
    tail = tail_of(text(HEADER, *turn(1), *turn(2), *turn(3, ended=False)), turns=3)
    assert [(seen.turn_id, seen.terminal) for seen in tail.turns] == [
        ("T3", False),
        ("T2", True),
        ("T1", True),
    ]


def test_a_damaged_opening_leaves_the_turn_without_a_name() -> None:
    content = text(HEADER) + b'{"type":"custom","cust\n' + text(*turn(2, ended=False)[1:])
    assert (tail_of(content).open_turn.epoch, tail_of(content).open_turn.turn_id) == (2, None)


@pytest.mark.parametrize("epoch", [0, -1, 2**70, 1.5, True, "3", None])
def test_a_number_that_is_no_epoch_does_not_count(epoch: Any) -> None:
    content = text(HEADER, *turn(1), {"type": "x", "id": "x", "epoch": epoch})
    assert (tail_of(content).epoch, tail_of(content).last_id) == (1, "x")


def test_an_epoch_inside_of_a_text_does_not_count() -> None:
    forged = json.dumps({"customType": "turnlock:end", "epoch": 99})
    content = text(HEADER, *turn(1), {"type": "x", "id": "x", "text": forged, "epochs": 5})
    assert tail_of(content).epoch == 1


def test_every_torn_end_is_a_fragment_and_nothing_else() -> None:
    whole = text(HEADER, *turn(1))
    last = text(numbered({"type": "x", "text": "é" * 5}, "x", 1))
    for length in range(1, len(last) - 1):
        tail = tail_of(whole + last[:length])
        assert tail.fragment == len(whole)
        assert (tail.epoch, tail.last_id) == (1, "e1")
    assert tail_of(whole + last).fragment is None


def test_an_entry_that_lacks_only_its_newline_is_one() -> None:
    """The next writer's newline makes it one, and then its turn must not get a second end."""
    stamped = [entry | {"timestamp": "2026-01-01T00:00:00.000Z"} for entry in turn(1)]
    content = text(HEADER, *stamped)[:-1]
    tail = tail_of(content)
    assert (tail.last_id, tail.open_turn) == ("e1", None)
    assert tail.fragment == content.rfind(b"\n") + 1
    assert [line.entry["id"] for line in lines_of(content) if line.entry][-1] == "e1"


def test_a_long_line_is_found_across_blocks() -> None:
    big = numbered({"type": "x", "text": "y" * 300_000}, "big", 1)
    tail = tail_of(text(HEADER, *turn(1, ended=False), big))
    assert (tail.last_id, tail.open_turn.turn_id) == ("big", "T1")


def test_only_the_end_is_read() -> None:
    content = text(HEADER, *(entry for n in range(1, 3000) for entry in turn(n)))
    read: list[int] = []

    def read_at(at: int, length: int) -> bytes:
        read.append(length)
        return content[at : at + length]

    assert read_tail(read_at, len(content)).epoch == 2999
    assert sum(read) < 64 * 1024 < len(content)


@pytest.mark.parametrize(
    "last", [b'x "y" z\n', b'{"role":"user","content":"hi"}\n', b'"y"\n'], ids=lambda line: line[:4]
)
def test_a_parent_is_not_looked_for_through_the_whole_file(
    last: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To parse each of a million lines that are no entries, or have no id, took minutes."""
    parsed: list[bytes] = []

    def counted(raw: bytes) -> Any:
        parsed.append(raw)
        return pieces(raw)

    monkeypatch.setattr(tail_module, "pieces", counted)
    content = text(HEADER, *turn(1), *turn(2, ended=False))
    tail = tail_of(content + 5000 * last)
    # The newest entry of ours stands in for the parent.
    assert (tail.epoch, tail.last_id, tail.open_turn.turn_id) == (2, "m2", "T2")
    assert len(parsed) < 500
    assert tail_of(5000 * last)[2:5] == (None, 0, ())
    assert len(parsed) < 1000
    few = content + text({"type": "message", "id": "f"}) + 100 * last
    assert tail_of(few).last_id == "f"


def test_blank_lines_are_not_looked_through_for_a_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "_PARENT_BYTES_MAX", 1000)
    foreign = text({"type": "message", "id": "f"})
    assert tail_of(text(*turn(1)) + foreign + 900 * b"\n").last_id == "f"
    assert tail_of(text(*turn(1)) + foreign + 2000 * b"\n").last_id == "e1"


def test_turns_before_the_newest_that_have_no_end_are_found() -> None:
    tail = tail_of(text(HEADER, *turn(1, ended=False), *turn(2, ended=False), *turn(3)))
    assert [(seen.epoch, seen.turn_id) for seen in tail.earlier] == [(1, "T1"), (2, "T2")]
    assert (tail.epoch, tail.open_turn, tail.owes) == (3, None, True)
    assert tail_of(text(HEADER, *turn(1), *turn(2), *turn(3))).earlier == ()


def test_a_turn_before_one_whose_opening_is_gone_is_found() -> None:
    begun = turn(4, ended=False)[:1]
    tail = tail_of(text(HEADER, *turn(1), *begun, *turn(5)[1:]))
    assert [(seen.epoch, seen.turn_id) for seen in tail.earlier] == [(4, "T4")]
    assert (tail.epoch, tail.turns[0].turn_id) == (5, "T5")


def test_a_turn_that_was_torn_apart_has_its_name_once() -> None:
    mine, other = turn(4, ended=False), turn(5)
    tail = tail_of(text(HEADER, mine[0], other[2], mine[1]))
    assert (tail.earlier, tail.open_turn.turn_id, tail.epoch) == ((), "T4", 5)


def test_a_turn_that_was_closed_behind_later_ones_owes_nothing() -> None:
    closing = [numbered(opening("T1"), "o", 3), numbered(end("T1", 1.0), "e", 3)]
    content = text(HEADER, *turn(1, ended=False), *turn(2), *closing)
    assert tail_of(content).earlier == ()
    assert tail_of(content + text(*turn(4)), turns=2).earlier == ()


def test_earlier_turns_are_not_looked_for_through_the_whole_file() -> None:
    filling = [entry for n in range(2, 500) for entry in turn(n)]
    assert tail_of(text(HEADER, *turn(1, ended=False), *filling)).earlier == ()


def test_the_calls_that_an_open_turn_left_without_result() -> None:
    def call(*ids: object) -> dict[str, Any]:
        parts = [{"type": "toolCall", "id": one, "name": "n"} for one in ids]
        return {"type": "message", "message": {"role": "assistant", "content": parts}}

    result = {"type": "message", "message": {"role": "toolResult", "toolCallId": "a"}}
    aborted = call("x")
    aborted["message"]["stopReason"] = "aborted"
    said = [call("a", "b"), result, call("c", "", None, 5), aborted]
    written = [numbered(entry, f"i{n}", 2) for n, entry in enumerate(said)]
    tail = tail_of(text(HEADER, *turn(1), *turn(2, ended=False), *written))
    assert [one.id for one in tail.calls] == ["b", "c"]
    assert tail_of(text(HEADER, *turn(1), *turn(2, ended=False), *written, *turn(3))).calls == ()


@pytest.mark.parametrize("length", [1, 16 * 1024, 5_000_000])
@pytest.mark.parametrize("behind", [b"", b"\n"])
def test_nuls_at_the_end_are_passed_over(length: int, behind: bytes) -> None:
    whole = text(HEADER, *turn(1, ended=False))
    tail = tail_of(whole + b"\0" * length + behind)
    assert tail.fragment == (None if behind else len(whole))
    assert (tail.epoch, tail.last_id, tail.turns[0].turn_id) == (1, "m1", "T1")


def test_a_hole_at_the_end_is_not_read() -> None:
    whole = text(HEADER, *turn(1, ended=False))
    size = 10**12
    read: list[int] = []

    def read_at(at: int, length: int) -> bytes:
        read.append(length)
        return whole[at : at + length].ljust(min(length, size - at), b"\0")

    tail = read_tail(read_at, size, data_end=lambda: len(whole))
    assert (tail.fragment, tail.last_id) == (len(whole), "m1")
    assert sum(read) < 100_000


@pytest.mark.parametrize("length", [1_000_001, 3_000_000, 9_000_000])
def test_a_line_that_is_too_long_is_a_fragment_all_the_same(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnlock.transcript.jsonl.LINE_BYTES_MAX", 1_000_000)
    monkeypatch.setattr("turnlock.transcript.tail.LINE_BYTES_MAX", 1_000_000)
    whole = text(HEADER, *turn(1))
    content = whole + b'{"x":"'.ljust(length, b"x")
    assert (tail_of(content).fragment, tail_of(content).last_id) == (len(whole), "e1")
    found = lines_of(content + b"\n" + text(*turn(2)))
    assert [line.entry is None for line in found] == [False] * 4 + [True] + [False] * 3
    assert found[-1].entry == decode(text(turn(2)[-1]))
    assert content[found[4].offset :].startswith(found[4].raw)
    assert tail_of(content + b"\n" + text(*turn(2)), turns=2).turns[1].turn_id == "T1"


def test_an_unanswered_end_is_told_from_an_answered_one() -> None:
    def answered(*entries: Any) -> bool:
        content = text(HEADER, *entries)
        return not read_end(lambda at, n: content[at : at + n], len(content)).unanswered

    user = {"type": "message", "message": {"role": "user"}}
    reply = {"type": "message", "message": {"role": "assistant"}}
    result = {"type": "message", "message": {"role": "toolResult"}}
    failed = marker(Failure("T", "error", "x"), session_id=None, wall=0.0)
    assert answered()
    assert not answered(user)
    assert answered(user, reply)
    assert not answered(user, reply, result)
    assert answered(user, failed)
    assert not answered(user, {"type": "model_change"})
    part = {"type": "toolCall", "id": "c", "name": "n", "arguments": {}}
    call = {"type": "message", "message": {"role": "assistant", "content": [part]}}
    assert not answered(user, call)
    assert not answered(user, call, {"type": "message", "message": {"role": "toolResult"}})


def test_lines_are_split_at_newlines_only() -> None:
    content = encode({"type": "x", "text": "a\u2028b\u0085c\nd\x1e"})
    assert content.count(b"\n") == 1
    assert len(content.decode().splitlines()) == 1
    assert decode(content) == {"type": "x", "text": "a\u2028b\u0085c\nd\x1e"}


def test_lone_surrogates_become_replacement_characters() -> None:
    assert decode(encode({"t": "\ud800x"})) == {"t": "\ufffdx"}
    assert decode(encode({"t": "😀"})) == {"t": "😀"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode({"x": value})


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_only_python_takes_for_json_is_damaged(constant: bytes) -> None:
    assert decode(b'{"x":' + constant + b"}") is None


def test_a_byte_order_mark_is_no_damage() -> None:
    assert decode(b"\xef\xbb\xbf" + encode(HEADER)) == HEADER


def test_the_highest_epoch_counts_wherever_it_stands() -> None:
    assert tail_of(text(HEADER, *turn(1), *turn(2), *turn(3)), turns=3).epoch == 3
    damaged = text(HEADER, *turn(5), *turn(2))
    assert tail_of(damaged, turns=2).epoch == 5


def test_deep_nesting_is_refused_both_ways() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="deep"):
        encode({"x": deep})
    assert decode(b"[" * 100_000 + b"]" * 100_000) is None


def test_damaged_lines_are_seen_and_keep_their_place() -> None:
    content = text(HEADER) + b"\0\0\0\n{broken\n" + text({"type": "x"}) + b"fragment"
    lines = list(read_lines(lambda at, n: content[at : at + n]))
    assert [line.entry is None for line in lines] == [False, True, True, False]
    assert all(content[line.offset :].startswith(line.raw) for line in lines)


@pytest.mark.parametrize("character", ["x", "é", "\u2028", "\x00", "😀", '"', "\\"])
def test_a_marker_is_at_most_two_kilobytes(character: str) -> None:
    long = character * 20_000
    failure = Failure(long, "error", long, 1e9, long, long, long, long)
    made = {"id": "x" * 16, "parentId": "y" * 128, "timestamp": "2026-01-01T00:00:00.000Z"}
    line = encode(made | marker(failure, session_id=long, wall=1e9) | {"epoch": 2**53})
    assert len(line) <= 2048


FOREIGN = [
    {"type": "message", "id": f"f{n}", "message": {"role": role}}
    for n, role in enumerate(("user", "assistant", "toolResult"))
]


@pytest.mark.parametrize(
    "content",
    [
        text(HEADER, *turn(1), *turn(2, ended=False), *FOREIGN),
        text(HEADER, *FOREIGN, *FOREIGN),
        text(HEADER, *turn(1), *FOREIGN, *turn(2)),
        text(HEADER, *turn(1))
        + b'{"type":"mess'
        + text(*FOREIGN)
        + b"\0\0\n"
        + text(*FOREIGN)[:-1],
        text({"role": "user"}, {"role": "assistant"}, {"role": "user"}),
    ],
)
def test_reading_on_gives_what_reading_gives(content: bytes) -> None:
    """Wherever the transcript ended when it was read before."""
    for size in range(len(content) + 1):
        known = tail_of(content[:size], turns=2)
        found = read_on(known, lambda at, n: content[at : at + n], len(content), turns=2)
        assert found == tail_of(content, turns=2), size


def test_reading_on_begins_anew_where_the_file_was_rewritten() -> None:
    before, after = text(HEADER, *turn(7), *FOREIGN), text(HEADER, *turn(2), *turn(3), *turn(4))
    assert len(after) > len(before)
    found = read_on(tail_of(before), lambda at, n: after[at : at + n], len(after))
    assert found == tail_of(after)


def test_reading_on_reads_nothing_again() -> None:
    long = text(HEADER, *[FOREIGN[0] | {"text": 1000 * "x"} for _ in range(1000)])
    content = long + text(*FOREIGN)
    read = []

    def read_at(offset: int, length: int) -> bytes:
        read.append(length)
        return content[offset : offset + length]

    known = tail_of(long)
    assert read_on(known, read_at, len(content)).last_id == "f2"
    assert sum(read) < 20_000
    assert read_on(Tail(), read_at, len(content)).last_id == "f2"
    assert sum(read) > len(content)
