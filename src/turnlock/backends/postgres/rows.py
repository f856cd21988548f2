"""A transcript in rows, read as if it were a file.

Each row is a line and has the offset at which the line would begin in a file. So a transcript has
the same offsets wherever it is stored, and everything that reads files reads rows.
"""

from __future__ import annotations

from ...session import SessionKey
from ...transcript.jsonl import LINE_BYTES_MAX
from .database import Database


class Rows:
    """A `ReadAt` of one session. Keeps the last lines that it has fetched.

    A line is fetched whole, once, however small the pieces that it is read in; forwards and
    backwards alike only what lies beyond the lines at hand is asked for.
    """

    def __init__(self, database: Database, session: SessionKey) -> None:
        self._database = database
        self._session = session
        self._begin = 0
        self._bytes = b""

    def __call__(self, offset: int, length: int) -> bytes:
        stop = offset + length
        end = self._begin + len(self._bytes)
        if not self._begin <= offset or not stop <= end:
            self._fetch(offset, stop, end)
        begin = offset - self._begin
        return self._bytes[max(0, begin) : max(0, begin + length)]

    def _fetch(self, offset: int, stop: int, end: int) -> None:
        if self._begin <= offset < end:
            # Going on forwards.
            kept = self._bytes[offset - self._begin :]
            self._keep(offset, kept, self._lines(end, stop))
        elif offset < self._begin <= stop <= end:
            # Going on backwards.
            kept = self._bytes[: stop - self._begin]
            begin, lines = self._lines(offset, self._begin)
            self._begin, self._bytes = begin, lines + kept
        else:
            self._begin, self._bytes = self._lines(offset, stop)

    def _keep(self, offset: int, kept: bytes, more: tuple[int, bytes]) -> None:
        begin, lines = more
        known = offset + len(kept) - begin
        self._begin, self._bytes = offset, kept + lines[max(0, known) :]

    def _lines(self, start: int, stop: int) -> tuple[int, bytes]:
        """Where the lines between two offsets begin, and their bytes."""
        rows = self._database.run(
            "read",
            "lines",
            again=True,
            bulk=LINE_BYTES_MAX,
            agent=self._session.agent,
            name=self._session.name,
            start=start,
            stop=stop,
        )
        if not rows:
            return start, b""
        return rows[0].byte_offset, b"".join(row.line.encode() + b"\n" for row in rows)
