"""What a graph's own events mean to its turn: progress, limits of model calls, checks before tools.

The handlers are attached to every run below a context (`watch`), as LangChain's own counters are.
They see models and tools of LangChain, whatever client is under them. What a node calls without
LangChain they do not see; for that there is `turnlock.guard`.

Threads and tasks are mixed at will: a task's graph runs its plain functions in threads, and a
thread may run a loop in its turn. What LangChain calls in a thread may not be a coroutine, as it
swallows what that raises, and what it calls on a loop's thread may not wait for storage. So one
handler is plain, and asks the storage where no loop runs; a task's run has another one beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.tracers.context import register_configure_hook

from ...turns.calling import OpenCall
from ...turns.face import TurnFace
from .saving import apart

# What blocks and pieces of them have that are otherwise empty.
_FRAME = ("type", "id", "index")

watched: ContextVar[BaseCallbackHandler | None] = ContextVar("turnlock_langgraph", default=None)
_checked: ContextVar[BaseCallbackHandler | None] = ContextVar("turnlock_tools", default=None)
register_configure_hook(watched, inheritable=True)
register_configure_hook(_checked, inheritable=True)


def watch(turn: TurnFace) -> None:
    """Attach what reports to a turn to all that this context runs. From its thread or its task."""
    watched.set(TurnHandler(turn))
    _checked.set(_ToolCheck(turn) if _is_on_loop() else None)


class _Asked(NamedTuple):
    """A model call that is open, the chain that made it, and its task."""

    call: OpenCall
    chain: UUID | None
    task: asyncio.Task[Any] | None


class TurnHandler(BaseCallbackHandler):
    """Reports a graph's events to a turn.

    A model call has to bring its first content within the store's ``first_token`` and more within
    ``idle``; one that does not stream is all first content. When a limit passes the turn is revoked
    with reason ``model-limit``. No model is asked and no tool is called for a turn that is over.

    Of a call that was cancelled LangChain tells nothing. It is over when its task is cancelled, or
    asks another model before any content came, or when the chain that made it ends.
    """

    raise_error = True
    run_inline = True

    def __init__(self, turn: TurnFace) -> None:
        self.turn = turn
        self._calls: dict[UUID, _Asked] = {}

    def on_chain_start(self, serialized: Any, inputs: Any, **about: Any) -> None:
        node = (about.get("metadata") or {}).get("langgraph_node")
        if node is not None and about.get("name") == node:
            self._progress(f"node {node}")

    def on_chain_end(self, outputs: Any, **about: Any) -> None:
        self._end_where(lambda one: one.chain == about["run_id"])

    def on_chain_error(self, error: BaseException, **about: Any) -> None:
        self._end_where(lambda one: one.chain == about["run_id"])

    def on_chat_model_start(self, serialized: Any, messages: Any, **about: Any) -> None:
        self._begin(about)

    def on_llm_start(self, serialized: Any, prompts: Any, **about: Any) -> None:
        self._begin(about)

    def on_llm_new_token(self, token: Any, **about: Any) -> None:
        self._streamed(about["run_id"], _says(token) or _has_content(about.get("chunk")))

    def on_stream_event(self, event: Any, **about: Any) -> None:
        self._streamed(about["run_id"], _says(event.get("delta")))

    def on_llm_end(self, response: Any, **about: Any) -> None:
        self._end(about["run_id"])

    def on_llm_error(self, error: BaseException, **about: Any) -> None:
        self._end(about["run_id"])

    def on_tool_start(self, serialized: Any, input_str: str, **about: Any) -> None:
        if not _is_on_loop():
            self.turn._core.check()
        self._progress(f"tool {(serialized or {}).get('name', '')}".rstrip())

    def on_tool_end(self, output: Any, **about: Any) -> None:
        self._progress()

    def _progress(self, what: str = "") -> None:
        self.turn._core.check_revoked()
        self.turn._core.progress(what)

    def _begin(self, about: dict[str, Any]) -> None:
        metadata = about.get("metadata") or {}
        # A caller's metadata may be anything, and a turn takes text alone.
        provider, model = metadata.get("ls_provider"), metadata.get("ls_model_name")
        self.turn.describe_model(
            provider=provider if isinstance(provider, str) else None,
            model=model if isinstance(model, str) else None,
            api="langchain",
        )
        run, task = about["run_id"], asyncio.current_task() if _is_on_loop() else None
        if task is not None:
            if about.get("batch_size", 1) == 1:
                self._end_where(lambda one: one.task is task and not one.call.has_content)
            task.add_done_callback(lambda done: self._end(run) if done.cancelled() else None)
        call = self.turn.begin_call(_nothing)
        self._calls[run] = _Asked(call, about.get("parent_run_id"), task)

    def _streamed(self, run: UUID, has_content: bool) -> None:
        asked = self._calls.get(run)
        if asked is not None:
            asked.call.check()
            if has_content:
                asked.call.progressed()

    def _end(self, run: UUID) -> None:
        asked = self._calls.pop(run, None)
        if asked is not None:
            asked.call.close()

    def _end_where(self, is_over: Callable[[_Asked], bool]) -> None:
        for run in [run for run, asked in list(self._calls.items()) if is_over(asked)]:
            self._end(run)


class _ToolCheck(BaseCallbackHandler):
    """Has a worker ask the storage before a tool that a task awaits."""

    raise_error = True
    run_inline = True

    def __init__(self, turn: TurnFace) -> None:
        self._turn = turn
        self._loop = asyncio.get_running_loop()

    async def on_tool_start(self, serialized: Any, input_str: str, **about: Any) -> None:
        # In a loop of LangChain's own for a thread's tool it would change nothing.
        if asyncio.get_running_loop() is self._loop:
            await apart(self._turn, self._turn._core.check)


def _is_on_loop() -> bool:
    return asyncio._get_running_loop() is not None


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
    return any(map(_says, said))


def _says(part: Any) -> bool:
    """Whether there is anything in a part of a message but its frame."""
    if isinstance(part, dict):
        return any(_says(value) for name, value in part.items() if name not in _FRAME)
    return any(map(_says, part)) if isinstance(part, list) else bool(part)


def _nothing() -> None:
    """A task is cancelled, and a thread's client is ended by who guards it."""
