"""Lines: one JSON object each, strict both ways.

Writing never splices text: an entry is serialised whole, NaN and Infinity are refused, and what
some readers take for the end of a line (U+0085, U+2028, U+2029) is escaped. Reading takes a line
for damaged when it is no JSON object; there is no checksum, as the format has none.

A line may hold more than one entry: a program that appends without a look at the last byte glues
its entry to what was cut short before. `pieces` takes such a line apart. An object counts as an
entry of its own only on proof from both sides:

* before it is the start of the line, another entry, or bytes that no JSON text can go on with: the
  error of the parser lies at the object's own beginning, not behind it. What may as well be a part
  of the entry that was cut short stays damaged. (Text cannot pose as an entry: the quotes inside of
  a string are escaped.)
* behind it is the end of the line, another object, or NULs, as a power loss leaves them;
* it has what an entry has: `type`, `id`, `timestamp`, and a parent or an epoch.
"""

from __future__ import annotations

import json
import logging
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple, NoReturn

from .entries import Entry, epoch_of

logger = logging.getLogger("turnlock")

LINE_BYTES_MAX = 64 * 1024 * 1024
# How deep a parser gets depends on the stack above it, and on the Python. What is written has to be
# read by every reader, so it stays far below that.
NESTING_MAX = 200
_CHUNK_BYTES = 256 * 1024
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_LINE_BREAKS = re.compile("[\u0085\u2028\u2029]")
_BEGINNING = b'{"type":'
# How far behind its first byte an entry that was glued to a cut string shows: `"mess{"type"`.
_LATE = 2
_FAILURES_MAX = 100
_SPACE = b" \t\r"
_PLAIN = re.compile(r"[A-Za-z0-9._:@+=-]+", re.ASCII)

# (offset, length) -> at most that many bytes from there; empty at the end.
ReadAt = Callable[[int, int], bytes]


class Line(NamedTuple):
    """One line as it stands in the file. ``entry`` is None when the line is damaged, or blank.

    ``size`` in bytes without the newline; ``raw`` has fewer of a line that is too long to keep.
    ``end`` is the offset of the next line of the file: the same for all that share a line.
    """

    offset: int
    raw: bytes
    entry: Entry | None
    size: int
    end: int

    @property
    def is_damaged(self) -> bool:
        return self.entry is None and bool(self.raw.strip())


def encode(entry: Mapping[str, Any]) -> bytes:
    """The line of an entry, with its newline.

    Raises ValueError (also for NaN, a reference to itself, more than 200 levels, more than 64 MiB)
    or TypeError when the entry is not JSON.
    """
    try:
        text = _encoder.encode(entry)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text.count("{") + text.count("[") > NESTING_MAX and _levels(entry) > NESTING_MAX:
        raise ValueError("it is nested too deeply")
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


def read_lines(read_at: ReadAt, start: int = 0, *, fragment: bool = False) -> Iterator[Line]:
    """Every line from ``start`` on; a line that holds several entries as one line for each.

    A fragment at the end is not a line, unless all that was cut off of an entry is its newline;
    with ``fragment`` it is a damaged one. A line of more than 64 MiB is given as damaged, with its
    first bytes only.
    """
    for raw in _raw_lines(read_at, start):
        if not raw.complete and not fragment:
            yield from _whole_parts(raw)
        elif raw.complete or raw.size:
            yield from _parts(raw)


def entries_of(lines: Iterable[Line], session: str) -> Iterator[Entry]:
    """The entries in a session's lines, without headers.

    Damaged lines are left out, and the log says at the end how many: a history with holes in it
    must not look like a whole one.
    """
    damaged = 0
    for line in lines:
        if line.entry is None:
            damaged += line.is_damaged
        elif line.entry.get("type") != "session":
            yield line.entry
    if damaged:
        what = "1 damaged line was" if damaged == 1 else f"{damaged} damaged lines were"
        logger.warning("session %s: %s skipped; turnlock doctor says more", session, what)


def find_entry(read_at: ReadAt, identity: str) -> int | None:
    """The offset of the first entry with this id. Decodes few others, if it is a plain one."""
    # Another one may be written with escapes, and in more ways than one.
    needle = identity.encode() if _PLAIN.fullmatch(identity) else b'"id"'
    for line in lines_with(read_at, lambda raw: needle in raw):
        if line.entry is not None and line.entry.get("id") == identity:
            return line.offset
    return None


def lines_with(
    read_at: ReadAt, is_wanted: Callable[[bytes], bool], start: int = 0
) -> Iterator[Line]:
    """As `read_lines`, but only those lines whose bytes are wanted; the others are not decoded."""
    for raw in _raw_lines(read_at, start):
        if is_wanted(raw.kept):
            yield from _parts(raw) if raw.complete else _whole_parts(raw)


def pieces(raw: bytes) -> list[tuple[int, bytes, Entry | None]]:
    """(offset, bytes, entry) of what a line is made of; None for the bytes that are no entry.

    A line that is whole is one piece. Blanks between pieces, and a line of nothing else, are none.
    """
    entry = decode(raw)
    if entry is not None:
        return [(0, raw, entry)]
    found: list[tuple[int, bytes, Entry | None]] = []
    damaged_from = 0
    for start, stop, inside in _entries_in(raw):
        _add_damaged(found, raw, damaged_from, start)
        found.append((start, raw[start:stop], inside))
        damaged_from = stop
    _add_damaged(found, raw, damaged_from, len(raw))
    return found


def whole_pieces(fragment: bytes) -> list[tuple[int, bytes, Entry]]:
    """Those of the pieces of a fragment without newline that have all that an entry has."""
    if b'"' not in fragment:
        return []
    found = pieces(fragment)
    return [(at, raw, entry) for at, raw, entry in found if entry is not None and _is_whole(entry)]


def _levels(value: Any) -> int:
    """How deep objects and arrays lie in each other; what can be encoded does not hold itself."""
    level, found = [value], 0
    while level := [one for one in level if isinstance(one, (Mapping, list, tuple))]:
        found += 1
        inner = (one.values() if isinstance(one, Mapping) else one for one in level)
        level = list(chain.from_iterable(inner))
    return found


class _Raw(NamedTuple):
    """A line between two newlines, or what is behind the last one. ``kept``: its first bytes."""

    offset: int
    kept: bytes
    size: int
    complete: bool

    @property
    def is_whole(self) -> bool:
        return len(self.kept) == self.size

    def part(self, start: int, raw: bytes, entry: Entry | None) -> Line:
        size = len(raw) if self.is_whole else self.size
        return Line(self.offset + start, raw, entry, size, self.offset + self.size + 1)


def _raw_lines(read_at: ReadAt, start: int) -> Iterator[_Raw]:
    at = offset = start
    long = _Long()
    while chunk := read_at(at, _CHUNK_BYTES):
        at += len(chunk)
        *complete, rest = chunk.split(b"\n")
        for raw in complete:
            if long.length:
                length, kept = long.ended(raw)
                long = _Long()
            else:
                length, kept = len(raw), raw
            yield _Raw(offset, kept, length, True)
            offset += length + 1
        if rest:
            long.goes_on(rest)
    length, kept = long.ended(b"")
    yield _Raw(offset, kept, length, False)


class _Long:
    """A line that is longer than the chunks it is read in. Of one too long the first bytes."""

    def __init__(self) -> None:
        self.length = 0
        self._begun: list[bytes] = []

    def goes_on(self, part: bytes) -> None:
        if self.length <= LINE_BYTES_MAX:
            self._begun.append(part)
        self.length += len(part)

    def ended(self, part: bytes) -> tuple[int, bytes]:
        """(length, bytes) of the line that ends with ``part``."""
        self.goes_on(part)
        kept = b"".join(self._begun)
        return self.length, kept if self.length <= LINE_BYTES_MAX else kept[:LINE_BYTES_MAX]


def _parts(raw: _Raw) -> Iterator[Line]:
    entry = decode(raw.kept) if raw.is_whole else None
    if entry is not None or not raw.is_whole or b'"' not in raw.kept:
        yield raw.part(0, raw.kept, entry)
        return
    for start, part, inside in pieces(raw.kept):
        yield raw.part(start, part, inside)


def _whole_parts(raw: _Raw) -> Iterator[Line]:
    if raw.is_whole:
        for start, part, entry in whole_pieces(raw.kept):
            yield raw.part(start, part, entry)


def _add_damaged(
    found: list[tuple[int, bytes, Entry | None]], raw: bytes, start: int, stop: int
) -> None:
    part = raw[start:stop]
    if part.strip():
        found.append((start, part, None))


def _entries_in(raw: bytes) -> Iterator[tuple[int, int, Entry]]:
    """(start, stop, entry) of the whole entries in a line that is none, by the rule above.

    Each attempt begins where the last one came to grief, so that parsing costs what the line's
    length does. But making the error does so as well, each time: after some it is given up.
    """
    # One character for each byte: JSON's own are ASCII, and an offset is an offset.
    text = raw.decode("latin-1")
    start = len(BOM_UTF8) if raw.startswith(BOM_UTF8) else 0
    failures = 0
    while 0 <= start < len(raw) and failures < _FAILURES_MAX:
        try:
            _, stop = _decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            failures += 1
            start = raw.find(_BEGINNING, max(error.pos - _LATE, start + 1))
            continue
        except (ValueError, RecursionError):
            return
        behind = _behind(raw, stop)
        entry = decode(raw[start:stop]) if _may_end(raw, behind) else None
        if entry is not None and _is_whole(entry):
            yield start, stop, entry
            start = behind
        else:
            start = raw.find(_BEGINNING, stop)


def _behind(raw: bytes, stop: int) -> int:
    while stop < len(raw) and raw[stop] in _SPACE:
        stop += 1
    return stop


def _may_end(raw: bytes, behind: int) -> bool:
    return behind == len(raw) or raw[behind] in b"{\0"


def _is_whole(entry: Entry) -> bool:
    if not all(isinstance(entry.get(name), str) for name in ("type", "id", "timestamp")):
        return False
    is_header = entry["type"] == "session"
    return is_header or "parentId" in entry or epoch_of(entry) is not None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)
