"""How a waiter learns that a claim may have changed hands, without polling.

One inotify instance and one thread serve all waiters of a process (the default limit is 128
instances a user). The watch is on the claim's inode, through the waiter's own descriptor of it:
the path may name another one by now. Release and removal change its link count (IN_ATTRIB), a
holder that dies closes its writable descriptor (IN_CLOSE_WRITE), also by SIGKILL.

Waiters and probes open claims read-only. Closing a writable descriptor is an IN_CLOSE_WRITE, so
two waiters that probed with writable ones would wake each other for ever.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Callable
from typing import Protocol

from .fileops import Handle

_ATTRIB, _CLOSE_WRITE, _DELETE_SELF, _MOVE_SELF = 0x4, 0x8, 0x400, 0x800
_MASK = _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF
_OVERFLOW, _IGNORED = 0x4000, 0x8000
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 64 * 1024


class Watch(Protocol):
    """``interval``: how long a waiter may sleep before it looks by itself, in seconds."""

    interval: float

    def close(self) -> None: ...


class Waker(Protocol):
    def watch(self, claim: Handle, wake: threading.Event) -> Watch:
        """Set ``wake`` whenever the claim may have changed hands, until the watch is closed."""
        ...


class PolledWatch:
    """No events: the waiter has to look. It looks often, as this is its only way to know."""

    interval = 0.005

    def close(self) -> None:
        pass


class PollingWaker:
    """For systems without inotify."""

    def watch(self, claim: Handle, wake: threading.Event) -> Watch:
        return PolledWatch()


class InotifyWatch:
    # The slow poll covers what makes no event: a probe by doctor that a taker met.
    interval = 0.5

    def __init__(self, close: Callable[[], None]) -> None:
        self.close = close


class InotifyWaker:
    """For Linux. Falls back to polling when the user's inotify limits are used up."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset_in_child)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._inotify: _Inotify | None = None
        self._waiting: dict[int, set[threading.Event]] = {}

    def _reset_in_child(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
        self._reset()

    def watch(self, claim: Handle, wake: threading.Event) -> Watch:
        try:
            with self._lock:
                inotify = self._started()
                number = inotify.add(claim.fd)
                self._waiting.setdefault(number, set()).add(wake)
        except (OSError, RuntimeError):
            # No instance, no watch or no thread is left for this user.
            return PolledWatch()
        return InotifyWatch(lambda: self._remove(number, wake))

    def _started(self) -> _Inotify:
        if self._inotify is None:
            inotify = _Inotify()
            thread = threading.Thread(
                target=self._serve, args=(inotify,), name="turnlock-waker", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                inotify.close()
                raise
            self._inotify = inotify
        return self._inotify

    def _remove(self, number: int, wake: threading.Event) -> None:
        with self._lock:
            waiting = self._waiting.get(number)
            if waiting is None or self._inotify is None:
                return
            waiting.discard(wake)
            if not waiting:
                del self._waiting[number]
                # The kernel may have dropped the watch already, with its inode.
                with contextlib.suppress(OSError):
                    self._inotify.remove(number)

    def _serve(self, inotify: _Inotify) -> None:
        while True:
            for number, mask in inotify.read():
                with self._lock:
                    if mask & _OVERFLOW:
                        woken = [wake for waiting in self._waiting.values() for wake in waiting]
                    else:
                        woken = list(self._waiting.get(number, ()))
                    if mask & _IGNORED:
                        self._waiting.pop(number, None)
                for wake in woken:
                    wake.set()


class _Inotify:
    """The three system calls, through ctypes: the standard library has none of them."""

    def __init__(self) -> None:
        import ctypes

        self._errno = ctypes.get_errno
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_CLOEXEC))

    def add(self, fd: int) -> int:
        path = f"/proc/self/fd/{fd}".encode()
        return self._checked(self._libc.inotify_add_watch(self._fd, path, _MASK))

    def remove(self, number: int) -> None:
        self._checked(self._libc.inotify_rm_watch(self._fd, number))

    def read(self) -> list[tuple[int, int]]:
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

    def _checked(self, result: int) -> int:
        if result < 0:
            number = self._errno()
            raise OSError(number, os.strerror(number))
        return result
