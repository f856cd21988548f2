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


def _notes(scan: Scan) -> Iterator[_Note]:
    glued, seconds = scan.glued, len(scan.headers) - 1
    yield _Note("glued-lines", glued, f"{glued} entries follow others without a newline")
    yield _Note("second-header", max(0, seconds), f"{seconds} headers follow the first one")
    off = scan.off_branch()
    yield _Note("forked", off, f"{off} entries are not on the active branch: no model sees them")
    missing = scan.missing_parents
    text = f"{missing} entries name a parent that is not there"
    yield _Note("missing-parents", missing, text)
    again = scan.duplicates
    yield _Note("duplicate-ids", again, f"{again} entries have an id that was there before")
    calls, results = len(scan.open_calls), scan.orphan_results
    text = f"{calls} tool calls without result, {results} results without call"
    yield _Note("open-calls", calls + results, text)
    back = scan.epochs_decrease
    yield _Note("epochs-decrease", back, f"{back} entries come after some of a later turn")


def _counted(examination: Examination, read_at: ReadAt) -> ReadAt:
    def counted(offset: int, length: int) -> bytes:
        found = read_at(offset, length)
        examination.on_read(len(found))
        return found

    return counted
