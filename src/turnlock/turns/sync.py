"""The face of a turn for threads: ``with store.turn(key) as turn:``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..backends import Backend
from ..errors import LeaseRevoked
from ..transcript.history import Message
from .face import TurnFace
from .frames import thread_frames
from .runtime import Runtime
from .scope import Scope
from .taking import Wanted, take_blocking
from .turn import TurnCore
from .watching import Budget, IsContent, watch_call, watch_stream


class Turn(TurnFace):
    """One exclusive piece of work on a session, in a thread.

    Every method raises `LeaseRevoked` once the session was taken from the turn, and nothing is
    written then. ``append`` raises `StoreError` when the storage fails and `TranscriptError` for
    what is no entry; in both cases nothing was acknowledged.
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
        """Say that the turn is getting on; ``what`` becomes its phase."""
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

        None takes the store's ``limits.first_token`` and ``limits.idle``. A function without
        arguments is called under ``first``; the stream that it returns is watched further.
        ``content`` says which items are progress (default: all). When a limit passes, the turn is
        revoked with reason ``model-limit``. A thread cannot be cancelled: one that blocks becomes
        a zombie, whose writes are refused, and the session goes on without it.
        """
        budget = self._default.with_limits(first, idle, content, what)
        if callable(stream):
            return watch_call(self._core, stream, budget)
        return watch_stream(self._core, stream, budget)


class OpenTurn:
    """The block of a `Turn`: takes, runs, ends."""

    def __init__(self, runtime: Runtime, backend: Backend[Any], want: Wanted) -> None:
        frames = thread_frames(threading.get_ident())
        self.core = TurnCore(runtime, take_blocking(runtime, backend, want, frames))
        self._scope: Scope | None = None
        try:
            self.core.settle()
        except BaseException as error:
            self.core.fail(*cause(error))
            raise

    def enter(self, default: Budget) -> Turn:
        turn = Turn(self.core, default)
        self._scope = Scope(turn)
        self._scope.enter()
        return turn

    def exit(self, error: BaseException | None) -> None:
        if self._scope is not None:
            self._scope.leave()
        if self.core.lease.is_over_for_holder:
            self.core.leave()
            if error is None or passes_as_revoked(error):
                raise self.core.revoked_error() from error
        elif error is None:
            self.core.succeed()
        else:
            self.core.fail(*cause(error))


def cause(error: BaseException) -> tuple[str, str]:
    """(reason, error text) of the marker for what ended a block."""
    if isinstance(error, Exception):
        return "error", f"{type(error).__name__}: {error}"
    # CancelledError, KeyboardInterrupt, GeneratorExit, SystemExit: somebody wanted it to end.
    return "cancelled", f"{type(error).__name__}: {error}".rstrip(": ")


def passes_as_revoked(error: BaseException) -> bool:
    """Whether `LeaseRevoked` stands for what a revoked block raised, as its most likely cause."""
    return isinstance(error, Exception) and not isinstance(error, LeaseRevoked)
