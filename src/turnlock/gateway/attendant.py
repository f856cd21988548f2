"""Signals, and an end that nothing can hold up.

A handler of the event loop runs when the loop does, so a loop that is blocked would hear of no
signal. Here a thread reads them, from the descriptor that the interpreter writes them to whatever
the main thread is at, and passes them on to the loop:

* SIGTERM and SIGINT wish a stop; the second one hastens it.
* SIGHUP wishes a reload. But when the terminal that the gateway was started from has gone, its
  SIGHUP means what it always did, an end; unless it was ignored (nohup).

Then the thread sees to it that the process ends. Once the time to drain is over it asks the loop
for a sign of life again and again. A loop that gives none for two seconds marks no turns any more:
the thread does that, revokes every lease with its marker, each in a worker of its own, and ends the
process with exit code 0. It does the same, whatever holds the process then, so that it has ended
eight seconds after the time to drain. What it cannot help against is C code that never lets go of
the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType

from ..clock import SystemClock
from ..doctor.condition import LATEST_END
from ..turns.aio import call_on_loop
from ..turns.revoking import revoke_all
from ..turns.runtime import Runtime
from ..turns.workers import workers
from ..unblocked import unblocked

logger = logging.getLogger("turnlock")

_ENDING = (signal.SIGTERM, signal.SIGINT)
_ALL = (*_ENDING, signal.SIGHUP)
# No signal has this number.
_LAST = b"\0"
# After the time to drain: between two looks, and without a sign of life.
_LOOK = 0.25
_DEAF = 2.0
# Of the time to the end of all, for the markers of what is left, and to say so.
_MARKERS = 3.0
_SAYING = 0.2


class Attendant:
    """``with``: the thread attends to the signals of the process. For the main thread.

    ``stop`` and ``reload`` are called on the loop; ``drain`` tells how many seconds the loop means
    to take for its end.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        stop: Callable[[], object],
        reload: Callable[[], object],
        drain: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._stop = stop
        self._reload = reload
        self._drain = drain
        self._drained = float("inf")
        self._asked: float | None = None
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._attend, name="turnlock-signals", daemon=True)
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> Attendant:
        os.set_blocking(self._writer, False)
        self._has_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _is_there(
            "/dev/tty"
        )
        for number in _ALL:
            before = signal.signal(number, _arrive)
            self._restore.callback(signal.signal, number, before)
        fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._restore.callback(signal.set_wakeup_fd, fd)
        self._restore.enter_context(unblocked(_ALL))
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore.close()
        # The thread reads so far, and ends there itself. The pipe's end alone would not tell it: a
        # process that was forked from this one has it open as well.
        os.set_blocking(self._writer, True)
        os.write(self._writer, _LAST)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def _attend(self) -> None:
        clock = SystemClock()
        # Not select: it knows no descriptor above 1,023, and we may have inherited so many.
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        while True:
            wait = max(_LOOK, self._drained - clock.monotonic())
            patience = None if wait == float("inf") else wait * 1000
            if not poll.poll(patience):
                self._look(clock.monotonic())
                continue
            arrived = os.read(self._reader, 64)
            for number in arrived.rstrip(_LAST):
                self._hear(number, clock.monotonic())
            if not arrived or arrived.endswith(_LAST):
                return

    def _hear(self, number: int, now: float) -> None:
        hung_up = number == signal.SIGHUP and self._has_terminal and not _is_there("/dev/tty")
        if number in _ENDING or hung_up:
            # The second one, and any later, leaves the loop no more time than to cancel.
            is_first = self._drained == float("inf")
            self._drained = now + self._drain() if is_first else min(now, self._drained)
            call_on_loop(self._loop, self._stop)
        elif number == signal.SIGHUP:
            call_on_loop(self._loop, self._reload)

    def _look(self, now: float) -> None:
        """Ask the loop for a sign of life once the drain is over; end it all without one."""
        if now < self._drained:
            return
        if now >= self._drained + LATEST_END - _MARKERS - _SAYING:
            self._end("the gateway has not ended long after its time to drain")
        elif self._asked is None:
            self._asked = now
            if not call_on_loop(self._loop, self._heard):
                # The loop is closed: what is left of the process has its own, short, end.
                self._asked = None
        elif now - self._asked >= _DEAF:
            self._end("the event loop is blocked, and cannot end its turns")

    def _heard(self) -> None:
        self._asked = None

    def _end(self, why: str) -> None:
        # Every step has a bound: the log may be what blocks, and the disk may hang. Nor may there
        # be a thread for it; then it ends without a word.
        with contextlib.suppress(RuntimeError):
            workers.submit(
                lambda: logger.error("%s: what is left is revoked, and the process ends", why)
            )
        deadline = SystemClock.monotonic() + _MARKERS
        for runtime in Runtime.all():
            revoke_all(runtime, "cancelled", max(0.0, deadline - SystemClock.monotonic()))
        SystemClock.sleep(_SAYING)
        os._exit(0)


def _arrive(number: int, frame: FrameType | None) -> None:
    """What it means is decided by who reads it from the descriptor."""


def _is_there(terminal: str) -> bool:
    try:
        os.close(os.open(terminal, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
