"""One request on its way to a reply, and all that are on theirs.

The work runs in a task of its own, so that the client, the limits and a shutdown can each end the
exchange without waiting for it: code that ignores its cancellation keeps its task, but nobody's
answer. What the client gets is the outcome, and that is set

* when the task has ended, and so after the turn's terminal entry is durable and its lease is free;
* for a turn that was revoked, when the store reports the revocation complete, for the same reason;
* at once for a call without a session, which leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

from ..errors import LeaseRevoked
from ..events import Event, TurnRevoked
from ..models import Model
from ..turns.aio import call_on_loop
from .errors import ClientLeft, Explainer, Refusal

logger = logging.getLogger("turnlock")


class Reply(NamedTuple):
    """A complete reply."""

    text: str
    reason: str
    usage: Mapping[str, int] | None


R = TypeVar("R")


class Phase(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHING = "finishing"


class Exchange(Generic[R]):
    """Ends in an ``R``, such as a `Reply`, or in a `Refusal`.

    ``identity`` is also the turn's id; ``session`` is None for a call that stores nothing.
    ``repeated``: the reply was given before, to this very message; known before its first piece.
    ``client`` is the address of who asked. ``on_lost`` is told the message (its entry's id) whose
    client left without an answer.
    """

    def __init__(
        self,
        identity: str,
        session: str | None,
        explain: Explainer,
        *,
        hand_over: float,
        client: str | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        self.identity = identity
        self.session = session
        self.client = client
        self.phase = Phase.WAITING if session is not None else Phase.RUNNING
        self.stored = False
        self.repeated = False
        self.question: str | None = None
        self.outcome: asyncio.Future[R | Refusal] = asyncio.get_running_loop().create_future()
        self._explain = explain
        self._hand_over = hand_over
        self._on_lost = on_lost
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._began = False
        self._cause: Exception | None = None
        self._task: asyncio.Task[R] | None = None

    # For the work

    def say(self, text: str) -> None:
        """A piece of the reply, for a client that streams. Never blocks the turn on a client."""
        self._began = True
        self._pieces.put_nowait(text)

    def thinks(self) -> None:
        """The model reasons: it has begun, and there is nothing to say yet."""
        self._began = True

    # For who answers the client

    async def next(self, patience: float) -> str | None:
        """The next piece; empty when none came in ``patience`` seconds, None at the end."""
        if not self._pieces.empty():
            return self._pieces.get_nowait()
        try:
            async with asyncio.timeout(patience):
                return await self._pieces.get()
        except TimeoutError:
            return ""

    def client_left(self) -> None:
        """The client waits no more: what it asked for is cancelled."""
        if self.question is not None and self._on_lost is not None:
            self._on_lost(self.question)
        self.cancel(ClientLeft())

    # For who ends it

    def run(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Start the work in a named task."""
        name = f"turn {self.identity} of {self.session or 'no session'}"
        self._task = asyncio.get_running_loop().create_task(work, name=name)
        self._task.add_done_callback(self._on_done)
        return self._task

    def cancel(self, cause: Exception) -> None:
        """Cancel the work; ``cause`` is the outcome, once its turn has come to an end.

        Does nothing once the reply is complete: storing it is quick, and worth more.
        """
        if self.outcome.done() or self._task is None or self.phase is Phase.FINISHING:
            return
        self._cause = self._cause or cause
        if self.session is None:
            self.cut(cause)
        else:
            self._task.cancel(str(cause))

    def cut(self, error: Exception) -> None:
        """End with an error now, whatever becomes of the work; it is cancelled."""
        self.fail(error)
        if self._task is not None:
            self._task.cancel(str(error))

    def fail(self, error: BaseException) -> None:
        """End with an error now."""
        if self.outcome.done():
            return
        refusal = self._explain.refusal(
            error, stored=self.stored, began=self._began, turn=self.identity
        )
        self._end(refusal)
        logger.log(
            logging.WARNING if refusal.status > 500 else logging.INFO,
            "turn %s of %s ended without a reply: %s: %s",
            self.identity,
            self.session or "no session",
            refusal.code,
            refusal.message,
        )

    def revoked(self, event: TurnRevoked) -> None:
        """The store has fenced, marked and freed this exchange's turn."""
        self.fail(self._cause or _as_error(event))

    def _on_done(self, task: asyncio.Task[R]) -> None:
        if task.cancelled():
            self.fail(self._cause or ClientLeft())
            return
        error = task.exception()
        if error is None:
            self._end(task.result())
        elif isinstance(error, LeaseRevoked):
            # The holder is told when the fence is up, which is before the marker is written.
            asyncio.get_running_loop().call_later(self._hand_over, self.fail, error)
        else:
            self.fail(error)
        if error is not None and self._is_a_surprise():
            logger.error("turn %s failed: %r", self.identity, error, exc_info=error)

    def _is_a_surprise(self) -> bool:
        if not self.outcome.done():
            return False
        outcome = self.outcome.result()
        return isinstance(outcome, Refusal) and outcome.status == 500

    def _end(self, outcome: R | Refusal) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)
            self._pieces.put_nowait(None)


class ExchangeCounts(NamedTuple):
    """Requests for a turn or a reply. ``under_way`` and, of those, ``waiting`` for their sessions
    are of this moment; ``begun``, ``answered`` and ``refused`` since the start.
    """

    under_way: int
    waiting: int
    begun: int
    answered: int
    refused: int


class Exchanges:
    """All exchanges whose client has no outcome yet; belongs to one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[str, Exchange[Any]] = {}
        self._working: dict[asyncio.Task[Any], Model | None] = {}
        self._begun = self._refused = 0
        self._none_left = asyncio.Event()
        self._none_left.set()

    def start(
        self, exchange: Exchange[R], work: Coroutine[Any, Any, R], model: Model | None = None
    ) -> None:
        """Register the exchange, then run its work, which uses ``model``."""
        self._under_way[exchange.identity] = exchange
        self._begun += 1
        self._none_left.clear()
        exchange.outcome.add_done_callback(lambda _: self._forget(exchange))
        task = exchange.run(work)
        self._working[task] = model
        task.add_done_callback(self._working.pop)

    async def until_unused(self, model: Model) -> None:
        """Wait until no work uses the model, of exchanges that have their outcome too."""
        while users := [task for task, used in self._working.items() if used is model]:
            await asyncio.wait(users)

    def clients(self) -> dict[str, str | None]:
        """Who waits for the outcome of which turn."""
        return {one.identity: one.client for one in self._under_way.values()}

    def waiting_for(self, session: str) -> dict[str, str | None]:
        """The same, of those that have not got this session yet; who came first comes first."""
        return {
            one.identity: one.client
            for one in self._under_way.values()
            if one.phase is Phase.WAITING and one.session == session
        }

    def counts(self) -> ExchangeCounts:
        left = len(self._under_way)
        answered = self._begun - self._refused - left
        return ExchangeCounts(left, self.waiting, self._begun, answered, self._refused)

    @property
    def waiting(self) -> int:
        """How many have not got their session yet."""
        return sum(one.phase is Phase.WAITING for one in self._under_way.values())

    def cancel(self, cause: Callable[[], Exception], *, only: Phase | None = None) -> None:
        for exchange in list(self._under_way.values()):
            if only is None or exchange.phase is only:
                exchange.cancel(cause())

    async def ended(self, patience: float) -> bool:
        """Wait until none is under way, at most so many seconds; whether none is."""
        try:
            async with asyncio.timeout(patience):
                await self._none_left.wait()
        except TimeoutError:
            return False
        return True

    def on_event(self, event: Event) -> None:
        """A subscriber of the store's events, for any thread."""
        if isinstance(event, TurnRevoked):
            call_on_loop(self._loop, lambda: self._on_revoked(event))

    def _on_revoked(self, event: TurnRevoked) -> None:
        exchange = self._under_way.get(event.turn_id)
        if exchange is not None:
            exchange.revoked(event)

    def _forget(self, exchange: Exchange[Any]) -> None:
        self._refused += isinstance(exchange.outcome.result(), Refusal)
        del self._under_way[exchange.identity]
        if not self._under_way:
            self._none_left.set()


def _as_error(event: TurnRevoked) -> LeaseRevoked:
    return LeaseRevoked(event.session, turn_id=event.turn_id, held=event.held, reason=event.reason)
