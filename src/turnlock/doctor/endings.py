"""A transcript as doctor looks at it: its first line, its end, and all of it when it is small."""

from __future__ import annotations

import json
import os
import stat
from typing import NamedTuple, NoReturn

from ..backends.files.fileops import FileOps, Handle
from ..errors import TranscriptError
from ..transcript.jsonl import ReadAt, decode
from ..transcript.tail import Tail, read_tail

# A file up to this size is read and parsed whole; of a longer one the first line and the end.
SMALL_BYTES = 64 * 1024
_HEADER_BYTES = 64 * 1024


class Reading(NamedTuple):
    """``first`` is the first line, None when no line is complete or it is longer than 64 KiB.

    ``fragment`` are the bytes after the last newline. ``damaged`` are complete lines that are no
    JSON objects, without the first; () for a file that was not read whole.
    """

    mode: int
    size: int
    first: bytes | None
    tail: Tail
    fragment: bytes
    damaged: tuple[bytes, ...]


def read_transcript(files: FileOps, path: str) -> Reading:
    """Raises `TranscriptError` for what is no regular file, OSError for what cannot be read."""
    handle = files.open_quietly(path)
    try:
        status = files.stat_handle(handle)
        if not stat.S_ISREG(status.st_mode):
            raise TranscriptError(path, "it is not a regular file")
        return _read(_reader(files, handle, status.st_size), status)
    finally:
        handle.close()


def _read(read_at: ReadAt, status: os.stat_result) -> Reading:
    size = status.st_size
    small = size <= SMALL_BYTES
    start = read_at(0, SMALL_BYTES if small else _HEADER_BYTES)
    tail = read_tail(read_at, size)
    fragment = b"" if tail.fragment is None else read_at(tail.fragment, size - tail.fragment)
    *lines, _ = start.split(b"\n")
    damaged = (line for line in lines[1:] if line.strip() and _is_damaged(line))
    return Reading(
        status.st_mode,
        size,
        lines[0] if lines else None,
        tail,
        fragment,
        tuple(damaged) if small else (),
    )


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
    """Reads up to ``size``, so that all of it is one moment's; a small file in one call."""
    if size > SMALL_BYTES:
        return lambda offset, length: files.read_at(handle, offset, min(length, size - offset))
    content = files.read_at(handle, 0, size)
    return lambda offset, length: content[offset : offset + length]
