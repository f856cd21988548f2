"""Where a holder hangs: its stack, for the log line of its revocation.

Read from another thread, without stopping the holder: a best effort. A thread that runs on while
somebody goes from frame to frame by ``f_back`` pulls the stack away under them: on Python 3.11 what
comes then is any object that lies there by now. So the frames are collected in one call that is C
all through, during which no other thread runs; what is read of each afterwards is its own.

Nor is any garbage collected meanwhile. Python 3.11 holds a lock of the interpreter in that call,
which each thread needs, GIL in hand, to begin and to end: were a destructor to run then that lets
go of the GIL, as one that closes a file does, the process would stand still for good
(https://github.com/python/cpython/issues/106883).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import sys
import threading
from collections.abc import Callable
from operator import attrgetter, methodcaller
from types import AsyncGeneratorType, CodeType, FrameType
from typing import Any

# Of a stack only the newest calls are of use.
_NEWEST = 12
_DEPTH_MAX = 100
# Two at a time would not know which of them is to switch collections on again.
_reading = threading.Lock()
_PATIENCE = 1.0
# A child of a fork in between would collect nothing for ever.
os.register_at_fork(
    before=_reading.acquire, after_in_parent=_reading.release, after_in_child=_reading.release
)


def thread_frames(thread_id: int) -> Callable[[], list[str]]:
    """The stack of a thread, oldest call first."""

    def frames() -> list[str]:
        return _stack(thread_id)

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
        return _stack(thread_id) if running else chain

    return frames


def _generator_behind(awaited: Any) -> Any:
    """The async generator that an ``async for`` waits in: its awaitable does not name it."""
    if hasattr(awaited, "cr_frame") or hasattr(awaited, "ag_frame"):
        return awaited
    referred = gc.get_referents(awaited)
    return next((one for one in referred if isinstance(one, AsyncGeneratorType)), awaited)


def _stack(thread_id: int) -> list[str]:
    # With an end: a signal's handler may have come in between, and ask for a stack as well.
    if not _reading.acquire(timeout=_PATIENCE):
        return []
    was_enabled = gc.isenabled()
    try:
        gc.disable()
        return _newest_calls(thread_id)
    finally:
        if was_enabled:
            gc.enable()
        _reading.release()


def _newest_calls(thread_id: int) -> list[str]:
    for count in range(_NEWEST, 0, -1):
        with contextlib.suppress(AttributeError):
            return [_where(one.f_code, one.f_lineno) for one in _frames(thread_id, count)]
    return []


def _frames(thread_id: int, count: int) -> list[FrameType]:
    """The newest frames, the oldest of them first. Raises AttributeError when there are fewer."""
    newest = map(methodcaller("get", thread_id), iter(sys._current_frames, None))
    one, same = itertools.tee(newest)
    # Everything happens in this call: the iterators are lazy.
    frame, (_, *older) = next(zip(one, map(_older(count), same), strict=False))
    return [found for found in (*reversed(older), frame) if found is not None]


@functools.cache
def _older(count: int) -> Callable[[Any], tuple[Any, ...]]:
    """Gets, of a frame, its code, the frame behind it, the one behind that, and so on."""
    # The code only as it gives a tuple for more than one name alone.
    return attrgetter("f_code", *(".".join(["f_back"] * steps) for steps in range(1, count + 1)))


def _where(code: CodeType, line: int | None) -> str:
    return f"{code.co_filename}:{line} in {code.co_qualname}"
