"""The output of a command, copied through this process, so that its coming can be noticed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable
from typing import IO

from ..errors import LeaseRevoked

_CHUNK_BYTES = 64 * 1024
# What the command left running in the background may keep its pipes open for ever.
_DRAIN_SECONDS = 1.0


class Copiers:
    """Copies stdout and stderr of a process to ours, if they are pipes, one thread each.

    ``progress`` is called with "output" for every piece. What `start` began goes on at the end of
    the block until all is copied, for a second at most.
    """

    def __init__(self, process: subprocess.Popen[bytes], progress: Callable[[str], None]) -> None:
        self._progress = progress
        pairs = ((process.stdout, 1), (process.stderr, 2))
        self._threads = [
            threading.Thread(target=self._copy, args=(pipe, fd), daemon=True)
            for pipe, fd in pairs
            if pipe is not None
        ]

    def __enter__(self) -> Copiers:
        return self

    def __exit__(self, *exc: object) -> None:
        for thread in filter(threading.Thread.is_alive, self._threads):
            thread.join(_DRAIN_SECONDS)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _copy(self, pipe: IO[bytes], fd: int) -> None:
        # Closed when the reader of ours is gone, so that the command learns it as it would alone.
        with pipe, contextlib.suppress(OSError):
            while chunk := os.read(pipe.fileno(), _CHUNK_BYTES):
                with contextlib.suppress(LeaseRevoked):
                    self._progress("output")
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(fd, rest) :]
