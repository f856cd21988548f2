"""One call that does it all: take the session, run the agent in the turn, end the turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict, Unpack, cast

from agents import (
    Agent,
    RunConfig,
    RunErrorHandlers,
    RunHooks,
    Runner,
    RunResult,
    RunResultStreaming,
    RunState,
    SessionSettings,
    TResponseInputItem,
)

from ...block import TurnBlock
from ...store import Default, Store
from ...turns.aio import AsyncTurn
from ...turns.sync import Turn
from .hooks import TurnHooks, config_of, guard_ahead
from .session import TurnSession

Input = str | list[TResponseInputItem] | RunState[Any]

_OF_TURN = ("wait", "max_hold", "max_stall", "turn_id")
# How long a run that was cancelled is waited for; a tool may take no notice.
_END_TIMEOUT = 5.0


class Options(TypedDict, total=False):
    """What a run may be given; what is left out is as `Store.turn` and ``Runner.run`` have it.

    ``wait``, ``max_hold``, ``max_stall`` (seconds) and ``turn_id`` go to `Store.turn`, the rest to
    ``Runner.run``. ``hooks`` are called beside those of the turn.
    """

    wait: float | Default | None
    max_hold: float | Default
    max_stall: float | None
    turn_id: str | None
    session_settings: SessionSettings | None
    hooks: RunHooks[Any] | None
    run_config: RunConfig | dict[str, Any] | None
    context: Any
    max_turns: int | None
    error_handlers: RunErrorHandlers[Any] | None


async def run(
    agent: Agent[Any], input: Input, *, store: Store, session: str, **options: Unpack[Options]
) -> RunResult:
    """``Runner.run`` as a turn on the session ``session`` of ``store``; for ``options`` see there.

    The session is taken before the first model call is spent, and given back before this returns.
    The user's message is durable before the first model call, each call of a tool before the tool
    begins. Model calls have the store's limits (``first_token``, ``idle``) unless their client was
    guarded with others.

    A run that fails, is cancelled or revoked leaves an error marker, and a result for each tool
    call that has none. One that is interrupted for an approval ends its turn well; to go on, give
    ``result.to_state()`` as the ``input`` of another run.

    Raises what `Store.turn` raises, `SessionBusy` and `LeaseRevoked` above all, and what
    ``Runner.run`` raises.
    """
    async with _configured(options) as config, _block(store, session, options) as turn:
        return await Runner.run(**_in_turn(turn, agent, input, config, options))


def run_sync(
    agent: Agent[Any], input: Input, *, store: Store, session: str, **options: Unpack[Options]
) -> RunResult:
    """As `run`, in a thread that runs no event loop (``Runner.run_sync``).

    When the turn is revoked, the thread comes back: what the run awaits is cancelled. Only a tool
    that blocks the thread itself stays where it is, and can write nothing.
    """
    config = config_of(options.get("run_config"))
    with _block(store, session, options) as turn:
        return Runner.run_sync(**_in_turn(turn, agent, input, config, options))


@asynccontextmanager
async def run_streamed(
    agent: Agent[Any], input: Input, *, store: Store, session: str, **options: Unpack[Options]
) -> AsyncIterator[RunResultStreaming]:
    """As `run`, for ``Runner.run_streamed``: the block is the turn.

    ::

        async with run_streamed(agent, "hello", store=store, session="main/alice") as result:
            async for event in result.stream_events():
                ...

    A block that is left before the run's end (``break``, ``return``, an exception) ends the run:
    its model call is closed, its tools are cancelled, and the turn gets an error marker with the
    reason ``cancelled``. Once the final output is there, the run may finish.

    Raises as `run`, and what ``stream_events`` raises.
    """
    left = asyncio.CancelledError("the run was left before its end")
    try:
        async with _configured(options) as config, _block(store, session, options) as turn:
            result = Runner.run_streamed(**_in_turn(turn, agent, input, config, options))
            try:
                yield result
                await _finish(result, left)
            finally:
                await _stop(result)
    except asyncio.CancelledError as error:
        if error is not left:
            raise
        if turn.revoked:
            # The run was cancelled with its turn, and was there before the turn's own task.
            raise turn._core.revoked_error() from None


def _block(store: Store, session: str, options: Options) -> TurnBlock:
    of_turn: dict[str, Any] = {name: value for name, value in options.items() if name in _OF_TURN}
    return store.turn(session, **of_turn)


@asynccontextmanager
async def _configured(options: Options) -> AsyncIterator[RunConfig]:
    """The run's configuration; one that is made here has a provider that has to be closed."""
    given = options.get("run_config")
    config = config_of(given)
    has_provider = "model_provider" in given if isinstance(given, dict) else given is not None
    try:
        yield config
    finally:
        if not has_provider:
            await config.model_provider.aclose()


def _in_turn(
    turn: Turn | AsyncTurn,
    agent: Agent[Any],
    input: Input,
    config: RunConfig,
    options: Options,
) -> dict[str, Any]:
    """What ``Runner.run`` is given, to be a run of the turn."""
    # A guardrail may ask the same client first, in a run that has no hooks.
    guard_ahead(agent, config)
    rest = {name: value for name, value in options.items() if name not in _OF_TURN}
    settings = cast("SessionSettings | None", rest.pop("session_settings", None))
    session = TurnSession(turn, session_settings=settings)
    hooks = TurnHooks(session, options.get("hooks"), run_config=config)
    hooks.goes_on_from(input)
    given = {"starting_agent": agent, "input": input, "run_config": config}
    return rest | given | {"session": session, "hooks": hooks}


async def _finish(result: RunResultStreaming, left: asyncio.CancelledError) -> None:
    """The end of a block that raised nothing. Raises ``left`` where the run had not ended."""
    task = result.run_loop_task
    assert task is not None
    if result.final_output is not None:
        await asyncio.wait({task})
    if not task.done() or task.cancelled():
        raise left
    problem = result.run_loop_exception
    if problem is not None:
        raise problem


async def _stop(result: RunResultStreaming) -> None:
    task = result.run_loop_task
    if task is not None and not task.done():
        result.cancel()
        await asyncio.wait({task}, timeout=_END_TIMEOUT)
