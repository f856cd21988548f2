"""The face of a turn for tasks: ``async with store.turn(key) as turn:``.

File work never runs on the event loop: every operation that touches storage is done by a worker. A
task that is cancelled while its append is under way learns the outcome before the cancellation
passes on, or nobody would know whether the entry is there.

Taking is done by workers from the grant on, without the loop: a waiter whose loop is blocked must
not stop those behind it for longer than its own hold limit.

Revocation cancels the task, and takes that cancellation back (`asyncio.Task.uncancel`) when the
block raises `LeaseRevoked` for it, as `asyncio.timeout` does. A cancellation from outside stays
one.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, TypeVar

from ..backends import Backend, BackendLease
from ..errors import StoreError
from ..transcript.history import Message
from .face import TurnFace
from .frames import task_frames
from .lease import State
from .queue import Ticket, queues
from .runtime import Runtime, closed_error
from .scope import Scope
from .sync import cause, passes_as_revoked
from .taking import Attempt, Wanted, begin, busy_here, enter_queue, undo
from .turn import TurnCore
from .watching import AsyncWatch, Budget, IsContent
from .workers import submit_or_run, workers

T = TypeVar("T")

# How long a cancelled task waits to learn the outcome of an append that it had begun.
_OUTCOME_TIMEOUT = 5.0


def on_worker(job: Callable[[], T], *, or_here: bool = False) -> asyncio.Future[T]:
    """Run a job on a worker; a future of the running loop for its result.

    Where the system gives no thread any more: raises `StoreError`, or with ``or_here`` blocks the
    loop, for what must be done all the same.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        result: T | None = None
        problem: BaseException | None = None
        try:
            result = job()
        except BaseException as error:  # noqa: BLE001 - it belongs to who awaits the future
            problem = error
        call_on_loop(loop, lambda: deliver(future, result, problem))

    # Whoever stopped waiting for the outcome does not want a warning about it either.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        workers.submit(run)
    except RuntimeError as error:
        if not or_here:
            raise no_thread("worker", "start", error) from error
        run()
    return future


def no_thread(path: str, operation: str, error: RuntimeError) -> StoreError:
    why = f"there is no thread for it: {error}"
    return StoreError(path, operation, why, "raise the limit of threads")


def deliver(future: asyncio.Future[Any], result: Any, problem: BaseException | None) -> bool:
    """Complete a future unless nobody wants it any more; whether it did."""
    if future.done():
        return False
    if problem is not None:
        future.set_exception(problem)
    else:
        future.set_result(result)
    return True


def call_on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
    """Have a loop call something, from any thread; False when the loop is closed."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True


class AwaitableEpoch(int):
    """A turn's epoch. Awaiting it makes the turn's opening durable, and gives the plain number."""

    _make_durable: Callable[[], Awaitable[int]]

    def __await__(self) -> Generator[Any, None, int]:
        return self._make_durable().__await__()


class _Done:
    """What `progress` returns in a task: there is nothing left to wait for."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_DONE = _Done()


class AsyncTurn(TurnFace):
    """One exclusive piece of work on a session, in a task. As `Turn`, but awaited."""

    @property
    def epoch(self) -> AwaitableEpoch:
        """The turn's fencing number in its session.

        ``await turn.epoch`` makes the turn's opening durable first. Only then is the number the
        turn's for ever; do that before you hand it to anything.
        """
        epoch = AwaitableEpoch(self._core.epoch)
        epoch._make_durable = lambda: self._run(self._core.open)
        return epoch

    async def append(self, *entries: Mapping[str, Any]) -> list[str]:
        """Append the entries as one; their ids, in order, once they are durable."""
        return await self._run(lambda: self._core.append(entries))

    async def messages(self) -> list[Message]:
        """The session's history as OpenAI-style messages, oldest first, without markers."""
        return await self._run(self._core.messages)

    def progress(self, what: str = "") -> Awaitable[None]:
        """Say that the turn is getting on. Done when called; awaiting it is allowed, not needed."""
        self._core.check_revoked()
        self._core.progress(what)
        return _DONE

    async def check(self) -> None:
        """Raises `LeaseRevoked` unless the turn still holds its session, as the storage says."""
        await self._run(self._core.check)

    def watch(
        self,
        source: Any,
        *,
        first: float | None = None,
        idle: float | None = None,
        content: IsContent | None = None,
        what: str = "model",
    ) -> AsyncWatch:
        """An awaitable or an async stream under limits; ``await`` it or ``async for`` over it.

        ``first`` seconds to the first item, headers and all; ``idle`` between items, with what you
        do before you ask for the next one; None takes the store's ``limits.first_token`` and
        ``limits.idle``. When a limit passes, the turn is revoked with reason ``model-limit`` and
        its task is cancelled.
        """
        budget = self._default.with_limits(first, idle, content, what)
        return AsyncWatch(self._core, source, budget)

    async def _run(self, job: Callable[[], T]) -> T:
        return await learn_outcome(on_worker(job), lambda: self._core.lease.is_revoked)


async def learn_outcome(future: asyncio.Future[T], hopeless: Callable[[], bool]) -> T:
    """Await a job; when cancelled, wait for its end first, unless it is hopeless."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        deadline = asyncio.get_running_loop().time() + _OUTCOME_TIMEOUT
        while not future.done() and not hopeless():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            try:
                await asyncio.wait({future}, timeout=left)
            except asyncio.CancelledError:
                continue
        raise


class _Taking:
    """Takes a session for the running task; everything from the grant on happens on workers."""

    def __init__(self, runtime: Runtime, backend: Backend[Any], want: Wanted) -> None:
        self._runtime = runtime
        self._backend = backend
        self._want = want
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[TurnCore] = self._loop.create_future()
        self._started = runtime.clock.monotonic()
        task = asyncio.current_task()
        assert task is not None
        self._frames = task_frames(task, threading.get_ident())
        self._task = task
        owner = ("task", task)
        identity = backend.identity(want.session)
        self._ticket = ticket = Ticket(identity, owner, want.turn_id, self._on_grant)
        self._attempt = Attempt(runtime, backend, want, started=self._started, ticket=ticket)
        # Emptied by the one that takes the session or gives it up: a grant may be told twice.
        self._to_begin = [None]

    async def run(self) -> TurnCore:
        timer = None
        self._runtime.watchdog.start()
        try:
            enter_queue(self._runtime, self._want, self._ticket)
            if self._ticket.granted:
                if self._on_grant():
                    queues.leave(self._ticket)
                return await self._future
            if math.isfinite(self._want.wait):
                timer = self._loop.call_later(self._want.wait, self._on_timeout)
            with self._runtime.waiting(self._want.session, self._on_close):
                return await self._future
        except BaseException:
            self._give_up()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _give_up(self) -> None:
        """Nobody awaits the session any more, whether it has come already or not."""
        self._attempt.give_up()
        if self._may_begin():
            queues.leave(self._ticket)
        try:
            self._future.cancel()
        except RuntimeError:
            # The loop is closed. The future is cancelled all the same; nobody can be told.
            pass
        if not self._future.cancelled() and self._future.exception() is None:
            # It came, and the cancellation came before the task ran again.
            submit_or_run(self._future.result().discard)

    def _on_grant(self) -> bool:
        """Take the session on a worker; True when nobody will, and the place is to be left."""
        if self._loop.is_closed():
            # Nobody will ever run the task again.
            return True
        try:
            workers.submit(self._take)
        except RuntimeError as error:
            problem = no_thread(str(self._want.session), "take", error)
            if self._may_begin():
                call_on_loop(self._loop, lambda: deliver(self._future, None, problem))
                return True
        return False

    def _on_timeout(self) -> None:
        if not queues.give_up(self._ticket):
            return
        problem: Exception
        try:
            problem = busy_here(self._runtime, self._want, self._ticket, self._started)
        except Exception as error:  # noqa: BLE001 - it belongs to who awaits the future
            problem = error
        deliver(self._future, None, problem)

    def _on_close(self) -> None:
        problem = closed_error(str(self._want.session))
        call_on_loop(self._loop, lambda: deliver(self._future, None, problem))

    def _may_begin(self) -> bool:
        """Whether the caller is the one that takes the session, or gives it up."""
        try:
            self._to_begin.pop()
        except IndexError:
            return False
        return True

    def _take(self) -> None:
        if not self._may_begin():
            return
        core: TurnCore | None = None
        problem: BaseException | None = None
        try:
            core = self._taken()
        except BaseException as error:  # noqa: BLE001 - it belongs to who awaits the future
            problem = error
        if not call_on_loop(self._loop, lambda: self._deliver(core, problem)) and core is not None:
            core.discard()

    def _taken(self) -> TurnCore | None:
        """The turn; None when it was given up meanwhile. Of one that fails nothing is left."""
        held: BackendLease | None = None
        try:
            self._runtime.check_open(self._want.session)
            held = self._attempt.run()
            if held is None:
                queues.leave(self._ticket)
                return None
            lease = begin(
                self._runtime,
                self._backend,
                self._want,
                self._ticket,
                held,
                self._started,
                self._frames,
            )
        except BaseException:
            undo(self._runtime, self._backend, self._ticket, held)
            raise
        core = TurnCore(self._runtime, lease)
        try:
            core.settle()
        except BaseException as error:
            core.fail(*cause(error))
            raise
        return core

    def _deliver(self, core: TurnCore | None, problem: BaseException | None) -> None:
        if not deliver(self._future, core, problem) and core is not None:
            # The task was cancelled in the moment in which it got the session.
            submit_or_run(core.discard)


class OpenAsyncTurn:
    """The block of an `AsyncTurn`: takes, runs, ends."""

    def __init__(self, runtime: Runtime, backend: Backend[Any], want: Wanted) -> None:
        self._runtime = runtime
        self._backend = backend
        self._want = want
        self._scope: Scope | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled_by_us = False
        self._cancelling = 0

    async def take(self) -> None:
        core = await _Taking(self._runtime, self._backend, self._want).run()
        self.core = core
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        core.lease.on_revoked.append(lambda: call_on_loop(self._loop, self._cancel_task))
        core.lease.is_orphan = _orphaned(self._loop, self._task)
        if core.lease.is_over_for_holder:
            self._loop.call_soon(self._cancel_task)

    def enter(self, default: Budget) -> AsyncTurn:
        turn = AsyncTurn(self.core, default)
        self._scope = Scope(turn)
        self._scope.enter()
        return turn

    async def exit(self, error: BaseException | None) -> None:
        task, self._task = self._task, None
        if self._scope is not None:
            self._scope.leave()
        core = self.core
        if asyncio._get_running_loop() is None:
            # The coroutine is thrown away, its loop is gone: nobody could await the end.
            submit_or_run(self._ending(error))
        elif core.lease.is_over_for_holder:
            await self._leave(task, error)
        else:
            await self._finish(self._ending(error))

    def _ending(self, error: BaseException | None) -> Callable[[], None]:
        core = self.core
        if error is None:
            return core.succeed
        reason, text = cause(error)
        return lambda: core.fail(reason, text)

    async def _leave(self, task: asyncio.Task[Any] | None, error: BaseException | None) -> None:
        cancelled: asyncio.CancelledError | None = None
        try:
            await learn_outcome(on_worker(self.core.leave, or_here=True), lambda: False)
        except asyncio.CancelledError as late:
            # Perhaps it is ours: it was on its way when the block ended by itself.
            cancelled = late
        self._exit_revoked(task, cancelled or error)
        if cancelled is not None:
            raise cancelled

    def _exit_revoked(self, task: asyncio.Task[Any] | None, error: BaseException | None) -> None:
        by_us = isinstance(error, asyncio.CancelledError)
        if self._cancelled_by_us and task is not None:
            # Ours is taken back whatever the block made of it; somebody else's is left standing,
            # as asyncio.timeout leaves it.
            only_us = task.uncancel() <= self._cancelling
            by_us = by_us and only_us
        elif by_us:
            by_us = False
        if error is None or by_us or passes_as_revoked(error):
            raise self.core.revoked_error() from error

    async def _finish(self, job: Callable[[], None]) -> None:
        lease = self.core.lease
        future = on_worker(job, or_here=True)
        hung = asyncio.get_running_loop().create_future()
        lease.on_revoked.append(lambda: call_on_loop(self._loop, lambda: deliver(hung, None, None)))
        try:
            await learn_outcome(_first(future, hung), lambda: lease.state is State.REVOKED)
        finally:
            hung.cancel()
        if future.done():
            future.result()
        else:
            # The terminal entry hangs on a disk; the session went on without it.
            await on_worker(self.core.leave, or_here=True)
            raise self.core.revoked_error()

    def _cancel_task(self) -> None:
        if self._task is not None and not self._cancelled_by_us:
            self._cancelled_by_us = True
            self._task.cancel(f"turn revoked: {self.core.lease.reason}")


def _orphaned(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> Callable[[], bool]:
    """Whether the task can never run again. One that is done may have left its block to another."""
    return lambda: loop.is_closed() and not task.done()


def _first(*futures: asyncio.Future[Any]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED))


__all__ = ["AsyncTurn", "OpenAsyncTurn"]
