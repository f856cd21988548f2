"""Where a holder hangs: its stack, for the log line of its revocation.

Read from another thread, without stopping the holder: a best effort that must not raise.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import AsyncGeneratorType, CodeType, FrameType
from typing import Any

_DEPTH_MAX = 100


def thread_frames(thread_id: int) -> Callable[[], list[str]]:
    """The stack of a thread, oldest call first."""

    def frames() -> list[str]:
        return _stack(sys._current_frames().get(thread_id))

    return frames


def task_frames(task: Any, thread_id: int) -> Callable[[], list[str]]:
    """The chain of awaits of a task; of its thread instead when the task is what runs there."""

    def frames() -> list[str]:
        chain: list[str] = []
        awaited = task.get_coro()
        running = False
        while awaited is not None and len(chain) < _DEPTH_MAX:
            awaited = _generator_behind(awaited)
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
            if frame is None:
                break
            running = running or getattr(awaited, "cr_running", False)
            chain.append(_where(frame.f_code, frame.f_lineno))
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
        return _stack(sys._current_frames().get(thread_id)) if running else chain

    return frames


def _generator_behind(awaited: Any) -> Any:
    """The async generator that an ``async for`` waits in: its awaitable does not name it."""
    if hasattr(awaited, "cr_frame") or hasattr(awaited, "ag_frame"):
        return awaited
    referred = gc.get_referents(awaited)
    return next((one for one in referred if isinstance(one, AsyncGeneratorType)), awaited)


def _stack(frame: FrameType | None) -> list[str]:
    found: list[str] = []
    while frame is not None and len(found) < _DEPTH_MAX:
        found.append(_where(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    found.reverse()
    return found


def _where(code: CodeType, line: int | None) -> str:
    return f"{code.co_filename}:{line} in {code.co_qualname}"
