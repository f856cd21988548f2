"""The capability that keeps an agent's runs in a session."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from pydantic_ai.capabilities import (
    AbstractCapability,
    CapabilityOrdering,
    ValidatedToolArgs,
    WrapModelRequestHandler,
    WrapRunHandler,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import AgentStreamEvent, ModelResponse, ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import AgentDepsT, RunContext, ToolDefinition

from ...errors import LeaseRevoked, TurnlockError
from ...session import parse_key
from ...store import Default, Store
from ...turns.turn import TurnCore
from ...turns.watching import close_stream
from ..transport import CallLimits
from .keeping import turn_around, turn_for_run
from .running import Run

SessionOf = Callable[[RunContext[AgentDepsT]], str]
_TURN_ID_MAX = 100


class TurnlockSession(AbstractCapability[AgentDepsT]):
    """Makes each run of an agent a turn of a session, and the session's transcript its history.

    ::

        agent = Agent("openai:gpt-5", capabilities=[TurnlockSession(store, "main/alice")])
        result = await agent.run("hello")

    ``key`` names the session, or is a function that makes the key of a run's ``RunContext`` (of
    its ``deps``, its ``conversation_id``). One agent for many sessions may also be given the
    session at each run: ``agent.run("hello", capabilities=[TurnlockSession(store, key)])``, in
    place of the agent's own.

    A run of any kind (``run``, ``run_sync``, ``run_stream``, ``iter``) takes the session before
    anything else, and waits for it for ``wait`` seconds; ``max_hold`` and ``max_stall`` are those
    of `Store.turn`. A run in a turn of that session which its caller has opened is part of that
    turn. Then

    * its history is what the transcript has, made acceptable where a turn was cut off;
    * what the user said is durable before the model is first called, each reply before its tools
      are run, and everything else before the next call and before the run returns;
    * in a model call, ``first`` seconds are given to the first content and ``idle`` between
      contents (None: the store's limits), ``whole`` to the call (None: what the turn has). A call
      that is not streamed has ``first`` for its whole answer; ``stream=True`` streams all of them.
      What a reader of a stream does between two events counts against ``idle``; what it does after
      the last one, in the block of ``run_stream`` or of a node's ``stream``, does not;
    * before a tool is run, the turn is checked: one that has lost its session runs no more tools;
    * a run whose turn is revoked, for whatever reason, is cancelled at once, and raises
      `LeaseRevoked`. Its late writes are refused.

    Within the run, `turnlock.current_turn` is the turn, in tools too.

    Not promised: a tool that runs in a thread cannot be ended; it runs on, though the session does
    not wait for it. Realtime sessions and durable execution are not for it.

    Raises at once `InvalidSessionKey` and `LimitsError`. The run raises what entering a turn does
    (`SessionBusy` above all), `AlreadyHeld` when it is started from within a run on the same
    session, and pydantic-ai's ``UserError`` when it is given a message history besides.
    """

    # An agent has one; one that is given to a run takes the place of the agent's.
    id: str | None = "turnlock_session"

    def __init__(
        self,
        store: Store,
        key: str | SessionOf[AgentDepsT],
        *,
        wait: float | Default | None = Default.LIMITS,
        max_hold: float | Default = Default.LIMITS,
        max_stall: float | None = None,
        first: float | None = None,
        idle: float | None = None,
        whole: float | None = None,
        stream: bool = False,
    ) -> None:
        self._store = store
        self._key = str(parse_key(key)) if isinstance(key, str) else key
        self._limits = CallLimits(first, idle, whole).checked()
        self._turn_limits: dict[str, Any] = {
            "wait": wait,
            "max_hold": max_hold,
            "max_stall": max_stall,
        }
        self._streams = stream
        self._run: Run | None = None
        # Whether these limits can be had is said here, and not by the first run.
        store.turn(self._key if isinstance(self._key, str) else "main/main", **self._turn_limits)

    @classmethod
    def get_serialization_name(cls) -> str | None:
        return None

    def get_ordering(self) -> CapabilityOrdering:
        """Outside of all others: they find the history in place, and their replies are kept."""
        return CapabilityOrdering(position="outermost")

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """The session's key, where all runs have the same."""
        return self._key if isinstance(self._key, str) else None

    @property
    def has_on_event(self) -> bool:
        """Whether every model call is to be streamed. Of streams that there are it hears anyway."""
        return self._streams

    @property
    def has_wrap_run_event_stream(self) -> bool:
        """As `has_on_event`."""
        return self._streams

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> TurnlockSession[AgentDepsT]:
        return copy.copy(self)

    async def wrap_run(
        self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler
    ) -> AgentRunResult[Any]:
        if ctx.messages:
            raise UserError(
                "The history of a run on a session is the session's transcript: call it without"
                " message_history and conversation."
            )
        key = self._key if isinstance(self._key, str) else str(parse_key(self._key(ctx)))
        turn_id = ctx.run_id if ctx.run_id and len(ctx.run_id) <= _TURN_ID_MAX else None
        block = self._store.turn(key, turn_id=turn_id, **self._turn_limits)
        around = turn_around(self._store, key)
        async with turn_for_run(around, block, lambda: _cancel(ctx)) as turn:
            self._run = run = Run(turn, ctx.run_id, self._limits)
            await run.read(self._store)
            # Without a prompt it goes on where the last run stopped, with what that one left open.
            ctx.messages[:] = run.history(leave_open=ctx.prompt is None)
            try:
                result = await handler()
            except BaseException:
                await _save_the_rest(run)
                raise
            # Only the result has the run's last messages. (``after_run`` is called when the turn is
            # over, by versions before 2.55.)
            await run.save(result.all_messages())
            return result

    async def before_node_run(self, ctx: RunContext[AgentDepsT], *, node: Any) -> Any:
        run = self._running
        if getattr(node, "deferred_tool_results", None) is not None:
            # Only here is it known that the run answers the open calls, prompt or not.
            ctx.messages[:] = run.history(leave_open=True)
        run.follow(ctx.messages)
        return node

    async def wrap_model_request(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        request_context: ModelRequestContext,
        handler: WrapModelRequestHandler,
    ) -> ModelResponse:
        run = self._running
        run.follow(ctx.messages)
        await run.save()
        model = request_context.model
        run.turn.describe_model(provider=model.system, model=model.model_name, api="pydantic-ai")
        with run.calling(lambda: _cancel(ctx)):
            response = await handler(request_context)
        await run.save_reply(response)
        return response

    async def on_event(self, ctx: RunContext[AgentDepsT], *, event: AgentStreamEvent) -> None:
        self._running.heard(event)

    async def wrap_run_event_stream(
        self, ctx: RunContext[AgentDepsT], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncIterator[AgentStreamEvent]:
        """The framework has the model's request wait until the reader has left its stream."""
        try:
            async for event in stream:
                yield event
            self._running.end_call()
        finally:
            await close_stream(stream)

    async def before_tool_execute(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: ValidatedToolArgs,
    ) -> ValidatedToolArgs:
        turn = self._running.turn
        await turn.check()
        self._running.be_here()
        turn.progress(f"tool {call.tool_name}")
        return args

    async def after_tool_execute(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: ValidatedToolArgs,
        result: Any,
    ) -> Any:
        self._running.turn.progress()
        return result

    async def on_run_error(
        self, ctx: RunContext[AgentDepsT], *, error: BaseException
    ) -> AgentRunResult[Any]:
        run = self._run
        if run is not None and run.turn.revoked and not isinstance(error, LeaseRevoked):
            raise _revoked(run.turn._core) from error
        raise error

    @property
    def _running(self) -> Run:
        if self._run is None:
            raise UserError("A TurnlockSession is for runs of an agent, and for nothing else.")
        return self._run


def _revoked(core: TurnCore) -> LeaseRevoked:
    return core.revoked_error()


def _cancel(ctx: RunContext[Any]) -> None:
    # The run is over, or its loop is.
    with suppress(UserError, RuntimeError):
        ctx.cancel()


async def _save_the_rest(run: Run) -> None:
    """What a run had got to when it failed. Its failure is what its caller is to hear of."""
    with suppress(TurnlockError):
        await run.save()
