"""``threading`` as a simulated process has it: locks, events and threads of the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .scheduler import Actor

if TYPE_CHECKING:
    from .system import System


class Lock:
    def __init__(self, system: System) -> None:
        self._system = system
        self._held = False
        self._waiting: list[Actor] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler = self._system.scheduler
        scheduler.step()
        until = scheduler.now + timeout if timeout >= 0 else None
        while self._held:
            if not blocking:
                return False
            left = None if until is None else until - scheduler.now
            if left is not None and left <= 0:
                return False
            actor = scheduler.running
            assert actor is not None
            self._waiting.append(actor)
            try:
                scheduler.block("a lock", left)
            finally:
                self._waiting.remove(actor)
        self._held = True
        return True

    def release(self) -> None:
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held = False
        for actor in list(self._waiting):
            self._system.scheduler.wake(actor)

    def locked(self) -> bool:
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


class Event:
    """Each system has a class of its own, for the code under test to inherit from."""

    _system: System

    def __init__(self) -> None:
        # Sets of events are walked in the order of their hashes: the same in every run.
        self._number = self._system.next_number()
        self._set = False
        self._waiting: list[Actor] = []

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._system.scheduler.step()
        self._set = True
        for actor in list(self._waiting):
            self._system.scheduler.wake(actor)

    def clear(self) -> None:
        self._system.scheduler.step()
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        scheduler = self._system.scheduler
        scheduler.step()
        if self._set:
            return True
        actor = scheduler.running
        assert actor is not None
        self._waiting.append(actor)
        try:
            # Woken is enough: whoever waits is told of a set that was cleared again at once.
            return scheduler.block("an event", timeout) or self._set
        finally:
            self._waiting.remove(actor)


class Thread:
    def __init__(
        self,
        system: System,
        *,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        name: str = "thread",
        daemon: bool = False,
    ) -> None:
        self._system = system
        self._target = target
        self._args = args
        self._name = name
        self._daemon = daemon

    def start(self) -> None:
        self._system.scheduler.step()
        process = self._system.process
        process.scheduler.start(
            process, self._name, lambda: self._target(*self._args), daemon=self._daemon
        )


class MainThread:
    def is_alive(self) -> bool:
        return True


class Threading:
    """Stands for the module. Knows only what the code under test uses of it."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.Event = type("Event", (Event,), {"_system": system})

    def Lock(self) -> Lock:  # noqa: N802 - the module's name for it
        return Lock(self._system)

    def Thread(self, **arguments: Any) -> Thread:  # noqa: N802
        return Thread(self._system, **arguments)

    def main_thread(self) -> MainThread:
        return MainThread()

    def current_thread(self) -> object:
        return self._system.scheduler.running or self

    def get_ident(self) -> int:
        actor = self._system.scheduler.running
        return 0 if actor is None else 1 + actor.number
