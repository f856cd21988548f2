"""The healed copy of a transcript: what is in it, line by line.

Every whole entry stays, in its order and byte for byte, on a line of its own. Besides

* the header comes first; without one that can be read, one is made, and a second one is left out;
* bytes that are no entry are left out, blank lines too (the caller keeps the bytes aside);
* a parent that is not in the file before its child is replaced by the entry before, as a reader of
  ours does and OpenClaw's does not: it would lose all that was said before;
* a tool call without result, after which something else was said, is followed by one.

The copy of a healed transcript is that transcript.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..clock import iso
from .entries import Entry, ToolCall, cut_off_result, epoch_of, new_id
from .jsonl import Line, encode
from .scan import Scan

_AROUND = b" \t\r"
_BOM = b"\xef\xbb\xbf"


class Changes(NamedTuple):
    """How the copy differs, in numbers of lines, entries or calls."""

    kept: int
    damaged: int
    separated: int
    headers: str
    relinked: int
    results: int


class Copy:
    """Makes the lines of the copy. The lines of the transcript have to be those that were scanned.

    ``header`` makes the line of a header for a transcript that has none. ``wall``: seconds since
    1970, for what is added.
    """

    def __init__(self, scan: Scan, header: Callable[[], bytes], wall: float) -> None:
        self._scan = scan
        self._header = header
        self._wall = wall
        self._kept = 0
        self._relinked = 0
        self._results = 0
        self._known: set[str] = set()
        self._links: dict[str, str] = {}
        self._last_id: str | None = None
        self._open: dict[int, list[ToolCall]] = {}
        for found in scan.open_calls:
            self._open.setdefault(found.place, []).append(found.call)

    def lines(self, lines: Iterable[Line]) -> Iterator[bytes]:
        """The lines of the copy, each with its newline."""
        headers = self._scan.headers
        yield _bare(headers[0].raw) + b"\n" if headers else self._header()
        entries = (line for line in lines if _is_entry(line))
        for place, line in enumerate(entries):
            assert line.entry is not None
            yield from self._entry(line.entry, line.raw, self._open.get(place, []))

    def changes(self) -> Changes:
        """What was changed in all lines so far."""
        scan = self._scan
        headers = "made" if not scan.headers else "kept" if scan.is_header_first else "moved"
        return Changes(
            self._kept,
            scan.damaged_count,
            scan.glued,
            headers if len(scan.headers) < 2 else "reduced to one",
            self._relinked,
            self._results,
        )

    def _entry(self, entry: Entry, raw: bytes, calls: list[ToolCall]) -> Iterator[bytes]:
        identity = entry.get("id")
        named = identity if isinstance(identity, str) else None
        self._kept += 1
        yield self._linked(entry, _bare(raw))
        if named is not None:
            self._known.add(named)
            # Of two entries with one id the later is the parent of what comes behind both.
            self._links.pop(named, None)
        self._last_id = named or self._last_id
        for call in calls:
            yield self._result(call, entry)

    def _linked(self, entry: Entry, bare: bytes) -> bytes:
        parent = entry.get("parentId")
        if not isinstance(parent, str):
            return bare + b"\n"
        wanted = self._links.get(parent, parent) if parent in self._known else self._last_id
        if wanted == parent:
            return bare + b"\n"
        try:
            line = encode(entry | {"parentId": wanted})
        except ValueError:
            # A number too large for a writer of ours; it was kept as it is for as long already.
            return bare + b"\n"
        self._relinked += parent not in self._links
        return line

    def _result(self, call: ToolCall, of: Entry) -> bytes:
        identity = new_id()
        result = cut_off_result(call)
        made: Entry = {
            "type": result["type"],
            "id": identity,
            "parentId": self._last_id,
            "timestamp": iso(self._wall),
            "message": result["message"] | {"timestamp": round(self._wall * 1000)},
        }
        epoch = epoch_of(of)
        if epoch is not None:
            made["epoch"] = epoch
        # Whoever went on from the call goes on from its result now.
        origin = of.get("id")
        if isinstance(origin, str):
            self._links[origin] = identity
        self._last_id = identity
        self._known.add(identity)
        self._results += 1
        return encode(made)


def _is_entry(line: Line) -> bool:
    return line.entry is not None and line.entry.get("type") != "session"


def _bare(raw: bytes) -> bytes:
    return raw.strip(_AROUND).removeprefix(_BOM).strip(_AROUND)
