"""Which turn a thread or task is in.

A context outlives the block that was entered in it: tasks and threads start with copies of it, and
an async generator that nobody closed is closed by its loop, in another one. So a context holds a
`Scope` and not the turn, and the block that is left empties it for everybody. What was copied then
names the turn around it, and keeps no lease and no descriptor alive.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any


class Scope:
    """A turn's block, as contexts know it."""

    __slots__ = ("_token", "outer", "turn")

    def __init__(self, turn: Any) -> None:
        self.turn = turn
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
