"""An asyncio event loop whose selector is the scheduler and whose clock is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from .process import Process
from .scheduler import GRID, Actor


class _Selector:
    """Waits for nothing but time and calls from other threads."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        self._loop.wait(timeout)
        return []


class SimulatedLoop(asyncio.BaseEventLoop):
    """One per process, on an actor of its own. Callbacks run in the order of their scheduling."""

    _selector: Any
    _clock_resolution: float
    _ready: Any

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        self._actor: Actor | None = None
        self._called = False
        self._selecting = False
        self._selector = _Selector(self)
        self._clock_resolution = GRID / 2
        self.tasks: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._process.scheduler.now

    def wait(self, timeout: float | None) -> None:
        scheduler = self._process.scheduler
        if timeout is not None and timeout <= 0:
            scheduler.step()
        elif not self._called:
            self._selecting = True
            scheduler.block("loop events", timeout)
            self._selecting = False
        self._called = False

    def run(self, main: Coroutine[Any, Any, Any]) -> None:
        """Run until ``main`` is done. Raises what it raises."""
        actor = self._process.scheduler.running
        assert actor is not None
        self._actor = actor
        actor.loop = self
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._run_once()  # type: ignore[attr-defined]
            task.result()
        finally:
            asyncio._set_running_loop(None)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._process.dead:
            problem = context.get("exception") or AssertionError(context["message"])
            assert self._actor is not None
            self._process.world.crashed(self._actor, problem)

    def end(self) -> None:
        """Close what the death of the process left behind."""
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done():
                try:
                    task.get_coro().close()
                except BaseException:  # noqa: BLE001 - its process is dead
                    pass
        self.tasks.clear()
        self._ready.clear()
        self.close()

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **arguments: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **arguments)
        self.tasks.append(task)
        return task

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        """Wake the loop, from another thread."""
        self._called = True
        if self._actor is not None and self._selecting:
            self._process.scheduler.wake(self._actor)
