"""The gateway's log: lines on stderr, which a thread of their own writes.

A pipe takes 64 KiB, and then holds up who writes for as long as its reader does not read: an event
loop with all of its turns, a watchdog, a clean-up. Here whoever logs hands its line over, and only
the log's own thread waits for the reader. The lines keep their order. So many wait at most; those
beyond are lost, and the log says how many in their place.

A line is written the moment that it is handed over. Who ends waits for the last ones; a process
that is killed loses those of its last moment.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import traceback
from queue import SimpleQueue
from typing import TextIO

LINES_MAX = 10_000
# A reader that takes a line at all takes it sooner.
LAST_LINES = 0.5


class Log(logging.Handler):
    """Logging to it never blocks. Its thread is a daemon, and ends with the process.

    ``stream``: None is none at all, as `sys.stderr` may be. ``most``: how many lines may wait.
    """

    def __init__(self, stream: TextIO | None, most: int = LINES_MAX) -> None:
        super().__init__()
        self._stream = stream
        self._most = most
        self._lost = 0
        # Other queues have a lock, which a finalizer that logs would wait for in its own thread.
        self._lines: SimpleQueue[str | threading.Event] = SimpleQueue()
        threading.Thread(target=self._write, name="turnlock-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._lines.qsize() >= self._most:
            self._lost += 1
            return
        self._tell_lost()
        try:
            self._hand_over(record)
        except Exception:  # noqa: BLE001 - so logging wants it of a handler
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        # logging's own writes to stderr, and so blocks.
        self._lines.put(traceback.format_exc())

    def written(self, patience: float) -> bool:
        """Wait, at most so many seconds, until all that was logged is written; whether it is."""
        mark = threading.Event()
        self.acquire()
        try:
            self._tell_lost()
            self._lines.put(mark)
        finally:
            self.release()
        return mark.wait(patience)

    def flush(self) -> None:
        """What `logging.shutdown` calls at the end of the interpreter."""
        self.written(LAST_LINES)

    def _tell_lost(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            text = "%d lines of this log are lost: nobody read it"
            self._hand_over(
                logging.LogRecord("turnlock", logging.WARNING, __file__, 0, text, (lost,), None)
            )

    def _hand_over(self, record: logging.LogRecord) -> None:
        self._lines.put(f"{self.format(record)}\n")

    def _write(self) -> None:
        while True:
            item = self._lines.get()
            if isinstance(item, threading.Event):
                item.set()
            elif self._stream is not None:
                # The reader is gone, or the disk is full, and there is nobody else to tell.
                with contextlib.suppress(OSError, ValueError):
                    self._stream.write(item)
                    self._stream.flush()
