"""Lines of stdin, read so that something else can end the wait for the next one."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
from typing import NoReturn

from ..transcript.entries import Entry
from ..transcript.jsonl import LINE_BYTES_MAX
from .exits import WrongInput

_CHUNK_BYTES = 256 * 1024


class InputLines:
    """Numbered lines of stdin that are not blank. A last one without newline is a line too."""

    def __init__(self) -> None:
        self.woken = False
        self._fd = _stdin()
        self._number = 0
        self._pending = bytearray()
        self._scanned = 0
        self._ended = False
        self._lock = threading.Lock()
        self._reader, self._writer = os.pipe()

    def __enter__(self) -> InputLines:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            os.close(self._reader)
            os.close(self._writer)
            self._reader = self._writer = -1

    def wake(self) -> None:
        """End the wait for the next line, from any thread."""
        with self._lock, contextlib.suppress(OSError):
            os.write(self._writer, b"!")

    def next(self) -> tuple[int, bytes] | None:
        """(number, line); None at the end of the input, or when woken."""
        while True:
            line = self._line()
            if line is None:
                return None
            self._number += 1
            if line.strip():
                return self._number, line

    def _line(self) -> bytes | None:
        while (at := self._pending.find(b"\n", self._scanned)) < 0:
            self._scanned = len(self._pending)
            if self._scanned > LINE_BYTES_MAX:
                raise WrongInput("it is longer than 64 MiB", line=self._number + 1)
            if self._ended or not self._read():
                return self._last()
        line = bytes(self._pending[:at])
        del self._pending[: at + 1]
        self._scanned = 0
        return line

    def _read(self) -> bool:
        """Read what there is; False at the end, or when woken."""
        # Not select: it knows no descriptor above 1,023, and we may have inherited so many.
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        if self._reader in dict(poll.poll()):
            self.woken = True
            return False
        chunk = os.read(self._fd, _CHUNK_BYTES)
        self._pending += chunk
        self._ended = not chunk
        return bool(chunk)

    def _last(self) -> bytes | None:
        if self.woken or not self._pending:
            return None
        line = bytes(self._pending)
        self._pending.clear()
        self._scanned = 0
        return line


def parse_entry(number: int, line: bytes) -> Entry:
    """The object in a line. Raises `WrongInput` that names the line and says what is wrong."""
    try:
        value = json.loads(line, parse_constant=_refuse)
    except RecursionError:
        raise WrongInput("it is nested too deeply", line=number) from None
    except ValueError as error:
        raise WrongInput(f"it is not JSON: {error}", line=number) from None
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise WrongInput(f"it is a JSON {kind}, and an entry is an object", line=number)
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _stdin() -> int:
    if sys.stdin is None:
        raise WrongInput("stdin is closed")
    return sys.stdin.fileno()
