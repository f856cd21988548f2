"""What an SDK gets of a response's body: lines of JSON that it can split, and none without an end.

Some SDKs split text at whatever Unicode takes for the end of a line, of which JSON may have three
inside of its strings as they are. Here these are escaped, which in JSON is the same text.

One takes the comments of an event stream, which a proxy sends to keep it open, for a broken answer.
They say nothing, and are left out.

SDKs keep a line until it ends. One of more than 16 MiB is no reply, and fails the call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LINE_MAX = 16 * 1024 * 1024
_ESCAPES = {b"\xc2\x85": rb"\u0085", b"\xe2\x80\xa8": rb"\u2028", b"\xe2\x80\xa9": rb"\u2029"}
_LINE_ENDS = re.compile(rb"\xc2\x85|\xe2\x80[\xa8\xa9]")
# Where a chunk ends in the middle of one.
_CUT = re.compile(rb"(?:\xc2|\xe2\x80?)\Z")
_EVENTS = "text/event-stream"
_LINES_OF_JSON = (_EVENTS, "application/x-ndjson")
_OTHER_CHARSET = re.compile(r"charset=(?!\"?utf-?8)", re.IGNORECASE)


class Passing:
    """The bytes of one body on their way. ``http`` is httpx or httpx2, whose errors it raises."""

    def __init__(self, http: Any, headers: Mapping[str, str]) -> None:
        self._http = http
        self._escapes = _is_readable(headers)
        self._has_comments = self._escapes and _kind(headers) == _EVENTS
        self._is_comment = False
        self._before = b"\n"
        self._cut = b""
        self._line = 0

    def take(self, chunk: bytes) -> bytes:
        """What to pass on of it. Raises the library's `DecodingError` for an endless line."""
        end = chunk.rfind(b"\n") + 1
        self._line = len(chunk) - end if end else self._line + len(chunk)
        if self._line > LINE_MAX:
            raise self._http.DecodingError(f"a line of more than {LINE_MAX} bytes")
        passed = self._without_comments(chunk) if self._has_comments else chunk
        return self._escaped(passed) if self._escapes else passed

    def rest(self) -> bytes:
        """What is left at the body's end."""
        rest, self._cut = self._cut, b""
        return rest

    def _without_comments(self, chunk: bytes) -> bytes:
        kept = []
        for part in chunk.splitlines(keepends=True):
            # A CR and the LF of the next chunk are one end of a line.
            if self._before in b"\r\n" and self._before + part != b"\r\n":
                self._is_comment = part.startswith(b":")
            if not self._is_comment:
                kept.append(part)
            self._before = part[-1:]
        return b"".join(kept)

    def _escaped(self, chunk: bytes) -> bytes:
        data = self._cut + chunk
        cut = _CUT.search(data, max(0, len(data) - 2))
        self._cut = cut.group() if cut else b""
        return _LINE_ENDS.sub(_escape, data[: len(data) - len(self._cut)])


def _escape(found: re.Match[bytes]) -> bytes:
    return _ESCAPES[found.group()]


def _kind(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_readable(headers: Mapping[str, str]) -> bool:
    """Whether it is JSON in lines, in UTF-8, and not compressed."""
    return (
        _kind(headers) in _LINES_OF_JSON
        and not _OTHER_CHARSET.search(headers.get("content-type", ""))
        and headers.get("content-encoding", "identity").strip().lower() in ("", "identity")
    )
