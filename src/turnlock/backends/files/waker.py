"""How a waiter learns that a claim may have changed hands, without polling.

One inotify instance serves all waiters of a process (the default limit is 128 instances a user).
The watch is on the claim's inode, through the waiter's own descriptor of it: the path may name
another one by now. Release and removal change its link count (IN_ATTRIB), a holder that dies closes
its writable descriptor (IN_CLOSE_WRITE), also by SIGKILL.

No thread of its own reads it, or every wake-up would go through two threads. One of the waiters
reads for all, the others sleep on their events; a reader that leaves sets the event of another, who
finds nothing changed, waits again, and reads.

Waiters and probes open claims read-only. Closing a writable descriptor is an IN_CLOSE_WRITE, so
two waiters that probed with writable ones would wake each other for ever.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import threading
from typing import Protocol

from ...clock import Clock
from .. import Wake
from .fileops import Handle

_ATTRIB, _CLOSE_WRITE, _DELETE_SELF, _MOVE_SELF = 0x4, 0x8, 0x400, 0x800
# The kernel drops the watch with its first event: a waiter that was woken has none to remove.
_ONESHOT = 0x8000_0000
_MASK = _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF | _ONESHOT
_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 64 * 1024


class Watch(Protocol):
    """``interval``: how long a waiter may sleep before it looks by itself, in seconds.

    While it finds all as it was, it may double that up to ``interval_most``.
    """

    interval: float
    interval_most: float

    def wait(self, clock: Clock, timeout: float) -> bool:
        """Sleep until the claim may have changed hands (True), or for ``timeout`` seconds."""
        ...

    def close(self) -> None: ...


class Waker(Protocol):
    def watch(self, claim: Handle, wake: Wake) -> Watch:
        """Have ``wake`` set when the claim may have changed hands, once, until it is closed."""
        ...


class PolledWatch:
    """No events: the waiter has to look. It looks often, as this is its only way to know."""

    interval = interval_most = 0.005

    def __init__(self, wake: Wake) -> None:
        self._wake = wake

    def wait(self, clock: Clock, timeout: float) -> bool:
        return clock.wait(self._wake, timeout)

    def close(self) -> None:
        pass


class PollingWaker:
    """For systems without inotify."""

    def watch(self, claim: Handle, wake: Wake) -> Watch:
        return PolledWatch(wake)


class InotifyWatch:
    # The slow poll covers what makes no event: a probe by doctor that a taker met just now.
    interval = 0.5
    interval_most = 4.0

    def __init__(self, waker: InotifyWaker, number: int, wake: Wake) -> None:
        self._waker = waker
        self._number = number
        self._wake = wake

    def wait(self, clock: Clock, timeout: float) -> bool:
        return self._waker.wait(clock, self._wake, timeout)

    def close(self) -> None:
        self._waker.remove(self._number, self._wake)


class InotifyWaker:
    """For Linux. Falls back to polling when the user's inotify limits are used up."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset_in_child)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._reader: Wake | None = None
        self._inotify: _Inotify | None = None
        self._waiting: dict[int, set[Wake]] = {}

    def _reset_in_child(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
        self._reset()

    def watch(self, claim: Handle, wake: Wake) -> Watch:
        try:
            with self._lock:
                if self._inotify is None:
                    self._inotify = _Inotify()
                number = self._inotify.add(claim.fd)
                self._waiting.setdefault(number, set()).add(wake)
        except OSError:
            return PolledWatch(wake)
        return InotifyWatch(self, number, wake)

    def wait(self, clock: Clock, wake: Wake, timeout: float) -> bool:
        """Sleep until ``wake`` is set (True) or for ``timeout`` seconds; read if nobody does."""
        # A signal's handler may raise anywhere in here: there must be no reader that is gone.
        try:
            with self._lock:
                inotify = self._inotify
                if self._reader is None:
                    self._reader = wake
            if inotify is None or self._reader is not wake:
                return clock.wait(wake, timeout)
            return self._read(inotify, clock, wake, timeout)
        finally:
            if self._reader is wake:
                self._reader = None
            wake.interrupt = None

    def remove(self, number: int, wake: Wake) -> None:
        """The waiter waits no more. If it was the one that read, another has to."""
        with self._lock:
            waiting = self._waiting.get(number)
            if waiting is not None:
                waiting.discard(wake)
            if waiting is not None and not waiting and self._inotify is not None:
                del self._waiting[number]
                # The kernel may have dropped the watch in this very moment.
                with contextlib.suppress(OSError):
                    self._inotify.remove(number)
            # Who comes later finds that nobody reads.
            others = next(iter(self._waiting.values()), ())
            reader = next(iter(others), None) if self._reader is None else None
        if reader is not None:
            reader.set()

    def _read(self, inotify: _Inotify, clock: Clock, wake: Wake, timeout: float) -> bool:
        wake.interrupt = inotify.interrupt
        until = clock.monotonic() + timeout
        while not wake.is_set() and timeout > 0:
            self._wake_those_of(inotify.read(timeout))
            timeout = until - clock.monotonic()
        return wake.is_set()

    def _wake_those_of(self, events: list[tuple[int, int]]) -> None:
        for number, mask in events:
            with self._lock:
                if mask & _OVERFLOW:
                    woken = [wake for waiting in self._waiting.values() for wake in waiting]
                else:
                    woken = list(self._waiting.pop(number, ()))
            for wake in woken:
                wake.set()


class _Inotify:
    """The system calls, the first three through ctypes: the standard library has none of them."""

    def __init__(self) -> None:
        import ctypes

        self._errno = ctypes.get_errno
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        try:
            self._interrupts = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except BaseException:
            # No Handle has it yet, so nobody would ever close it.
            os.close(self._fd)
            raise
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._interrupts, select.POLLIN)

    def add(self, fd: int) -> int:
        path = f"/proc/self/fd/{fd}".encode()
        return self._checked(self._libc.inotify_add_watch(self._fd, path, _MASK))

    def remove(self, number: int) -> None:
        self._checked(self._libc.inotify_rm_watch(self._fd, number))

    def interrupt(self) -> None:
        """End a `read` that is under way, or the next one."""
        os.eventfd_write(self._interrupts, 1)

    def read(self, timeout: float) -> list[tuple[int, int]]:
        """The events (watch, mask) that are there, at the latest after ``timeout`` seconds."""
        ready = self._poll.poll(timeout * 1000)
        if (self._interrupts, select.POLLIN) in ready:
            os.eventfd_read(self._interrupts)
        if (self._fd, select.POLLIN) not in ready:
            return []
        buffer = os.read(self._fd, _BUFFER_BYTES)
        events = []
        at = 0
        while at < len(buffer):
            number, mask, _, name_bytes = _EVENT.unpack_from(buffer, at)
            events.append((number, mask))
            at += _EVENT.size + name_bytes
        return events

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._interrupts)

    def _checked(self, result: int) -> int:
        if result < 0:
            number = self._errno()
            raise OSError(number, os.strerror(number))
        return result
