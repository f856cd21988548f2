"""The turn of a run: one that is open already, or one of the run's own.

A run's hooks are called in a task of the framework's, while the run itself goes on in its caller's.
A turn that was entered in the former would, revoked, cancel the wrong one. So a task of its own
keeps the turn; the run is cancelled by its own means (`RunContext.cancel`), and that task hears of
the run's end and ends the turn accordingly.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from weakref import WeakSet

from ...block import TurnBlock
from ...errors import AlreadyHeld
from ...store import Store
from ...turns.aio import AsyncTurn, learn_outcome
from ...turns.lease import Lease
from ...turns.scope import Scope, current_turn, turn_on

# Held by turns that have a run in them. A second one would mix its messages with the first one's.
_running: WeakSet[Lease] = WeakSet()


def turn_around(store: Store, key: str) -> AsyncTurn | None:
    """The turn on this session that the caller is in, task or thread, if there is one."""
    around = turn_on(store.identity(key))
    return None if around is None else AsyncTurn(around._core, around._default)


@contextlib.asynccontextmanager
async def turn_for_run(
    around: AsyncTurn | None, block: TurnBlock, cancel: Callable[[], object]
) -> AsyncIterator[AsyncTurn]:
    """The turn ``around`` the caller, if there is one, else that of ``block``.

    ``cancel`` is called, from any thread, once the turn is revoked. Raises `AlreadyHeld` where
    there is a run in the turn already, and what entering a turn raises.
    """
    if around is not None:
        async with _running_in(around, cancel) as turn:
            with _current(turn):
                yield turn
        return
    async with _kept(block) as kept, _running_in(kept, cancel) as turn:
        yield turn


@contextlib.asynccontextmanager
async def _running_in(turn: AsyncTurn, cancel: Callable[[], object]) -> AsyncIterator[AsyncTurn]:
    lease = turn._core.lease
    if lease in _running:
        raise AlreadyHeld(lease.label, lease.turn_id)
    _running.add(lease)
    lease.on_revoked.append(cancel)
    try:
        if lease.is_over_for_holder:
            # It was revoked before it could be said whom to tell.
            cancel()
        yield turn
    finally:
        _running.discard(lease)
        with contextlib.suppress(ValueError):
            lease.on_revoked.remove(cancel)


@contextlib.contextmanager
def _current(turn: AsyncTurn) -> Iterator[None]:
    """The current turn is this one, and not one on another session that was opened within it."""
    scope = Scope(turn)
    inner = current_turn()
    if inner is None or inner.identity != turn.identity:
        scope.enter()
    try:
        yield
    finally:
        scope.leave()


@contextlib.asynccontextmanager
async def _kept(block: TurnBlock) -> AsyncIterator[AsyncTurn]:
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[AsyncTurn] = loop.create_future()
    over: asyncio.Future[BaseException | None] = loop.create_future()
    keeper = asyncio.create_task(_keep(block, opened, over), name="turnlock: the turn of a run")
    turn = await _opened(keeper, opened)
    scope = Scope(turn)
    scope.enter()
    failure: BaseException | None = None
    try:
        yield turn
    except BaseException as error:
        failure = error
        raise
    finally:
        scope.leave()
        if not loop.is_closed():
            over.set_result(failure)
            await _ended(keeper, failure)
        # Or this frame, of which the failure's traceback knows, and it keep each other alive.
        del failure


async def _keep(
    block: TurnBlock,
    opened: asyncio.Future[AsyncTurn],
    over: asyncio.Future[BaseException | None],
) -> None:
    async with block as turn:
        opened.set_result(turn)
        try:
            failure = await asyncio.shield(over)
        except asyncio.CancelledError:
            if turn.revoked:
                # The holder is the run, and it has not left yet.
                await asyncio.wait((over,))
            raise
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            # A task that raises KeyboardInterrupt stops its loop, and here nobody is to be stopped.
            raise asyncio.CancelledError(type(failure).__name__)


async def _opened(keeper: asyncio.Task[None], opened: asyncio.Future[AsyncTurn]) -> AsyncTurn:
    try:
        await asyncio.wait((keeper, opened), return_when=asyncio.FIRST_COMPLETED)
    except BaseException:
        keeper.cancel()
        await asyncio.wait((keeper,))
        raise
    if not opened.done():
        keeper.result()
    return opened.result()


async def _ended(keeper: asyncio.Task[Any], failure: BaseException | None) -> None:
    """Wait for the terminal entry. What ended the run is what its caller hears of."""
    try:
        await learn_outcome(keeper, lambda: False)
    except BaseException:
        if failure is None:
            raise
