"""All of a transcript, for ``doctor --deep``, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..transcript.jsonl import ReadAt, read_lines
from ..transcript.scan import Scan
from .endings import Reading, read_at_most
from .examination import Examination
from .findings import Finding, finding
from .fragments import to_keep


class _Note(NamedTuple):
    check: str
    number: int
    message: str


def scan_transcript(examination: Examination, path: str, size: int) -> Scan:
    """Look at every line of the first ``size`` bytes. Raises OSError."""
    handle = examination.files.open_quietly(path)
    try:
        read_at = read_at_most(examination.files, handle, size)
        return scan_lines(_counted(examination, read_at))
    finally:
        handle.close()


def scan_lines(read_at: ReadAt) -> Scan:
    scan = Scan()
    for line in read_lines(read_at, fragment=True):
        scan.feed(line)
    return scan


def damage_of(scan: Scan, reading: Reading) -> list[bytes]:
    """What is to be kept of a transcript's damage, but for its first line and its end."""
    end = reading.tail.fragment
    return [
        to_keep(one.offset, one.raw)
        for one in scan.damaged
        if one.offset and (end is None or one.offset < end)
    ]


def what_readers_step_over(
    examination: Examination, name: str, path: str, scan: Scan
) -> Iterator[Finding]:
    """What readers cope with, and a person may want to know."""
    see = examination.command(f"sessions read {name}")
    for note in _notes(scan):
        if note.number:
            hint = f"nothing has to be done; to see it: {see}"
            yield finding(note.check, path, note.message, hint)


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _notes(scan: Scan) -> Iterator[_Note]:
    glued, seconds = scan.glued, len(scan.headers) - 1
    yield _Note(
        "glued-lines", glued, f"glued to the entry before, without a newline: {_entries(glued)}"
    )
    yield _Note("second-header", max(0, seconds), f"headers after the first one: {seconds}")
    off = scan.off_branch()
    yield _Note("forked", off, f"not on the active branch, so no model sees them: {_entries(off)}")
    missing = scan.missing_parents
    text = f"with a parent that is not there: {_entries(missing)}"
    yield _Note("missing-parents", missing, text)
    again = scan.duplicates
    yield _Note("duplicate-ids", again, f"with an id that was there before: {_entries(again)}")
    calls, results = len(scan.open_calls), scan.orphan_results
    text = f"tool calls without result: {calls}; results without call: {results}"
    yield _Note("open-calls", calls + results, text)
    back = scan.epochs_decrease
    yield _Note("epochs-decrease", back, f"after some of a later turn: {_entries(back)}")


def _counted(examination: Examination, read_at: ReadAt) -> ReadAt:
    def counted(offset: int, length: int) -> bytes:
        found = read_at(offset, length)
        examination.on_read(len(found))
        return found

    return counted
