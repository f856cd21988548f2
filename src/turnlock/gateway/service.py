"""The gateway without its network: agents, sessions, exchanges, and how they come to an end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Collection, Coroutine, Mapping
from typing import Any, NamedTuple

from ..clock import Clock, SystemClock
from ..config import Config
from ..models import Model
from ..redaction import redact
from ..session import SessionKey
from ..store import Store
from ..turns.aio import on_worker
from .agents import Agent
from .answering import SessionWork, answer_alone, answer_in_session
from .chat import ChatRequest
from .conversation import Repetition
from .errors import Explainer, Refusal, ShuttingDown, queue_full, shutting_down
from .exchange import Exchange, Exchanges, Phase, Reply
from .pace import Pace

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
    """Where a request takes place: in a session, which it may be repeating, or nowhere."""

    session: SessionKey | None
    repeated: Repetition


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
        self.is_stopping = False
        self._store = store
        self._secrets = frozenset(known_secrets)
        self._explain = self._explainer()
        self._exchanges = Exchanges()
        self._lost: deque[str] = deque(maxlen=_LOST_MAX)
        self._unsubscribe = store.subscribe(self._exchanges.on_event)

    # Requests

    def agent(self, model: str) -> Agent:
        """The agent that a request's ``model`` names. Raises `Refusal` (404)."""
        agent = self.agents.get(agent_name(model))
        if agent is None:
            shown = f"there is no agent {model[:_NAME_SHOWN_MAX]!r}"
            raise Refusal(404, "model_not_found", shown, param="model")
        return agent

    def begin(self, request: ChatRequest, agent: Agent, where: Where) -> Exchange:
        """Start the work on a request. Raises `Refusal`; then nothing was started."""
        if self.is_stopping:
            raise shutting_down()
        if where.session is None:
            messages = request.alone()
            exchange = self._exchange(None)
            work = answer_alone(agent, messages, exchange, self.config.limits)
            return self._start(exchange, work, agent)
        new = request.in_session()
        wanted = SessionWork(where.session, agent, new, where.repeated, self._lost)
        most = self.config.gateway.max_waiting
        if self._exchanges.waiting >= most:
            raise queue_full(most)
        exchange = self._exchange(str(where.session))
        work = answer_in_session(wanted, exchange, self._store, self.config.limits, self.clock)
        return self._start(exchange, work, agent)

    def _exchange(self, session: str | None) -> Exchange:
        return Exchange(
            secrets.token_hex(16),
            session,
            self._explain,
            hand_over=self.pace.hand_over,
            on_lost=self._lost.append,
        )

    def _start(
        self, exchange: Exchange, work: Coroutine[Any, Any, Reply], agent: Agent
    ) -> Exchange:
        self._exchanges.start(exchange, work, agent.model)
        return exchange

    # Another configuration

    def reconfigure(self, config: Config, agents: Mapping[str, Agent]) -> None:
        """Take these for whatever begins from now on; turns that run or wait keep theirs.

        ``host``, ``port``, ``allowed_hosts`` and ``allowed_origins`` are the application's, and
        stay.
        """
        self.config = config
        self.agents = agents
        self._store.limits = config.limits
        self._explain = self._explainer()

    def keep_secret(self, *values: str) -> None:
        """Take further values out of what clients, logs and markers get."""
        self._secrets |= frozenset(values)
        self._store.keep_secret(*values)

    async def until_unused(self, model: Model) -> None:
        """Wait until no turn or call uses a model, one that ignores its cancellation either."""
        await self._exchanges.until_unused(model)

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
        self.is_stopping = True
        drain = self.config.limits.drain
        settle = min(_SETTLE_MAX, drain * _SETTLE_SHARE)
        self._exchanges.cancel(ShuttingDown, only=Phase.WAITING)
        if not await _unless(hasten, self._exchanges.ended(drain - settle)):
            self._exchanges.cancel(ShuttingDown)
            await self._exchanges.ended(max(settle, _SETTLE_MAX / 2))
        await self.close()

    async def close(self) -> None:
        """End what is left of the turns: each is revoked, with a marker."""
        self.is_stopping = True
        closed = on_worker(self._store.close)
        done, _ = await asyncio.wait((closed,), timeout=_CLOSE_MAX)
        if not done or not await self._exchanges.ended(_CLOSE_MAX):
            logger.error("some turns could not be ended: the next start will mark them")
        self._unsubscribe()


async def _unless(event: asyncio.Event, wait: Coroutine[Any, Any, bool]) -> bool:
    """The result of waiting, or False as soon as the event is set."""
    waiting = asyncio.ensure_future(wait)
    asked = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((waiting, asked), return_when=asyncio.FIRST_COMPLETED)
        return waiting.done() and waiting.result()
    finally:
        waiting.cancel()
        asked.cancel()


def agent_name(model: str) -> str:
    """``main`` of ``main``, ``agent/main`` and ``turnlock/main``."""
    for prefix in _AGENT_PREFIXES:
        if model.startswith(prefix):
            return model.removeprefix(prefix)
    return model
