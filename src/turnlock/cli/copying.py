"""The output of a command, copied through this process, so that its coming can be noticed."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import subprocess
import termios
import threading
from collections.abc import Callable
from typing import IO

from ..clock import SystemClock
from ..errors import LeaseRevoked

_CHUNK_BYTES = 64 * 1024
# What the command left running in the background may keep its pipes open for ever.
_GRACE_SECONDS = 1.0


class Copiers:
    """Copies stdout and stderr of a command to ours, if they are pipes, one thread each.

    All that the command wrote is copied, for as long as a slow reader of ours needs to take it: the
    end of the block waits for that, once it was `ended` in it. What others write into its pipes
    after its end is copied for a second at most. Where the block is left before the command ended
    by itself, or by a signal, the wait is a second for each pipe.

    ``failures``: why output could not be written. That its reader is gone is none: the command
    learns it, as it would alone, if it writes more.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._threads: list[threading.Thread] = []
        self._has_ended = threading.Event()
        # Closed at the command's end: that ends every wait for its output.
        self._waker, self._open = os.pipe()

    def __enter__(self) -> Copiers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        by_itself = self._has_ended.is_set() and (kind is None or issubclass(kind, Exception))
        self.ended()
        for thread in self._threads:
            thread.join(_GRACE_SECONDS)
            # Again and again: a signal of the moment before a wait begins does not end that wait.
            while by_itself and thread.is_alive():
                thread.join(_GRACE_SECONDS)
        if not any(map(threading.Thread.is_alive, self._threads)):
            os.close(self._waker)

    def start(self, process: subprocess.Popen[bytes], progress: Callable[[str], None]) -> None:
        """``progress`` is called with "output" for every piece, until the command has ended."""
        for pipe, fd, name in ((process.stdout, 1, "stdout"), (process.stderr, 2, "stderr")):
            if pipe is not None:
                arguments = (pipe, fd, name, progress)
                copy = threading.Thread(target=self._attend, args=arguments, daemon=True)
                self._threads.append(copy)
                copy.start()

    def ended(self) -> None:
        """The command has ended: nothing of it comes but what is in its pipes. Idempotent."""
        if not self._has_ended.is_set():
            self._has_ended.set()
            os.close(self._open)

    def _attend(self, pipe: IO[bytes], fd: int, name: str, progress: Callable[[str], None]) -> None:
        # The pipe is closed when nothing can be written any more: so the command learns it.
        with pipe:
            try:
                self._copy(pipe.fileno(), fd, progress)
            except BrokenPipeError:
                pass
            except OSError as error:
                self.failures.append(f"{name}: {error.strerror}")

    def _copy(self, source: int, fd: int, progress: Callable[[str], None]) -> None:
        while self._waits_for(source):
            if not (chunk := os.read(source, _CHUNK_BYTES)):
                return
            with contextlib.suppress(LeaseRevoked):
                progress("output")
            _write(fd, chunk)
        _copy_rest(source, fd)

    def _waits_for(self, source: int) -> bool:
        """Block until there is something to read, True, or the command has ended, False."""
        poll = select.poll()
        for one in (source, self._waker):
            poll.register(one, select.POLLIN)
        poll.poll()
        return not self._has_ended.is_set()


def _copy_rest(source: int, fd: int) -> None:
    """What the ended command left in its pipe, and for a short time what others write there."""
    left_there = _bytes_in(source)
    while left_there > 0 and (copied := _copy_piece(source, fd)):
        left_there -= copied
    clock = SystemClock()
    poll = select.poll()
    poll.register(source, select.POLLIN)
    deadline = clock.monotonic() + _GRACE_SECONDS
    while (left := deadline - clock.monotonic()) > 0 and poll.poll(left * 1000):
        if not _copy_piece(source, fd):
            return


def _copy_piece(source: int, fd: int) -> int:
    """Copy what is there; how many bytes. 0 at the end of the pipe."""
    chunk = os.read(source, _CHUNK_BYTES)
    _write(fd, chunk)
    return len(chunk)


def _write(fd: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Somebody who shares it with us has made it so.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


def _bytes_in(pipe: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]
