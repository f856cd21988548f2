"""Tasks that work for a turn and are not its own: they are in the turn, and end with it.

A turn cancels its own task when it is revoked. What that task started goes on: an agent framework's
run in a task, or in another thread's loop, which has not even the context of its turn. Adopted,
such a task has the turn as its current one, and is cancelled once the turn is over in any way.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from .aio import call_on_loop
from .face import TurnFace
from .scope import Scope, current_turn
from .turn import TurnCore

_adopted: weakref.WeakKeyDictionary[asyncio.Task[Any], TurnCore] = weakref.WeakKeyDictionary()


def adopt_current_task(turn: TurnFace) -> None:
    """Make the running task one of ``turn``, unless it is the turn's own, or of the turn already.

    Raises `LeaseRevoked` when the turn is over already.
    """
    core = turn._core
    # Before the turn is asked: it gives its owner up when it is revoked.
    owner = core.lease.ticket.owner
    core.check_revoked()
    task = asyncio.current_task()
    if task is None or owner == ("task", task) or _adopted.get(task) is core:
        return
    _adopted[task] = core
    scope = Scope(turn)
    if current_turn() is not turn:
        scope.enter()
    loop = asyncio.get_running_loop()

    def end() -> None:
        scope.leave()
        call_on_loop(loop, task.cancel)

    def done(_: asyncio.Task[Any]) -> None:
        scope.leave()
        core.end_call(call)
        _adopted.pop(task, None)

    call = core.until_over(end)
    task.add_done_callback(done)
    # Who ended the turn since the first look may not have seen the task.
    core.check_revoked()
