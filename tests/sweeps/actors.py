"""Processes that are forked from a warm one, and say over a pipe what they see.

A fork costs milliseconds, where a start costs a third of a second. The process that forks opens no
store and starts no thread: what it forks is a process like any other.

What an actor sees is noted in the moment, so that the notes of one that is killed are there. A
frame that was cut short is none.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.helpers import PATIENCE
from tests.oracle import Violation

_PR_SET_PDEATHSIG = 1
_LENGTH = struct.Struct("<I")


class Wire:
    """An actor's end: what it tells, and what it is told."""

    def __init__(self, out: int, back: int) -> None:
        self._out = out
        self._back = back

    def tell(self, what: object) -> None:
        frame = pickle.dumps(what)
        data = memoryview(_LENGTH.pack(len(frame)) + frame)
        while data:
            data = data[os.write(self._out, data) :]

    def wait(self) -> None:
        """Block until told to go on; ends this process when nobody is left to tell."""
        if not os.read(self._back, 1):
            os._exit(0)


class Overdue(Exception):
    """An actor did not come to where it had to be."""


class Actor:
    """A forked process that runs ``work``, and then ends at once, without cleaning up."""

    def __init__(self, name: str, work: Callable[[Wire], object]) -> None:
        self.name = name
        self.status: int | None = None
        self.stopped = False
        self._pending = b""
        self._in, out = os.pipe()
        back, self._go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._in)
            os.close(self._go)
            _run(work, Wire(out, back))
        os.close(out)
        os.close(back)

    def fileno(self) -> int:
        return self._in

    def next(self, patience: float = PATIENCE) -> Any:
        """What it tells next; None when it has ended. Raises `Overdue`."""
        deadline = time.monotonic() + patience
        while (frame := self._whole_frame()) is None:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._in], [], [], left)[0]:
                raise Overdue(f"{self.name} said nothing for {patience} s")
            if not self.read():
                return None
        return pickle.loads(frame)

    def read(self) -> bool:
        """Read what is there, once it is; False at the end."""
        chunk = os.read(self._in, 1 << 16)
        self._pending += chunk
        return bool(chunk)

    def told(self) -> Iterator[Any]:
        """What has come, without waiting."""
        while (frame := self._whole_frame()) is not None:
            yield pickle.loads(frame)

    def until(self, kind: type[Any], note: Callable[[Any], None]) -> Any:
        """Pass on what it tells, up to and without the first of a kind; None if it ended before."""
        while (one := self.next()) is not None and not isinstance(one, kind):
            note(one)
        return one

    def go_on(self) -> None:
        try:
            os.write(self._go, b"\n")
        except BrokenPipeError:
            pass

    def ended(self, note: Callable[[Any], None]) -> int:
        """Pass on the rest of what it tells, and reap it; its status as `os.waitpid` gives it."""
        while (one := self.next()) is not None:
            note(one)
        return self.reap()

    def reap(self) -> int:
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
        return self.status

    def await_stop(self) -> None:
        """Until the kernel has stopped it, as it said that it would be."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"{self.name} ended and did not stop: {status}"
        self.stopped = True

    def send(self, number: signal.Signals) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    def close(self) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.reap()
        for fd in (self._in, self._go):
            os.close(fd)

    def _whole_frame(self) -> bytes | None:
        if len(self._pending) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._pending)
        end = _LENGTH.size + length
        if len(self._pending) < end:
            return None
        frame, self._pending = self._pending[_LENGTH.size : end], self._pending[end:]
        return frame


def die_with_parent() -> None:
    """Have this process killed when its parent ends, however: also while it is stopped."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(work: Callable[[Wire], object], wire: Wire) -> None:
    code = 1
    try:
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        work(wire)
        code = 0
    except BaseException as error:  # noqa: BLE001 - the outermost frame of a process
        where = "".join(traceback.format_exception(error)[-6:])
        wire.tell(Violation("I11", f"a process ended with {error!r}: {where}"))
    finally:
        os._exit(code)


@contextmanager
def actor(name: str, work: Callable[[Wire], object]) -> Iterator[Actor]:
    one = Actor(name, work)
    try:
        yield one
    finally:
        one.close()
