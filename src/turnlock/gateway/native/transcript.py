"""``GET …/transcript``: a page of entries, as they are stored.

``next`` of a page is where the following one begins: an offset, so that a page costs what is on it
and not what is in front of it. An entry's id is looked for once, without decoding what it is not.
A page ends at ``limit`` lines or at `PAGE_BYTES_MAX`, whichever comes first, and has one line at
least: so a transcript of any size is read in bounded memory.

A damaged line is told by its place and size and not shown: it is no JSON. So is an entry that
strict JSON cannot say (a number beyond all bounds). A fragment at the end was never acknowledged,
and is left out, unless it is an entry that lacks nothing but its newline.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import NamedTuple, cast

from starlette.responses import Response

from ...store import Store
from ...transcript.entries import entry_object
from ...transcript.jsonl import Line
from ..errors import Refusal
from ..jsonout import to_json
from ..operations import PAGE
from .call import Call, json_answer
from .sessions import no_session

PAGE_BYTES_MAX = 4 * 1024 * 1024
# No id that Turnlock writes, or takes, begins like this.
_PLACE = re.compile(r"~([0-9]{1,18})", re.ASCII)


class Damaged(NamedTuple):
    """A line that is no entry. ``after``: the id of the entry before it on this page."""

    offset: int
    bytes: int
    after: str | None


class _Page:
    def __init__(self, start: int) -> None:
        self.entries: list[str] = []
        self.damaged: list[Damaged] = []
        self.next = start
        self.more = False
        self._last_id: str | None = None
        self._bytes = 0
        self._lines = 0

    def fill(self, lines: Iterator[Line], limit: int) -> None:
        for line in lines:
            # Entries that share a line of the file share a page: an offset names lines.
            begins = line.end != self.next
            full = self._lines >= limit or self._bytes + line.size > PAGE_BYTES_MAX
            if self._lines and begins and full:
                self.more = True
                return
            self._add(line)
            self.next = line.end

    def text(self) -> str:
        damaged = to_json([one._asdict() for one in self.damaged])
        place, more = f'"~{self.next}"', to_json(self.more)
        entries = ",".join(self.entries)
        return f'{{"entries":[{entries}],"damaged":{damaged},"next":{place},"more":{more}}}'

    def _add(self, line: Line) -> None:
        if line.offset == 0 and line.entry is not None and line.entry.get("type") == "session":
            return
        self._lines += 1
        self._bytes += line.size
        shown = _shown(line)
        if shown is None:
            self.damaged.append(Damaged(line.offset, line.size, self._last_id))
            return
        self.entries.append(shown)
        identity = line.entry.get("id") if line.entry is not None else None
        self._last_id = identity if isinstance(identity, str) else None


async def read_transcript(call: Call) -> Response:
    session, store = str(call.session()), call.gateway.store
    after, limit = call.query.get("after"), call.query.get("limit", PAGE)
    return json_answer(await call.gateway.reading.run(lambda: _read(store, session, after, limit)))


def _read(store: Store, session: str, after: str | None, limit: int) -> str:
    start = 0 if after is None else _start(store, session, after)
    page = _Page(start or 0)
    if start is not None:
        with _lines(store, session, start) as lines:
            page.fill(lines, limit)
    if page.next == 0 and store.status(session).record is None:
        raise no_session(session)
    if start is None:
        assert after is not None
        raise _no_entry(session, after)
    return page.text()


def _start(store: Store, session: str, after: str) -> int | None:
    """Where the page begins; None where no line does."""
    place = _PLACE.fullmatch(after)
    if place is not None:
        return int(place[1]) if _begins_line(store, session, int(place[1])) else None
    found = store.find(session, after)
    if found is None:
        return None
    with _lines(store, session, found) as lines:
        named, behind = next(lines), next(lines, None)
    shares_line = behind is not None and behind.end == named.end
    return behind.offset if shares_line and behind is not None else named.end


def _begins_line(store: Store, session: str, place: int) -> bool:
    """Whether what is before the place is the end of a line: seen from there, an empty one."""
    if place == 0:
        return True
    before = _line_from(store, session, place - 1)
    if before is not None:
        return before.size == 0
    # Behind a last entry that lacks nothing but its newline, which the next writer begins with.
    record = store.status(session).record
    ends_here = record is not None and record.size == place - 1
    return ends_here and _line_from(store, session, place - 2) is None


def _line_from(store: Store, session: str, start: int) -> Line | None:
    with _lines(store, session, start) as lines:
        return next(lines, None)


def _lines(store: Store, session: str, start: int) -> closing[Generator[Line]]:
    # Closed at once and not by the collector: it has the file open.
    return closing(cast("Generator[Line]", store.read_lines(session, start=start)))


def _no_entry(session: str, after: str) -> Refusal:
    text = f"session {session!r} has no entry {after[:200]!r}"
    return Refusal("entry_not_found", text, param="after", facts={"session": session})


def _shown(line: Line) -> str | None:
    try:
        return None if line.entry is None else to_json(entry_object(line.entry))
    except ValueError:
        return None
