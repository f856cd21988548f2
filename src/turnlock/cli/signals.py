"""Signals, for commands that hold a session: they end the turn, not only the process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from ..unblocked import unblocked

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Ended(BaseException):
    """A signal asked this process to end. Like KeyboardInterrupt it is no error."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextlib.contextmanager
def ending_signals_raise() -> Iterator[None]:
    """`Ended` in place of sudden death, so that the turn leaves its error marker.

    A signal that was ignored when the process began (nohup) stays ignored.
    """
    with _handlers(dict.fromkeys(ENDING, _raise_ended)):
        yield


class Wakeups:
    """One descriptor to wait on: for signals, and for `notify` from another thread.

    Entered, ``SIGCHLD`` and the ending signals do nothing but arrive here.
    """

    NOTIFIED = 0

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._lock = threading.Lock()
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> Wakeups:
        numbers = (*ENDING, signal.SIGCHLD)
        self._restore.enter_context(_handlers(dict.fromkeys(numbers, _arrive)))
        before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._restore.callback(signal.set_wakeup_fd, before)
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore.close()
        with self._lock:
            os.close(self._reader)
            os.close(self._writer)
            self._reader = self._writer = -1

    @property
    def fd(self) -> int:
        return self._reader

    def notify(self) -> None:
        """From any thread."""
        # Under the lock, or the number of a closed descriptor may be somebody else's by now. A full
        # pipe wakes its reader as well.
        with self._lock, contextlib.suppress(OSError):
            os.write(self._writer, bytes([self.NOTIFIED]))

    def wait(self) -> bytes:
        """Block until something arrives: numbers of signals, and `NOTIFIED`."""
        return os.read(self._reader, 4096)


@contextlib.contextmanager
def _handlers(wanted: dict[signal.Signals, signal._HANDLER]) -> Iterator[None]:
    """What a signal does meanwhile, also one that a parent left blocked for us."""
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in wanted.items():
        if before[number] is not signal.SIG_IGN or number is signal.SIGCHLD:
            signal.signal(number, handler)
    try:
        with unblocked(wanted):
            yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _raise_ended(number: int, frame: FrameType | None) -> None:
    raise Ended(number)


def _arrive(number: int, frame: FrameType | None) -> None:
    pass
