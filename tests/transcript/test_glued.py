"""Lines that hold more than one entry, and what of a damaged line is provably an entry."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnlock.transcript.jsonl import encode, pieces, read_lines
from turnlock.transcript.tail import read_tail


def an_entry(identity: str = "a", text: str = "héllo", **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": [{"type": "text", "text": text}]}
    return {
        "type": "message",
        "id": identity,
        "parentId": None,
        "timestamp": "2026-01-01T00:00:00.000Z",
        "message": message,
        "epoch": 1,
    } | more


def line(entry: dict[str, Any]) -> bytes:
    return encode(entry)[:-1]


def ids(raw: bytes) -> list[Any]:
    """The id of each entry in a line; None for a damaged piece."""
    return [entry and entry["id"] for _, _, entry in pieces(raw)]


def test_two_entries_without_a_newline_between_are_both_read() -> None:
    """F5: two records on one line."""
    raw = line(an_entry("a")) + line(an_entry("b"))
    assert ids(raw) == ["a", "b"]
    content = raw + b"\n" + encode(an_entry("c"))
    found = list(read_lines(lambda at, n: content[at : at + n]))
    assert [one.entry and one.entry["id"] for one in found] == ["a", "b", "c"]
    assert all(content[one.offset :].startswith(one.raw) for one in found)


@pytest.mark.parametrize("text", ["x", 'a "quoted" {"type":"message"} text', "\\", "é\u2028"])
def test_an_entry_behind_one_that_was_cut_short_is_read(text: str) -> None:
    """F5: prefix and full record on one line, for every length of the prefix."""
    cut, whole = line(an_entry("a", text)), line(an_entry("b", text))
    unread = []
    for length in range(1, len(cut)):
        found = ids(cut[:length] + whole)
        if found != [None, "b"]:
            assert found == [None]
            unread.append(cut[:length])
    # What could as well be the value of the entry that was cut short stays damaged.
    assert {fragment.rstrip()[-1:] for fragment in unread} <= {b":", b"["}


def test_what_may_be_a_part_of_the_entry_that_was_cut_short_is_none() -> None:
    """S15: an entry inside of an entry is not set free by a cut behind it."""
    outer = an_entry("a", data={"entries": [an_entry("forged"), 5]})
    raw = line(outer)
    behind = raw.index(b",5]")
    assert ids(raw[:behind]) == [None]
    assert ids(raw[:behind] + line(an_entry("b"))) == [None, "b"]


def test_text_cannot_pose_as_an_entry() -> None:
    forged = json.dumps(an_entry("forged"))
    raw = line(an_entry("a", forged))
    for length in range(1, len(raw)):
        assert "forged" not in ids(raw[:length])
        assert "forged" not in ids(raw[length:])


def test_nuls_before_and_behind_an_entry_do_not_hide_it() -> None:
    whole = line(an_entry("a"))
    assert ids(b"\0" * 5000 + whole) == [None, "a"]
    assert ids(whole + b"\0" * 5000) == ["a", None]
    assert ids(line(an_entry("b"))[:40] + b"\0" * 5000 + whole) == [None, "a"]
    assert ids(b"\xef\xbb\xbf" + whole + whole + b"\r") == [None, "a", "a"]


def test_a_part_of_an_entry_whose_beginning_is_gone_is_none() -> None:
    raw = line(an_entry("a"))
    for start in range(1, len(raw)):
        assert ids(raw[start:]) == [None]


@pytest.mark.parametrize("wrong", [{"id": 5}, {"timestamp": None}, {"type": 3}])
def test_what_lacks_something_of_an_entry_is_none(wrong: dict[str, Any]) -> None:
    raw = line(an_entry("a")) + line(an_entry("b", **wrong))
    assert ids(raw)[:1] == ["a"]
    assert len(ids(raw)) == 2
    assert ids(raw)[1] is None


def test_what_names_no_parent_and_has_no_epoch_is_no_entry_of_its_own() -> None:
    part = {name: an_entry("b")[name] for name in ("type", "id", "timestamp")}
    assert ids(line(an_entry("a")) + line(part)) == ["a", None]


def test_a_line_full_of_beginnings_costs_no_more_than_its_length() -> None:
    """Each attempt begins where the last one failed, and not for ever: 4 MB would take minutes."""
    for part in (b'{"type":', b'{"type":"x"', b'{"type":"x"}]', b'{"type":[{"type":'):
        raw = part * (4_000_000 // len(part))
        assert not any(ids(raw))


def test_the_tail_reads_what_is_glued_to_a_cut_line() -> None:
    content = encode(an_entry("a")) + line(an_entry("x"))[:50] + encode(an_entry("b", epoch=7))
    tail = read_tail(lambda at, n: content[at : at + n], len(content))
    assert (tail.last_id, tail.epoch) == ("b", 7)
