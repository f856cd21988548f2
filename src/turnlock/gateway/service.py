"""The gateway without its network: agents, sessions, exchanges, and how they come to an end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

from ..clock import Clock, SystemClock
from ..config import Config
from ..models import Model
from ..redaction import redact
from ..session import SessionKey
from ..store import Store
from ..turns.aio import on_worker
from .agents import Agent
from .answering import SessionWork, answer_alone, answer_in_session
from .broadcast import Broadcast
from .chat import ChatRequest
from .conversation import Repetition
from .errors import Explainer, Refusal, ShuttingDown, shutting_down, too_many
from .exchange import Exchange, Exchanges, Phase, Reply
from .pace import Pace
from .reading import Reading

R = TypeVar("R")

logger = logging.getLogger("turnlock")

_AGENT_PREFIXES = ("agent/", "turnlock/")
_NAME_SHOWN_MAX = 100
# Of the time to drain, what is kept for ending the turns that did not end by themselves.
_SETTLE_SHARE = 0.25
_SETTLE_MAX = 2.0
_CLOSE_MAX = 2.0
# Of so many messages it is remembered that their clients left without an answer.
_LOST_MAX = 1000


class Where(NamedTuple):
    """Where a request takes place: in a session, which it may be repeating, or nowhere.

    ``client`` is the address of who asks.
    """

    session: SessionKey | None
    repeated: Repetition
    client: str | None = None


class Gateway:
    """Belongs to the running event loop. The store and the agents stay the caller's to close.

    ``known_secrets`` are taken out of every error text that a client gets.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        agents: Mapping[str, Agent],
        *,
        known_secrets: Collection[str] = (),
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.agents = agents
        self.pace = pace or Pace()
        self.clock = clock or SystemClock()
        self._stopping = asyncio.Event()
        self.started = self.clock.wall()
        self.listeners = 0
        self.store = store
        self.reading = Reading(self.pace.reading)
        self._secrets = frozenset(known_secrets)
        self._explain = self._explainer()
        self.exchanges = Exchanges()
        self._lost: deque[str] = deque(maxlen=_LOST_MAX)
        self.broadcast = Broadcast(self.clock)
        self._began = self.clock.monotonic()
        self._unsubscribe = (
            store.subscribe(self.exchanges.on_event),
            store.subscribe(self.broadcast.on_event),
        )

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def uptime(self) -> float:
        """Seconds."""
        return self.clock.monotonic() - self._began

    # Requests

    def agent(self, model: str) -> Agent:
        """The agent that a request's ``model`` names. Raises `Refusal` (404)."""
        agent = self.agents.get(agent_name(model))
        if agent is None:
            shown = f"there is no agent {model[:_NAME_SHOWN_MAX]!r}"
            raise Refusal("model_not_found", shown, param="model")
        return agent

    def check_open(self) -> None:
        """Raises `Refusal` once the gateway takes in no new work."""
        if self.is_stopping:
            raise shutting_down()

    async def unless_stopping(self, reading: Coroutine[Any, Any, R]) -> R:
        """What new work is asked for, as soon as it is read. Raises `Refusal` once none is taken.

        It does not wait for a client that still sends then.
        """
        found = await _unless(self._stopping, reading)
        if found is None:
            raise shutting_down()
        return found

    def begin(self, request: ChatRequest, agent: Agent, where: Where) -> Exchange[Reply]:
        """Start the work on a message. Raises `Refusal`; then nothing was started."""
        self.check_open()
        limits = self.config.limits
        if where.session is None:
            messages = request.alone()
            exchange: Exchange[Reply] = self._exchange(where)
            alone = answer_alone(agent, messages, exchange, limits)
            return self._start(exchange, alone, agent.model)
        new = request.in_session()
        work = SessionWork(where.session, agent, new, where.repeated, self._lost)
        return self.begin_turn(
            where,
            lambda exchange: answer_in_session(work, exchange, self.store, limits, self.clock),
            agent.model,
        )

    def begin_turn(
        self,
        where: Where,
        work: Callable[[Exchange[R]], Coroutine[Any, Any, R]],
        model: Model | None = None,
    ) -> Exchange[R]:
        """Start what takes a session and works in it, and uses ``model``.

        Raises `Refusal`, as `begin` does.
        """
        self.check_open()
        most = self.config.gateway.max_waiting
        if self.exchanges.waiting >= most:
            raise too_many("queue_full", f"{most} turns wait for their sessions already")
        exchange: Exchange[R] = self._exchange(where)
        return self._start(exchange, work(exchange), model)

    def _exchange(self, where: Where) -> Exchange[Any]:
        return Exchange(
            secrets.token_hex(16),
            None if where.session is None else str(where.session),
            self._explain,
            hand_over=self.pace.hand_over,
            client=where.client,
            on_lost=self._lost.append,
        )

    def _start(
        self, exchange: Exchange[R], work: Coroutine[Any, Any, R], model: Model | None = None
    ) -> Exchange[R]:
        self.exchanges.start(exchange, work, model)
        return exchange

    # Another configuration

    def reconfigure(self, config: Config, agents: Mapping[str, Agent]) -> None:
        """Take these for whatever begins from now on; turns that run or wait keep theirs.

        ``host``, ``port``, ``allowed_hosts`` and ``allowed_origins`` are the application's, and
        stay.
        """
        self.config = config
        self.agents = agents
        self.store.limits = config.limits
        self._explain = self._explainer()

    def keep_secret(self, *values: str) -> None:
        """Take further values out of what clients, logs and markers get."""
        self._secrets |= frozenset(values)
        self.store.keep_secret(*values)

    async def until_unused(self, model: Model) -> None:
        """Wait until no turn or call uses a model, one that ignores its cancellation either."""
        await self.exchanges.until_unused(model)

    def _explainer(self) -> Explainer:
        return Explainer(self.config.limits, lambda text: redact(text, self._secrets))

    # The end

    async def drain(self, hasten: asyncio.Event) -> None:
        """End all exchanges, in ``limits.drain`` seconds, sooner once ``hasten`` is set.

        1. Nothing new is taken in, and what waits for its session is told so at once.
        2. Turns that run may end by themselves, for most of the time.
        3. The rest is cancelled, and writes its error markers.
        4. What ignores that loses its lease: the store is closed, which revokes it.
        """
        self._stopping.set()
        drain = self.config.limits.drain
        settle = min(_SETTLE_MAX, drain * _SETTLE_SHARE)
        self.exchanges.cancel(ShuttingDown, only=Phase.WAITING)
        if not await _unless(hasten, self.exchanges.ended(drain - settle)):
            self.exchanges.cancel(ShuttingDown)
            await self.exchanges.ended(max(settle, _SETTLE_MAX / 2))
        await self.close()

    async def close(self) -> None:
        """End what is left of the turns: each is revoked, with a marker."""
        self._stopping.set()
        closed = on_worker(self.store.close)
        done, _ = await asyncio.wait((closed,), timeout=_CLOSE_MAX)
        if not done or not await self.exchanges.ended(_CLOSE_MAX):
            logger.error("some turns could not be ended: the next start will mark them")
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self.broadcast.close()


async def _unless(event: asyncio.Event, wait: Coroutine[Any, Any, R]) -> R | None:
    """The result of waiting, or None as soon as the event is set."""
    waiting = asyncio.ensure_future(wait)
    asked = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((waiting, asked), return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()
        asked.cancel()


def agent_name(model: str) -> str:
    """``main`` of ``main``, ``agent/main`` and ``turnlock/main``."""
    for prefix in _AGENT_PREFIXES:
        if model.startswith(prefix):
            return model.removeprefix(prefix)
    return model
