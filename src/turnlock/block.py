"""The block of a turn: ``with``, ``async with``, or the decorator of a function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .errors import InvalidSessionKey, TurnlockError
from .session import parse_key
from .turns.sync import OpenTurn, Turn
from .turns.taking import Wanted

if TYPE_CHECKING:
    from .store import Store
    from .turns.aio import AsyncTurn, OpenAsyncTurn

F = TypeVar("F", bound=Callable[..., Any])


class TurnBlock:
    """What `Store.turn` returns: enter it with ``with`` or ``async with``, or decorate with it."""

    def __init__(
        self,
        store: Store,
        want: Wanted,
        template: str | None = None,
    ) -> None:
        self._store = store
        self._want = want
        self._template = template
        self._open: OpenTurn | OpenAsyncTurn | None = None

    def __enter__(self) -> Turn:
        block = self._store._open(self._wanted())
        try:
            block.take()
            self._open = block
            return block.enter(self._store._budget())
        except BaseException as error:
            self._open = None
            block.give_up(error)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block, self._open = self._open, None
        try:
            cast("OpenTurn", block).exit(error)
        finally:
            self._want = self._want.renewed()

    async def __aenter__(self) -> AsyncTurn:
        block = self._store._open_async(self._wanted())
        await block.take()
        self._open = block
        return block.enter(self._store._budget())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block, self._open = self._open, None
        self._want = self._want.renewed()
        await cast("OpenAsyncTurn", block).exit(error)

    def __call__(self, function: F) -> F:
        import inspect

        signature = inspect.signature(function)

        def block(args: tuple[Any, ...], kwargs: dict[str, Any]) -> TurnBlock:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            want = self._want.renewed()
            if self._template is not None:
                key = parse_key(self._template.format(**bound.arguments))
                want = want._replace(session=key)
            return TurnBlock(self._store, want)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def in_async_turn(*args: Any, **kwargs: Any) -> Any:
                async with block(args, kwargs):
                    return await function(*args, **kwargs)

            return cast("F", in_async_turn)

        @functools.wraps(function)
        def in_turn(*args: Any, **kwargs: Any) -> Any:
            with block(args, kwargs):
                return function(*args, **kwargs)

        return cast("F", in_turn)

    def _wanted(self) -> Wanted:
        if self._open is not None:
            raise TurnlockError("this turn is open already: call store.turn() once for each turn")
        if self._template is not None:
            raise InvalidSessionKey(self._template, "only a decorator fills in its braces")
        return self._want
