"""Whether a transcript has an entry of some id already.

It is read, never mapped: a program that truncates a mapped file, or a disk that cannot give one of
its pages, is a signal that ends the process with all its turns. Bytes that read like an id are
looked for first, which is quick; only of lines that have one of those asked for it is asked whose
id it is.

A lease keeps what it found, so that the next append with ids of its own reads only what was written
since. That is some 100 bytes for each entry; of a transcript with few of them the process keeps it
between its turns as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from .jsonl import ReadAt, lines_with

_BLOCK_BYTES = 1024 * 1024
# The ids that a writer takes, of which JSON escapes none. Within that many bytes, blanks and all.
_FIELD = re.compile(rb'"id"[ \t]{0,8}:[ \t]{0,8}"([A-Za-z0-9._:@+=-]{1,128})"')
_FIELD_BYTES_MAX = 256
_FEW = 50_000


class KnownIds:
    """The ids of a transcript that nobody but its lease writes, as far as it was read."""

    def __init__(self) -> None:
        self.read_to = 0
        # Where a line begins that is not behind the first one that has it.
        self._named: dict[bytes, int] = {}
        self._line = 0
        self._entries: set[str] = set()

    @property
    def are_few(self) -> bool:
        return len(self._named) <= _FEW

    def among(self, read_at: ReadAt, ids: Collection[str]) -> set[str]:
        """Those of the ids that entries have. OSError as it comes."""
        self._read_on(read_at)
        possible = {one for one in ids if one.encode() in self._named} - self._entries
        if possible:
            start = min(self._named[one.encode()] for one in possible)
            self._entries |= _of_entries(read_at, start, possible)
        return self._entries.intersection(ids)

    def _read_on(self, read_at: ReadAt) -> None:
        """Take in all that reads like an id."""
        start = max(0, self.read_to - _FIELD_BYTES_MAX)
        behind = b""
        while block := read_at(start, _BLOCK_BYTES):
            text = behind + block
            for identity in _FIELD.findall(text):
                self._named.setdefault(identity, self._line)
            # What may go on in the next one.
            behind = text[-_FIELD_BYTES_MAX:]
            newline = block.rfind(b"\n")
            self._line = self._line if newline < 0 else start + newline + 1
            start += len(block)
        self.read_to = start


def _of_entries(read_at: ReadAt, start: int, possible: set[str]) -> set[str]:
    texts = {identity.encode() for identity in possible}
    found: set[str] = set()
    for line in lines_with(read_at, lambda raw: not texts.isdisjoint(_FIELD.findall(raw)), start):
        identity = line.entry.get("id") if line.entry is not None else None
        if isinstance(identity, str) and identity in possible:
            found.add(identity)
            if len(found) == len(possible):
                break
    return found
