"""The limits of a run's model calls, and the look at the lease before a tool has its effects.

ADK tells plugins when it asks a model, what came of it, and when it calls a tool. So a model of any
kind has the store's limits, whatever its HTTP library: ``first_token`` seconds to what it says
first, ``idle`` to what it says next, and a whole answer that is not streamed counts as the first.
"""

from __future__ import annotations

from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext

from .running import Caller, Run, current_run

_NAME = "turnlock"


class Watch(BasePlugin):
    """Answers nothing to any callback: it only looks on."""

    def __init__(self) -> None:
        super().__init__(name=_NAME)

    async def before_model_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest
    ) -> None:
        if (run := _run()) is not None:
            run.turn.describe_model(provider="google-adk", model=llm_request.model)
            run.calls.begin(run.turn, _by(callback_context))

    async def after_model_callback(
        self, *, callback_context: CallbackContext, llm_response: LlmResponse
    ) -> None:
        run = _run()
        if run is None:
            return
        if llm_response.partial:
            run.calls.progressed()
        else:
            run.calls.close_here()

    async def on_event_callback(
        self, *, invocation_context: InvocationContext, event: Event
    ) -> None:
        # Where a callback answered for the model, nothing else says so.
        if (run := _run()) is not None and not event.partial:
            run.calls.close_of(event)

    async def on_model_error_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest, error: Exception
    ) -> None:
        if (run := _run()) is not None:
            run.calls.close_here()

    async def before_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: ToolContext
    ) -> None:
        if (run := _run()) is not None:
            await run.turn.check()
            run.turn.progress(tool.name)


def watch_models_of(runner: Runner) -> None:
    """Have a runner's model calls watched. First in line: who answers a callback ends the line."""
    plugins = runner.plugin_manager.plugins
    if not any(isinstance(plugin, Watch) for plugin in plugins):
        plugins.insert(0, Watch())


def _by(context: CallbackContext) -> Caller:
    return Caller(context.agent_name, context.invocation_id)


def _run() -> Run | None:
    """The run that holds a session here, if there is one."""
    run = current_run.get()
    return run if run is not None and run.turn is not None else None
