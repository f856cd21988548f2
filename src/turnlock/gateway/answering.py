"""The work of an exchange: a turn on a session, or a call that stores nothing.

A turn's limits are the lease's: ``turn`` is the hold limit that it takes the session with,
``first_token`` and ``idle`` are watched on the model's stream. The store's watchdog enforces all of
them from a thread of its own, also against code that ignores its cancellation. A call without a
session has no lease; its limits are timers that end the exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Collection, Container, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from ..clock import Clock
from ..errors import LockPathError, ModelError, StoreError, TranscriptError
from ..limits import Limits
from ..models import Delta, Finished, Model, Thinking
from ..session import SessionKey
from ..store import Store
from ..transcript.entries import assistant
from ..transcript.history import Message
from ..turns.aio import AsyncTurn, on_worker
from ..turns.watchdog import GAP, TICK
from .agents import Agent
from .chat import NewInSession
from .conversation import Plan, Repetition, plan, reply_id
from .errors import LimitPassed
from .exchange import Exchange, Phase, Reply

# More than any model says in one reply, and less than what a line of a transcript may hold.
_REPLY_MAX = 8 * 1024 * 1024
_STOP_REASONS = frozenset({"stop", "length", "content_filter"})
_MODEL_NAME_MAX = 200


_Item = Delta | Thinking | Finished


class SessionWork(NamedTuple):
    """What a turn is to do for a request."""

    session: SessionKey
    agent: Agent
    new: NewInSession
    repeated: Repetition
    lost: Collection[str]


async def answer_in_session(
    work: SessionWork, exchange: Exchange[Reply], store: Store, limits: Limits, clock: Clock
) -> Reply:
    """One turn: take the session, store the message, ask the model, store its reply.

    Raises what `Store.turn` raises, and `ModelError`. A partial reply is not stored.
    """
    key, model = str(work.session), work.agent.model
    hold = min(limits.turn, limits.max_hold)
    block = store.turn(key, wait=limits.wait, max_hold=hold, turn_id=exchange.identity)
    async with block as turn:
        exchange.phase = Phase.RUNNING
        turn.describe_model(provider=model.provider, model=model.model, api=model.api)
        # Of the loop's own while it is: others may leave while the worker looks.
        lost = tuple(work.lost)
        planned = await on_worker(lambda: _planned(work, store, clock, lost))
        exchange.question = question = await _store(turn, planned, exchange)
        if planned.answer is not None:
            exchange.repeated = True
            exchange.say(planned.answer)
            return Reply(planned.answer, "stop", None)
        history = [*_system(work.agent.instructions, *work.new.system), *planned.history]
        calls = turn.watch(model.stream(history), first=limits.first_token, idle=limits.idle)
        async with aclosing(calls) as items:
            text, finished = await _collect(items, exchange, model, turn.progress)
        exchange.phase = Phase.FINISHING
        await turn.append({"id": reply_id(question), **_entry(text, finished, model)})
    return _reply(text, finished)


def _planned(work: SessionWork, store: Store, clock: Clock, lost: Container[str]) -> Plan:
    """For a worker: a long session takes long to read, and its history to put together."""
    return plan(
        list(store.read(str(work.session))),
        work.new,
        session=work.session,
        repeated=work.repeated,
        now=clock.wall(),
        lost=lost,
    )


async def _store(turn: AsyncTurn, planned: Plan, exchange: Exchange[Reply]) -> str:
    """Store the message unless the session has it; its id."""
    # From before the append on: one that is cancelled or revoked may have been done.
    exchange.stored = True
    try:
        stored = await turn.append(*planned.entries) if planned.entries else [planned.question]
    except (StoreError, LockPathError, TranscriptError):
        exchange.stored = False
        raise
    return str(stored[-1])


async def answer_alone(
    agent: Agent, messages: Sequence[Message], exchange: Exchange[Reply], limits: Limits
) -> Reply:
    """One call of the agent's model. Raises `ModelError`; limits end the exchange themselves."""
    history = [*_system(agent.instructions), *messages]
    timers = _Timers(exchange, limits)
    try:
        async with aclosing(agent.model.stream(history)) as items:
            text, finished = await _collect(timers.over(items), exchange, agent.model)
    finally:
        timers.stop()
    return _reply(text, finished)


class _Timers:
    """``turn``, ``first_token`` and ``idle`` for a call without a lease."""

    def __init__(self, exchange: Exchange[Reply], limits: Limits) -> None:
        self._exchange = exchange
        self._idle = limits.idle
        self._turn = _Timer(exchange, "turn", limits.turn)
        self._next = _Timer(exchange, "model", limits.first_token)

    async def over(self, items: AsyncIterable[_Item]) -> AsyncIterable[_Item]:
        async for item in items:
            self._next.stop()
            self._next = _Timer(self._exchange, "model", self._idle)
            yield item

    def stop(self) -> None:
        self._turn.stop()
        self._next.stop()


class _Timer:
    """Ends an exchange when ``limit`` seconds are over.

    Time in which the loop stood still, or the process, is given back, as the watchdog gives it to
    turns: what came meanwhile is not read yet. The first time a tick is given on top, to read it.
    """

    def __init__(self, exchange: Exchange[Reply], name: str, limit: float) -> None:
        self._exchange = exchange
        self._passed = LimitPassed(name, limit)
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + limit
        self._on_top = TICK
        self._sleep()

    def stop(self) -> None:
        self._handle.cancel()

    def _sleep(self) -> None:
        wakes_at = min(self._deadline, self._loop.time() + TICK)
        self._handle = self._loop.call_at(wakes_at, self._look, wakes_at)

    def _look(self, wakes_at: float) -> None:
        late = self._loop.time() - wakes_at
        if late > GAP:
            self._deadline += late + self._on_top
            self._on_top = 0.0
        if self._deadline <= self._loop.time():
            self._exchange.cut(self._passed)
        else:
            self._sleep()


async def _collect(
    items: AsyncIterable[Any],
    exchange: Exchange[Reply],
    model: Model,
    in_phase: Callable[[str], object] = lambda _: None,
) -> tuple[str, Finished]:
    """The whole reply, each piece passed on as it comes. Raises `ModelError`.

    ``in_phase`` is told what the model does: ``thinking``, then ``model`` while it speaks.
    """
    pieces: list[str] = []
    length = 0
    finished: Finished | None = None
    async for item in items:
        if isinstance(item, Finished):
            finished = item
            continue
        if isinstance(item, Thinking):
            exchange.thinks()
            in_phase("thinking")
            continue
        in_phase("model")
        length += len(item.text)
        if length > _REPLY_MAX:
            raise _broken(model, f"the reply is longer than {_REPLY_MAX} characters")
        pieces.append(item.text)
        exchange.say(item.text)
    text = "".join(pieces)
    if finished is None:
        raise _broken(model, "the stream ended without an end of the reply")
    if not text.strip():
        raise _broken(model, f"the reply is empty; the model ended it with {finished.reason!r}")
    return text, finished


def _broken(model: Model, detail: str) -> ModelError:
    return ModelError(provider=model.provider, model=model.model, kind="protocol", detail=detail)


def _system(*texts: str) -> list[Message]:
    return [{"role": "system", "content": text} for text in texts if text]


def _entry(text: str, finished: Finished, model: Model) -> dict[str, Any]:
    usage = _usage(finished.usage)
    return assistant(
        text,
        provider=model.provider,
        model=finished.model[:_MODEL_NAME_MAX],
        api=model.api,
        stop_reason="length" if finished.reason == "length" else "stop",
        usage=usage and _usage_of_transcript(usage),
    )


def _reply(text: str, finished: Finished) -> Reply:
    reason = finished.reason if finished.reason in _STOP_REASONS else "stop"
    return Reply(text, reason, _usage(finished.usage))


def _usage(given: Mapping[str, object] | None) -> dict[str, int] | None:
    """An endpoint's token counts, as far as they are counts."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    counts = {name: (given or {}).get(name) for name in names}
    made = {
        name: count
        for name, count in counts.items()
        if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**53
    }
    return made if len(made) == len(names) else None


def _usage_of_transcript(usage: Mapping[str, int]) -> dict[str, int]:
    # The names that readers of OpenClaw's transcripts know.
    return {
        "input": usage["prompt_tokens"],
        "output": usage["completion_tokens"],
        "totalTokens": usage["total_tokens"],
    }
