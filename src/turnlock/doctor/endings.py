"""A transcript as doctor looks at it: its first line, its end, and all of it when it is small."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from ..backends.files.fileops import FileOps, Handle
from ..errors import TranscriptError
from ..transcript.jsonl import LINE_BYTES_MAX, ReadAt, decode, pieces
from ..transcript.tail import Tail, read_tail
from .fragments import to_keep

# A file up to this size is read and parsed whole; of a longer one the first line and the end.
SMALL_BYTES = 64 * 1024
_HEADER_BYTES = 64 * 1024


class Reading(NamedTuple):
    """``first`` is the first line, None when no line is complete or it is longer than 64 KiB.

    ``fragment`` is what is to be kept of the bytes after the last newline, but for entries.
    ``damaged`` is the same of complete lines, without the first; () for a file that was not read
    whole. ``nuls``: whether the file ends in NULs.
    """

    mode: int
    size: int
    first: bytes | None
    tail: Tail
    fragment: tuple[bytes, ...]
    nuls: bool
    damaged: tuple[bytes, ...]


def read_transcript(files: FileOps, path: str) -> Reading:
    """Raises `TranscriptError` for what is no regular file, OSError for what cannot be read."""
    handle = files.open_quietly(path)
    try:
        status = files.stat_handle(handle)
        if not stat.S_ISREG(status.st_mode):
            raise TranscriptError(path, "it is not a regular file")
        return _read(files, handle, status)
    finally:
        handle.close()


def read_at_most(files: FileOps, handle: Handle, size: int) -> ReadAt:
    """Reads up to ``size``, so that all of it is one moment's."""
    return lambda offset, length: files.read_at(handle, offset, max(0, min(length, size - offset)))


def _read(files: FileOps, handle: Handle, status: os.stat_result) -> Reading:
    size = status.st_size
    small = size <= SMALL_BYTES
    read_at = _reader(files, handle, size)
    start = read_at(0, SMALL_BYTES if small else _HEADER_BYTES)
    tail = read_tail(read_at, size, data_end=lambda: files.data_end(handle, size))
    *lines, _ = start.split(b"\n")
    return Reading(
        status.st_mode,
        size,
        lines[0] if lines else None,
        tail,
        tuple(_fragment(read_at, tail, size)),
        size > 0 and read_at(size - 1, 1) == b"\0",
        tuple(_damaged(start, len(lines))) if small else (),
    )


def _fragment(read_at: ReadAt, tail: Tail, size: int) -> Iterator[bytes]:
    if tail.fragment is None:
        return
    length = size - tail.fragment
    raw = read_at(tail.fragment, min(length, LINE_BYTES_MAX))
    if len(raw) < length and not raw.strip(b"\0"):
        yield to_keep(tail.fragment, raw, length)
    else:
        yield from _damaged_in(tail.fragment, raw)


def _damaged(content: bytes, lines: int) -> Iterator[bytes]:
    offset = 0
    for number, line in enumerate(content.split(b"\n")[:lines]):
        if number and line.strip() and _is_damaged(line):
            yield from _damaged_in(offset, line)
        offset += len(line) + 1


def _damaged_in(offset: int, line: bytes) -> Iterator[bytes]:
    for start, raw, entry in pieces(line):
        if entry is None:
            yield to_keep(offset + start, raw)


def _is_damaged(line: bytes) -> bool:
    # The one decoder answers for nearly every line of ten thousand files; `decode` is the judge.
    try:
        value = _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        value = None
    return not isinstance(value, dict) and decode(line) is None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _reader(files: FileOps, handle: Handle, size: int) -> ReadAt:
    """As `read_at_most`; a small file is read in one call."""
    if size > SMALL_BYTES:
        return read_at_most(files, handle, size)
    content = files.read_at(handle, 0, size)
    return lambda offset, length: content[offset : offset + length]
