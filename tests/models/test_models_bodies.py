"""What is done to a body on its way to an SDK."""

from __future__ import annotations

import json

import httpx
import pytest

from turnlock.models.bodies import Passing

TEXT = "a\x85b\u2028c\u2029 \x84 \u2027 é € \U0001f600"
LINES = {"content-type": "application/x-ndjson"}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_json_says_the_same_however_it_was_cut(size: int) -> None:
    data = json.dumps({"text": TEXT}, ensure_ascii=False).encode()
    passing = Passing(httpx, LINES)
    chunks = [passing.take(data[at : at + size]) for at in range(0, len(data), size)]
    passed = (b"".join(chunks) + passing.rest()).decode()
    assert len(passed.splitlines()) == 1
    assert json.loads(passed) == {"text": TEXT}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_comments_of_an_event_stream_are_left_out_however_it_was_cut(size: int) -> None:
    """google-genai takes one for an answer that is no JSON."""
    data = b': ping\n\ndata: {"a": ":b"}\r\n\r\n:\r\ndata: 1\n:end'
    passing = Passing(httpx, {"content-type": "text/event-stream"})
    chunks = [passing.take(data[at : at + size]) for at in range(0, len(data), size)]
    passed = b"".join(chunks) + passing.rest()
    assert passed == b'\ndata: {"a": ":b"}\r\n\r\ndata: 1\n'
    assert Passing(httpx, LINES).take(b":x\n") == b":x\n"


@pytest.mark.parametrize("end", [b"\xc2", b"\xe2", b"\xe2\x80"])
def test_what_is_cut_at_the_end_is_passed_on(end: bytes) -> None:
    passing = Passing(httpx, LINES)
    assert passing.take(b"x" + end) + passing.rest() == b"x" + end


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/html"},
        {**LINES, "content-encoding": "gzip"},
        {"content-type": "text/event-stream; charset=latin-1"},
    ],
)
def test_what_cannot_be_read_is_passed_on_as_it_is(headers: dict[str, str]) -> None:
    assert Passing(httpx, headers).take(TEXT.encode()) == TEXT.encode()


def test_only_a_line_without_an_end_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnlock.models.bodies.LINE_MAX", 10)
    passing = Passing(httpx, LINES)
    for chunk in (b"x" * 10, b"x\n" * 20, b"x" * 10):
        assert passing.take(chunk) == chunk
    with pytest.raises(httpx.DecodingError, match="more than 10 bytes"):
        passing.take(b"x")
