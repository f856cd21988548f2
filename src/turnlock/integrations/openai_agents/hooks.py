"""Run hooks: what a turn has to know of a run, and what a run must not do without its turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

from agents import (
    Agent,
    AgentHookContext,
    Handoff,
    Model,
    ModelResponse,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    RunContextWrapper,
    RunHooks,
    RunState,
    Tool,
    TResponseInputItem,
)
from agents.tool_context import ToolContext

from ..guarding import guard_new
from .items import Item
from .session import TurnSession


class TurnHooks(RunHooks[Any]):
    """The hooks of a run in a turn, for ``Runner.run(…, session=session, hooks=…)``.

    * Before a model is asked: the turn still holds its session, or `LeaseRevoked` ends the run.
      The model's HTTP client is guarded (`turnlock.guard`) if nobody has guarded it yet: its calls
      have the store's limits and end with the turn.
    * Before a tool is called: the response that calls it is durable, so that a run that is cut off
      leaves no call without a trace; and again the turn still holds its session. That is no fence
      for what the tool does: hand ``turnlock.current_turn().epoch`` on where it can be checked. Of
      an agent that is used as a tool the models are guarded as well, and those of its own tools
      and handoffs: its run has no hooks. Which models these are, the configuration of this
      run says, and none that ``as_tool`` was given.
    * What the run is at becomes the phase of the turn, and progress.

    ``session``: of the same run. ``inner``: hooks of your own, called after these. ``run_config``:
    the run's, if it has one, since it may name the model.
    """

    def __init__(
        self,
        session: TurnSession,
        inner: RunHooks[Any] | None = None,
        *,
        run_config: RunConfig | dict[str, Any] | None = None,
    ) -> None:
        self._session = session
        self._turn = session._turn
        self._inner: RunHooks[Any] = inner or RunHooks()
        self._run_config = config_of(run_config)
        self._response: list[Item] = []

    def goes_on_from(self, state: object) -> None:
        """Tell of the run's input: a ``RunState`` has the response whose tools wait for approval.

        `run` does so. Without it such a response, where the session does not have it yet, becomes
        durable call by call, and what else is in it comes after these.
        """
        # Nothing public names it but the state's JSON, which not every context has.
        responses = state._model_responses if isinstance(state, RunState) else []
        if responses:
            self._response = cast("list[Item]", responses[-1].to_input_items())

    async def on_llm_start(
        self,
        context: RunContextWrapper[Any],
        agent: Agent[Any],
        system_prompt: str | None,
        input_items: list[TResponseInputItem],
    ) -> None:
        await self._session.before_model()
        model = _model_of(agent, self._run_config)
        guard_new(model)
        self._turn.describe_model(**_described(model))
        self._turn.progress("model")
        await self._inner.on_llm_start(context, agent, system_prompt, input_items)

    async def on_llm_end(
        self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse
    ) -> None:
        self._response = cast("list[Item]", response.to_input_items())
        self._turn.progress()
        await self._inner.on_llm_end(context, agent, response)

    async def on_tool_start(
        self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool
    ) -> None:
        for nested in _agents_below(tool, set()):
            guard_ahead(nested, self._run_config)
        await self._session.before_tool(_response_of(context, self._response))
        self._turn.progress(f"tool {tool.name}")
        await self._inner.on_tool_start(context, agent, tool)

    async def on_tool_end(
        self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool, result: object
    ) -> None:
        self._turn.progress()
        # Older versions of the SDK have it that every result is text.
        await self._inner.on_tool_end(context, agent, tool, cast("Any", result))

    async def on_handoff(
        self, context: RunContextWrapper[Any], from_agent: Agent[Any], to_agent: Agent[Any]
    ) -> None:
        self._turn.progress(f"handoff to {to_agent.name}")
        await self._inner.on_handoff(context, from_agent, to_agent)

    async def on_agent_start(self, context: AgentHookContext[Any], agent: Agent[Any]) -> None:
        await self._inner.on_agent_start(context, agent)

    async def on_agent_end(
        self, context: AgentHookContext[Any], agent: Agent[Any], output: Any
    ) -> None:
        await self._inner.on_agent_end(context, agent, output)


def _response_of(context: RunContextWrapper[Any], response: Sequence[Item]) -> Sequence[Item]:
    """The response that a tool is called by: the latest, or one of before the run was resumed."""
    if not isinstance(context, ToolContext):
        return response
    if any(item.get("call_id") == context.tool_call_id for item in response):
        return response
    call = {
        "type": "function_call",
        "call_id": context.tool_call_id,
        "name": context.tool_name,
        "arguments": context.tool_arguments,
    }
    return [call]


def _agents_below(tool: object, seen: set[int]) -> Iterator[Agent[Any]]:
    """The agent that a tool is (``Agent.as_tool``), and those that it may call in its turn."""
    # Set by the SDK since agents can be tools; a handoff names its agent by a weak reference.
    found = tool if isinstance(tool, Agent) else getattr(tool, "_agent_instance", None)
    if isinstance(tool, Handoff):
        reference = getattr(tool, "_agent_ref", None)
        found = None if reference is None else reference()
    if not isinstance(found, Agent) or id(found) in seen:
        return
    seen.add(id(found))
    yield found
    for one in (*found.tools, *found.handoffs):
        yield from _agents_below(one, seen)


def _model_of(agent: Agent[Any], run_config: RunConfig) -> Model:
    """The model that the run asks, as the SDK chooses it."""
    model = run_config.model if run_config.model is not None else agent.model
    return model if isinstance(model, Model) else run_config.model_provider.get_model(model)


def config_of(given: RunConfig | dict[str, Any] | None) -> RunConfig:
    return RunConfig(**given) if isinstance(given, dict) else given or RunConfig()


def guard_ahead(agent: Agent[Any], run_config: RunConfig) -> None:
    """Guard the model of an agent which may be asked without hooks, or not at all."""
    model = None
    # A provider raises what it likes, as for a key that is missing. Whoever asks will be told.
    with suppress(Exception):
        model = _model_of(agent, run_config)
    guard_new(model)


_APIS: tuple[tuple[type[Model], str], ...] = (
    (OpenAIChatCompletionsModel, "openai-completions"),
    (OpenAIResponsesModel, "openai-responses"),
)


def _described(model: Model) -> dict[str, str | None]:
    """What the transcript says of the model: ``provider``, ``model`` and ``api``."""
    api = next((api for kind, api in _APIS if isinstance(model, kind)), None)
    name = getattr(model, "model", None)
    return {
        "provider": "openai" if api else type(model).__name__,
        "model": str(name) if name else None,
        "api": api,
    }
