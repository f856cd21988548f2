"""Lines: one JSON object each, strict both ways.

Writing never splices text: an entry is serialised whole, NaN and Infinity are refused, and what
some readers take for the end of a line (U+0085, U+2028, U+2029) is escaped. Reading takes a line
for damaged when it is no JSON object; there is no checksum, as the format has none.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from .entries import Entry

LINE_BYTES_MAX = 64 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_LINE_BREAKS = re.compile("[\u0085\u2028\u2029]")

# (offset, length) -> at most that many bytes from there; empty at the end.
ReadAt = Callable[[int, int], bytes]


class Line(NamedTuple):
    """One line as it stands in the file. ``entry`` is None when the line is damaged."""

    offset: int
    raw: bytes
    entry: Entry | None


def encode(entry: Mapping[str, Any]) -> bytes:
    """The line of an entry, with its newline.

    Raises ValueError (also for NaN, a reference to itself, nesting too deep, more than 64 MiB) or
    TypeError when the entry is not JSON.
    """
    try:
        text = _encoder.encode(entry)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not text.isascii():
        text = _LINE_BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        line = text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form; strict readers refuse its escape as well.
        line = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    if len(line) >= LINE_BYTES_MAX:
        raise ValueError(f"it is {len(line)} bytes long and {LINE_BYTES_MAX} is the most")
    return line + b"\n"


def decode(line: bytes) -> Entry | None:
    """The entry of a line, or None when the line is damaged."""
    try:
        # The codec that drops the mark is written in Python, and hardly any line has one.
        value = _decoder.decode(line.removeprefix(BOM_UTF8).decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_lines(read_at: ReadAt) -> Iterator[Line]:
    """Every complete line from the start. A fragment without newline at the end is not a line.

    A line of more than 64 MiB is given as damaged, with its first bytes only.
    """
    offset = 0
    pending = b""
    dropped = 0
    at = 0
    while chunk := read_at(at, _CHUNK_BYTES):
        at += len(chunk)
        *complete, rest = (pending + chunk).split(b"\n")
        for raw in complete:
            whole = dropped == 0
            yield Line(offset, raw, decode(raw) if whole else None)
            offset += dropped + len(raw) + 1
            dropped = 0
        if len(rest) > LINE_BYTES_MAX:
            dropped += len(rest)
            rest = b""
        pending = rest


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)
