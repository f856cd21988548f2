"""Whether a transcript has an entry of some id already.

It is read, never mapped: a program that truncates a mapped file, or a disk that cannot give one of
its pages, is a signal that ends the process with all its turns. Bytes that read like an id are
looked for first, which is quick; only of lines that have one of those asked for it is asked whose
id it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ...transcript.jsonl import ReadAt, lines_with

_BLOCK_BYTES = 1024 * 1024
# The ids that a writer takes, of which JSON escapes none. Within that many bytes, blanks and all.
_FIELD = re.compile(rb'"id"[ \t]{0,8}:[ \t]{0,8}"([A-Za-z0-9._:@+=-]{1,128})"')
_FIELD_BYTES_MAX = 256


def known_ids(read_at: ReadAt, ids: Collection[str]) -> set[str]:
    """Those of the ids that entries have. OSError as it comes."""
    named = _named(read_at, 0)
    possible = {identity for identity in ids if identity.encode() in named}
    return _of_entries(read_at, possible) if possible else set()


def _named(read_at: ReadAt, start: int) -> set[bytes]:
    """All that reads like an id, from there on."""
    found: set[bytes] = set()
    behind = b""
    while block := read_at(start, _BLOCK_BYTES):
        found.update(_FIELD.findall(behind + block))
        # What may go on in the next one.
        behind = block[-_FIELD_BYTES_MAX:]
        start += len(block)
    return found


def _of_entries(read_at: ReadAt, possible: set[str]) -> set[str]:
    texts = {identity.encode() for identity in possible}
    found: set[str] = set()
    for line in lines_with(read_at, lambda raw: not texts.isdisjoint(_FIELD.findall(raw))):
        identity = line.entry.get("id") if line.entry is not None else None
        if isinstance(identity, str) and identity in possible:
            found.add(identity)
            if len(found) == len(possible):
                break
    return found
