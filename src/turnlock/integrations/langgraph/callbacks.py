"""What a graph's own events mean to its turn: progress, limits of model calls, checks before tools.

The handler is attached to every run below a context (`watched`), as LangChain's own counters are.
It sees models and tools of LangChain, whatever client is under them. What a node calls without
LangChain it does not see; for that there is `turnlock.guard`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.tracers.context import register_configure_hook

from ...turns.calling import OpenCall

watched: ContextVar[BaseCallbackHandler | None] = ContextVar("turnlock_langgraph", default=None)
register_configure_hook(watched, inheritable=True)


class TurnHandler(BaseCallbackHandler):
    """Reports a graph's events to the turn of a thread.

    A model call has to bring its first content within the store's ``first_token`` and more within
    ``idle``; one that does not stream is all first content. When a limit passes the turn is revoked
    with reason ``model-limit``. No model is asked and no tool is called for a turn that is over.
    """

    raise_error = True
    run_inline = True

    def __init__(self, turn: Any) -> None:
        self.turn = turn
        self._calls: dict[UUID, OpenCall] = {}

    def on_chain_start(self, serialized: Any, inputs: Any, **about: Any) -> None:
        node = (about.get("metadata") or {}).get("langgraph_node")
        if node is not None and about.get("name") == node:
            self.turn.progress(f"node {node}")

    def on_chat_model_start(self, serialized: Any, messages: Any, **about: Any) -> None:
        self._begin(about)

    def on_llm_start(self, serialized: Any, prompts: Any, **about: Any) -> None:
        self._begin(about)

    def on_llm_new_token(self, token: Any, **about: Any) -> None:
        call = self._calls.get(about["run_id"])
        if call is not None:
            call.check()
            if token or _has_content(about.get("chunk")):
                call.progressed()

    def on_llm_end(self, response: Any, **about: Any) -> None:
        self._end(about)

    def on_llm_error(self, error: BaseException, **about: Any) -> None:
        self._end(about)

    def on_tool_start(self, serialized: Any, input_str: str, **about: Any) -> Any:
        self.turn.check()
        self._tool_begins(serialized)

    def on_tool_end(self, output: Any, **about: Any) -> None:
        self.turn.progress()

    def _tool_begins(self, serialized: Any) -> None:
        self.turn.progress(f"tool {(serialized or {}).get('name', '')}".rstrip())

    def _begin(self, about: dict[str, Any]) -> None:
        metadata = about.get("metadata") or {}
        model = metadata.get("ls_model_name")
        self.turn.describe_model(
            provider=metadata.get("ls_provider"),
            model=model if isinstance(model, str) else None,
            api="langchain",
        )
        self._calls[about["run_id"]] = self.turn.begin_call(_nothing)

    def _end(self, about: dict[str, Any]) -> None:
        call = self._calls.pop(about["run_id"], None)
        if call is not None:
            call.close()


class AsyncTurnHandler(TurnHandler):
    """Reports to the turn of a task: storage is asked by a worker."""

    async def on_tool_start(self, serialized: Any, input_str: str, **about: Any) -> None:
        await self.turn.check()
        self._tool_begins(serialized)


def _has_content(chunk: Any) -> bool:
    """Whether a piece of a stream has content beside its text: a part of a call, of reasoning."""
    message = getattr(chunk, "message", None)
    if not isinstance(message, BaseMessage):
        return False
    said = (
        message.content,
        getattr(message, "tool_call_chunks", None),
        message.additional_kwargs.get("reasoning_content"),
        message.response_metadata.get("finish_reason"),
    )
    return any(said)


def _nothing() -> None:
    """A task is cancelled, and a thread's client is ended by who guards it."""
