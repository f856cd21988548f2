"""Hearing of releases: one connection that listens, for all waiters and holders of a process.

It is the one thing here that lives in the server's session, so it has a connection of its own, and
nobody relies on it: behind a pooler in transaction mode, after a crash, in a partition nothing is
heard, and who waits looks again by itself. After every new start all are woken, as nobody knows
what was missed.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable

import psycopg

from ...clock import Clock
from .database import Database

logger = logging.getLogger("turnlock")

# How often the thread looks whether it is still wanted. Seconds.
_LOOK = 1.0
_RETRY = 1.0
# How long it stays without anybody who would be woken.
_IDLE_LOOKS = 60

Call = Callable[[], None]


class Listener:
    """Calls whoever watches a session when the database names it. Its thread starts when needed."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._reset()
        _listeners.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._watching: dict[int, list[Call]] = {}
        self._stop = threading.Event()
        self._running = False
        self.listening = threading.Event()

    def watch(self, session_id: int, call: Call) -> Call:
        """Have ``call`` called, on the listener's thread, for each word of the session.

        Returns what ends that. Who gets no thread is not called, and has to look by itself.
        """
        with self._lock:
            self._watching.setdefault(session_id, []).append(call)
            if not self._running:
                self._running = self._start()

        def end() -> None:
            with self._lock:
                calls = self._watching.get(session_id, [])
                if call in calls:
                    calls.remove(call)
                if not calls:
                    self._watching.pop(session_id, None)

        return end

    def close(self) -> None:
        """End the thread soon. A later watch starts another."""
        with self._lock:
            self._stop.set()
            self._stop = threading.Event()
            self._running = False

    def forget_in_child(self) -> None:
        self._reset()

    def _start(self) -> bool:
        run = threading.Thread(
            target=_run, args=(weakref.ref(self), self._stop), name="turnlock-listen", daemon=True
        )
        try:
            run.start()
        except RuntimeError:
            return False
        return True

    def hear(self, stop: threading.Event) -> None:
        """Listen on one connection until told to stop, or nobody watches for a while."""
        with self._database.connect() as connection:
            connection.execute("LISTEN turnlock")
            self._tell_all()
            self.listening.set()
            idle = 0
            while not stop.is_set() and idle < _IDLE_LOOKS:
                for word in connection.notifies(timeout=_LOOK, stop_after=1):
                    self._tell(word.payload)
                idle = 0 if self._watching else idle + 1

    def retire(self, stop: threading.Event) -> bool:
        """Whether the thread may end: nobody watches any more, or it was told to."""
        with self._lock:
            self.listening.clear()
            if stop.is_set():
                return True
            if not self._watching:
                self._running = False
            return not self._watching

    def pause(self, stop: threading.Event) -> None:
        self._clock.wait(stop, _RETRY)

    def _tell(self, payload: str) -> None:
        if payload.isdecimal():
            with self._lock:
                calls = list(self._watching.get(int(payload), ()))
            for call in calls:
                call()

    def _tell_all(self) -> None:
        with self._lock:
            calls = [call for some in self._watching.values() for call in some]
        for call in calls:
            call()


def _run(reference: weakref.ref[Listener], stop: threading.Event) -> None:
    """The thread. Between two connections it keeps no listener alive."""
    while (listener := reference()) is not None:
        try:
            listener.hear(stop)
        except psycopg.Error as error:
            text = str(error).split("\n")[0]
            logger.warning("notifications are not heard, waiters look by themselves: %s", text)
        if listener.retire(stop):
            return
        listener.pause(stop)
        del listener


def _forget_in_child() -> None:
    for listener in list(_listeners):
        listener.forget_in_child()


_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_in_child)
