"""The block of a turn: ``with``, ``async with``, or the decorator of a function."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .errors import InvalidSessionKey, TurnlockError
from .session import SessionKey, parse_key
from .turns.sync import OpenTurn, Turn
from .turns.taking import Wanted

if TYPE_CHECKING:
    from inspect import Signature

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
        # Emptied by the one that enters, or waits to: two would be one turn to all others.
        self._unused = [None]

    def __enter__(self) -> Turn:
        want = self._use()
        block: OpenTurn | None = None
        try:
            block = self._store._open(want)
            block.take()
            self._open = block
            return block.enter(self._store._budget())
        except BaseException as error:
            # Also what a signal's handler raises: Python calls no __exit__ of a failed __enter__.
            self._open = None
            self._unused.append(None)
            if block is not None:
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
            self._renew()

    async def __aenter__(self) -> AsyncTurn:
        want = self._use()
        try:
            block = self._store._open_async(want)
            await block.take()
        except BaseException:
            self._unused.append(None)
            raise
        self._open = block
        return block.enter(self._store._budget())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block, self._open = self._open, None
        try:
            await cast("OpenAsyncTurn", block).exit(error)
        finally:
            self._renew()

    def __call__(self, function: F) -> F:
        import inspect

        signature = inspect.signature(function)
        self._check_function(function, signature)

        def block(args: tuple[Any, ...], kwargs: dict[str, Any]) -> TurnBlock:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            want = self._want.renewed()
            if self._template is not None:
                want = want._replace(session=_filled_in(self._template, bound.arguments))
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

    def _check_function(self, function: Callable[..., Any], signature: Signature) -> None:
        import inspect

        name = getattr(function, "__name__", repr(function))
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TurnlockError(
                f"{name}() is a generator: it runs when its caller iterates, and the"
                " decorator's turn is over then; take the turn in it, by 'with' or 'async with'"
            )
        if self._want.opening is not None:
            raise TurnlockError(
                f"turn_id={self._want.turn_id!r} names one turn, and every call of"
                f" {name}() is another: leave it out"
            )
        if self._template is not None:
            _check_template(self._template, signature)

    def _use(self) -> Wanted:
        if self._template is not None:
            raise InvalidSessionKey(self._template, "only a decorator fills in its braces")
        try:
            self._unused.pop()
        except IndexError:
            raise TurnlockError(
                "this turn is open already, or waited for: call store.turn() once for each turn"
            ) from None
        return self._want.tried()

    def _renew(self) -> None:
        self._want = self._want.renewed()
        self._unused.append(None)


def _check_template(template: str, signature: Signature) -> None:
    import string

    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template)]
    except ValueError as error:
        raise InvalidSessionKey(template, f"{error}") from None
    for field in fields:
        if field is None:
            continue
        name = re.split(r"[.[]", field, maxsplit=1)[0]
        if name not in signature.parameters:
            names = ", ".join(signature.parameters) or "none"
            why = f"'{{{field}}}' names no argument of the function, which are: {names}"
            raise InvalidSessionKey(template, why)


def _filled_in(template: str, arguments: Mapping[str, Any]) -> SessionKey:
    try:
        text = template.format(**arguments)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        why = f"it cannot be filled in: {type(error).__name__}: {error}"
        raise InvalidSessionKey(template, why) from error
    return parse_key(text)
