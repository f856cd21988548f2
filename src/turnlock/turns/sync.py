"""The face of a turn for threads: ``with store.turn(key) as turn:``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..backends import Backend
from ..errors import LeaseRevoked, TurnlockError
from ..transcript.history import Message
from .face import TurnFace
from .frames import thread_frames
from .lease import Lease
from .runtime import Runtime
from .scope import Scope
from .taking import Wanted, take_blocking
from .turn import TurnCore
from .watching import Budget, IsContent, watch_call, watch_stream
from .workers import submit_or_run


class Turn(TurnFace):
    """One exclusive piece of work on a session, in a thread.

    Every method but ``messages`` raises `LeaseRevoked` once the session was taken from the turn:
    nothing is written then, and nothing watched. What another thread or task of the turn appends
    while its block ends is written before the turn's end, or refused with reason ``released``.
    ``append`` raises `StoreError` when the storage fails and `TranscriptError` for what is no
    entry; in both cases nothing was acknowledged.
    """

    @property
    def epoch(self) -> int:
        """The turn's fencing number in its session. Makes the turn's opening durable first."""
        return self._core.open()

    def append(self, *entries: Mapping[str, Any]) -> list[str]:
        """Append the entries as one; their ids, in order, once they are durable.

        An entry's own ``id`` (letters, digits and ``._:@+=-``, at most 128) is kept. An id that
        the transcript has already is not written again, so a repeated append does no harm.
        """
        return self._core.append(entries)

    def messages(self) -> list[Message]:
        """The session's history as OpenAI-style messages, oldest first, without markers."""
        return self._core.messages()

    def progress(self, what: str = "") -> None:
        """Say that the turn is getting on; ``what`` becomes its phase, up to 200 characters of it.

        Raises TypeError for what is no text.
        """
        self._core.check_revoked()
        self._core.progress(what)

    def check(self) -> None:
        """Raises `LeaseRevoked` unless the turn still holds its session, as the storage says.

        For the moment before a side effect. It is no fence for that effect: the session may be
        taken a moment later. Hand `epoch` to what you call, and let it refuse a smaller one.
        """
        self._core.check()

    def watch(
        self,
        stream: Iterable[Any] | Callable[[], Any],
        *,
        first: float | None = None,
        idle: float | None = None,
        content: IsContent | None = None,
        what: str = "model",
    ) -> Any:
        """A stream under limits: ``first`` seconds to its first item, ``idle`` between items.

        What you do with an item before you ask for the next one is part of that time.
        None takes the store's ``limits.first_token`` and ``limits.idle``. A function without
        arguments is called under ``first``; the stream that it returns is watched further.
        ``content`` says which items are progress (default: all). However the watch ends, also when
        nobody goes on with it, the stream's ``close`` is called, if it has one. When a limit
        passes, the turn is revoked with reason ``model-limit``. A thread cannot be cancelled: one
        that blocks becomes a zombie, whose writes are refused, and the session goes on without it.
        """
        budget = self._default.with_limits(first, idle, content, what)
        if callable(stream):
            return watch_call(self._core, stream, budget)
        return watch_stream(self._core, stream, budget)


class OpenTurn:
    """The block of a `Turn`: takes, runs, ends.

    A signal's handler may raise at any point of it (Ctrl-C does), and so may a debugger or a
    time-out that throws exceptions into threads. What was begun is ended all the same.
    """

    core: TurnCore

    def __init__(self, runtime: Runtime, backend: Backend[Any], want: Wanted) -> None:
        self._runtime = runtime
        self._backend = backend
        self._want = want
        self._lease: Lease | None = None
        self._scope: Scope | None = None

    def take(self) -> None:
        """Take the session. Call `give_up` with whatever this raises."""
        frames = thread_frames(threading.get_ident())
        self._lease = take_blocking(self._runtime, self._backend, self._want, frames)
        self.core = TurnCore(self._runtime, self._lease)
        self.core.settle()

    def enter(self, default: Budget) -> Turn:
        turn = Turn(self.core, default)
        self._scope = Scope(turn)
        self._scope.enter()
        return turn

    def give_up(self, error: BaseException) -> None:
        """End what was taken of a block that nobody will enter."""
        if self._lease is None:
            return
        if not hasattr(self, "core"):
            self.core = TurnCore(self._runtime, self._lease)
        self.exit(error)

    def exit(self, error: BaseException | None) -> None:
        try:
            self._exit(error)
        except TurnlockError:
            raise
        except BaseException:
            self._end_all_the_same()
            raise

    def _exit(self, error: BaseException | None) -> None:
        self._leave_scope()
        if self.core.lease.is_over_for_holder:
            self.core.leave()
            if error is None or passes_as_revoked(error) or _is_cancellation(error):
                raise self.core.revoked_error() from error
        elif error is None:
            self.core.succeed()
        else:
            self.core.fail(*cause(error))

    def _end_all_the_same(self) -> None:
        try:
            self._leave_scope()
            self.core.abandon()
        except BaseException:  # noqa: BLE001 - the one that came first is raised
            # Again, or the stack is used up: there is another one, where no signal raises.
            submit_or_run(self.core.abandon)

    def _leave_scope(self) -> None:
        if self._scope is not None:
            self._scope.leave()


def _is_cancellation(error: BaseException) -> bool:
    """Whether a task was cancelled: in a thread, one of a loop that ran inside of the block."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def cause(error: BaseException) -> tuple[str, str]:
    """(reason, error text) of the marker for what ended a block."""
    if isinstance(error, Exception):
        return "error", _described(error)
    # CancelledError, KeyboardInterrupt, GeneratorExit, SystemExit: somebody wanted it to end.
    return "cancelled", _described(error).rstrip(": ")


def _described(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception:  # noqa: BLE001 - code of its class, whose bug must not keep the session
        return name


def passes_as_revoked(error: BaseException) -> bool:
    """Whether `LeaseRevoked` stands for what a revoked block raised, as its most likely cause."""
    return isinstance(error, Exception) and not isinstance(error, LeaseRevoked)
