"""Which turn a thread or task is in.

A context outlives the block that was entered in it: tasks and threads start with copies of it, and
an async generator that nobody closed is closed by its loop, in another one. So a context holds a
`Scope` and not the turn, and the block that is left empties it for everybody. What was copied then
names the turn around it, and keeps no lease and no descriptor alive.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import ContextVar, Token
from typing import Any


class Scope:
    """A turn's block, as contexts know it."""

    __slots__ = ("_token", "identity", "outer", "turn", "turn_id")

    def __init__(self, turn: Any) -> None:
        self.turn = turn
        self.turn_id: str = turn.turn_id
        self.identity: Hashable = turn.identity
        self.outer = _innermost()
        self._token: Token[Scope | None] | None = None

    def enter(self) -> None:
        self._token = _current.set(self)

    def leave(self) -> None:
        """From any context; a second call does nothing."""
        self.turn = None
        token, self._token = self._token, None
        if token is None:
            return
        try:
            _current.reset(token)
        except ValueError:
            # Entered in another context, which finds out by itself that the block was left.
            pass


_current: ContextVar[Scope | None] = ContextVar("turnlock_turn", default=None)


def _innermost() -> Scope | None:
    scope = _current.get()
    while scope is not None and scope.turn is None:
        scope = scope.outer
    return scope


def current_turn() -> Any:
    """The innermost open turn of this task or thread, or None."""
    scope = _innermost()
    return None if scope is None else scope.turn


def turn_on(identity: Hashable) -> Any:
    """The innermost open turn on a session of this task or thread, or None.

    ``identity``: the session's, from its backend. Turns on other sessions may be open within it.
    """
    scope = _current.get()
    while scope is not None and (scope.turn is None or scope.identity != identity):
        scope = scope.outer
    return None if scope is None else scope.turn


def turn_left(identity: Hashable) -> str | None:
    """The turn on a session in which this task or thread was started, if that turn is over.

    ``identity``: the session's, from its backend. What such a task still writes is late: it belongs
    to that turn, and to no other.
    """
    scope = _current.get()
    while scope is not None and scope.identity != identity:
        scope = scope.outer
    return scope.turn_id if scope is not None and scope.turn is None else None
