"""What `watch` does to a stream or a call: a deadline that moves with its content.

The deadline belongs to the lease and is enforced by the watchdog's thread, so that it holds for
code that blocks its thread or its event loop as well. When it passes, the turn is revoked with
reason ``model-limit``.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from typing import Any, NamedTuple

from ..errors import LeaseRevoked
from ..limits import check_limit
from .lease import Call
from .turn import TurnCore

IsContent = Callable[[Any], bool]


class Budget(NamedTuple):
    """``first``: seconds to the first content; ``idle``: between contents; None is no limit."""

    first: float | None
    idle: float | None
    what: str
    is_content: IsContent | None

    def with_limits(
        self, first: float | None, idle: float | None, content: IsContent | None, what: str
    ) -> Budget:
        """This budget with what a caller asked for. Raises `LimitsError`."""
        return Budget(
            self.first if first is None else check_limit("first", first),
            self.idle if idle is None else check_limit("idle", idle),
            what,
            content,
        )

    def counts(self, item: object) -> bool:
        return self.is_content is None or self.is_content(item)


def watch_stream(core: TurnCore, stream: Iterable[Any], budget: Budget) -> Iterator[Any]:
    core.check_revoked()
    return Watch(core, stream, budget, core.begin_call(budget.what, budget.first))


def watch_call(core: TurnCore, function: Callable[[], Any], budget: Budget) -> Any:
    """Call the function; when it gives a stream, the watch goes on over that."""
    core.check_revoked()
    call = core.begin_call(budget.what, budget.first)
    try:
        result = function()
    except BaseException:
        core.end_call(call)
        raise
    if isinstance(result, Iterator):
        return Watch(core, result, budget, call)
    core.end_call(call)
    core.check_revoked()
    core.progress(budget.what)
    return result


class Watch(Iterator[Any]):
    """A stream under limits, in a thread.

    No generator: one that was never begun would not end its call either.
    """

    def __init__(self, core: TurnCore, stream: Iterable[Any], budget: Budget, call: Call) -> None:
        self._core = core
        self._stream = stream
        self._budget = budget
        self._call = call
        self._items = iter(stream)

    def __next__(self) -> Any:
        try:
            item = next(self._items)
            self._core.check_revoked()
            if self._budget.counts(item):
                self._core.call_progressed(self._call, self._budget.idle)
        except BaseException:
            self.close()
            raise
        return item

    def close(self) -> None:
        """End the watch, and the stream under it if that can be closed. May be called twice."""
        self._core.end_call(self._call)
        self._items = iter(())
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()

    def __del__(self) -> None:
        self.close()


class AsyncWatch:
    """Awaitable and async iterable: of a stream, an awaitable, or an awaitable of a stream.

    ``await`` gives the result, which is again watched when it is a stream; ``async for`` goes over
    the stream. The time before the headers of a response counts as time to the first content.
    Raises `LeaseRevoked` when the turn is over already, before anything is asked of the source.
    """

    def __init__(self, core: TurnCore, source: Any, budget: Budget) -> None:
        try:
            core.check_revoked()
        except LeaseRevoked:
            # Or Python would warn that nobody awaited it.
            if isinstance(source, Coroutine):
                source.close()
            raise
        self._core = core
        self._source = source
        self._budget = budget
        self._call = core.begin_call(budget.what, budget.first)

    def __del__(self) -> None:
        # Nobody went on with it.
        call = getattr(self, "_call", None)
        if call is not None:
            self._core.end_call(call)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._resolve().__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate()

    async def aclose(self) -> None:
        """End the watch, and the stream under it."""
        self._core.end_call(self._call)
        await close_stream(self._source)

    async def _resolve(self) -> Any:
        try:
            result = await self._source
        except BaseException:
            self._core.end_call(self._call)
            raise
        if hasattr(result, "__aiter__"):
            self._source = result
            return self
        self._core.end_call(self._call)
        # A task that swallowed its cancellation gets no answer to go on with.
        self._core.check_revoked()
        self._core.progress(self._budget.what)
        return result

    async def _iterate(self) -> AsyncIterator[Any]:
        if isinstance(self._source, Awaitable) and not hasattr(self._source, "__aiter__"):
            await self._resolve()
        try:
            self._core.check_revoked()
            async for item in self._source:
                self._core.check_revoked()
                if self._budget.counts(item):
                    self._core.call_progressed(self._call, self._budget.idle)
                yield item
        finally:
            self._core.end_call(self._call)
            await close_stream(self._source)


async def close_stream(stream: Any) -> None:
    """Close what has something to close."""
    # openai's streams have close, generators have aclose; a plain iterator has neither.
    close = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    if close is not None:
        closing = close()
        if isinstance(closing, Awaitable):
            await closing
