"""Who runs next, and what time it is: one thread, many actors, a seeded choice between them.

An actor is a greenlet: a thread of a simulated process that hands over only where it calls in
here. `Scheduler.step` stands for every point at which another thread may come in between; it is
called before each system call, at each lock and event, and between any two statements of the code
under test. How often it really hands over is drawn for every schedule, since races need both: long
runs between few switches, and a switch at nearly every point.

Time is virtual. It stands still while anybody can run and then jumps to the next timer. Timers lie
on a grid and are late by a drawn number of its steps, so that ties occur: without them a simulation
finds next to nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlet import greenlet

if TYPE_CHECKING:
    from .process import Process

# A power of two, so that times are exact and equal times are equal.
GRID = 2.0**-10
_STEPS_MAX = 300_000


class ProcessDied(BaseException):
    """Ends the threads of a process that was killed. Nothing in the code under test catches it."""


class Stuck(AssertionError):
    """Nobody can go on, or nobody comes to an end. Says who waits for what."""


class Actor:
    """One thread of one process. ``wants`` says what it waits for, None while it can run."""

    __slots__ = (
        "daemon",
        "done",
        "greenlet",
        "loop",
        "name",
        "number",
        "process",
        "ticket",
        "waiting",
        "wants",
        "woken",
    )

    def __init__(self, process: Process, number: int, name: str, *, daemon: bool) -> None:
        self.process = process
        self.number = number
        self.name = name
        self.daemon = daemon
        self.loop: asyncio.AbstractEventLoop | None = None
        self.wants = "to begin"
        self.waiting = False
        self.woken = False
        self.ticket = 0
        self.done = False
        self.greenlet: greenlet | None = None

    def __str__(self) -> str:
        return f"{self.process.name}/{self.name}"


class Delay(NamedTuple):
    """At the point number ``point`` of a schedule, whoever runs gets no CPU for some time."""

    point: int
    seconds: float


class Scheduler:
    """``rarity``: about how many points an actor passes before it hands over.

    ``stalls``: how many in a hundred hand-overs leave the actor without a CPU for some time.
    ``delays``: at which points whoever runs gets no CPU for how many seconds.
    """

    def __init__(
        self, random: Random, *, rarity: int, stalls: int, delays: Iterable[Delay] = ()
    ) -> None:
        self.now = 1000.0
        self.steps = 0
        self.actors: list[Actor] = []
        self.running: Actor | None = None
        self._random = random.random
        self._spread = 2 * rarity + 1
        self._stalls = stalls / 100
        self._ready: list[Actor] = []
        self._timers: list[tuple[float, int, Actor | None, int, Callable[[], None] | None]] = []
        self._timer_count = 0
        self._countdown = self._gap = 0
        self._passed = 0
        # The next one last.
        self.delays = sorted(delays, reverse=True)
        self._hub = greenlet.getcurrent()
        # Actors that have to come to an end.
        self._unfinished: set[Actor] = set()

    # For actors

    def step(self) -> None:
        """A point at which another actor may come in between."""
        self._countdown -= 1
        if self._countdown < 0 and self.running is not None:
            self._interrupt(self.running)

    def block(self, wants: str, timeout: float | None = None) -> bool:
        """Wait until `wake` (True) or that many seconds have passed (False)."""
        actor = self.running
        assert actor is not None, f"nobody is there to wait for {wants}"
        if actor.process.dead:
            raise ProcessDied
        actor.wants = wants
        actor.waiting = True
        actor.woken = False
        actor.ticket += 1
        if timeout is not None:
            self._push(self.due(timeout), actor, actor.ticket, None)
        self._hand_over(actor)
        return actor.woken

    def give_way(self) -> None:
        """Let somebody else run, perhaps; who was stopped runs no more."""
        actor = self.running
        assert actor is not None
        ready = self._ready
        if not actor.process.stopped:
            others = len(ready)
            if not others or int(self._random() * (others + 1)) == others:
                return
        actor.wants = "a CPU"
        ready.append(actor)
        self._hand_over(actor)

    def wake(self, actor: Actor) -> None:
        if actor.waiting and not actor.done:
            actor.waiting = False
            actor.woken = True
            self._ready.append(actor)

    def due(self, timeout: float) -> float:
        """When a timer set now will ring: on the grid, and a little late."""
        late = int(self._random() * 4)
        if late == 3 and self._random() < 0.1:
            late = int(self._random() * 40)
        exact = (self.now + max(0.0, timeout)) / GRID
        return (int(exact) + (exact % 1 > 0) + late) * GRID

    # For who arranges things

    def start(self, process: Process, name: str, run: Callable[[], Any], *, daemon: bool) -> Actor:
        actor = Actor(process, len(self.actors), name, daemon=daemon)
        self.actors.append(actor)

        def body() -> None:
            try:
                run()
            except ProcessDied:
                pass
            except BaseException as error:  # noqa: BLE001 - a thread's outermost frame
                actor.process.world.crashed(actor, error)
            finally:
                actor.done = True
                actor.waiting = False
                self._unfinished.discard(actor)

        actor.greenlet = greenlet(body, self._hub)
        if not daemon:
            self._unfinished.add(actor)
        self._ready.append(actor)
        return actor

    def at(self, when: float, callback: Callable[[], None]) -> None:
        """Call back at that time."""
        self._push(when, None, 0, callback)

    def release(self, actors: list[Actor]) -> None:
        """Let actors run that were set aside."""
        for actor in actors:
            self._ready.append(actor)

    def bury(self, process: Process) -> None:
        """Nobody waits for the threads of a process that is dead."""
        self._unfinished -= {actor for actor in self._unfinished if actor.process is process}

    def run(self, *, horizon: float) -> None:
        """Run until all but daemons are through. Raises `Stuck` when that cannot be."""
        while self._unfinished:
            if not self._ready:
                self._advance(horizon)
                continue
            self._resume(self._picked())

    def end(self, actor: Actor) -> None:
        """End an actor whose process is dead: its blocks are left, and none of its calls works."""
        assert actor.process.dead
        thread = actor.greenlet
        if thread is None or actor.done:
            return
        if thread:
            self._countdown = -1
            previous, self.running = self.running, actor
            thread.throw(ProcessDied)
            self.running = previous
        actor.done = True
        actor.greenlet = None
        if actor in self._ready:
            self._ready.remove(actor)

    def who_waits(self) -> str:
        waiting = [f"{actor} wants {actor.wants}" for actor in self.actors if not actor.done]
        return f"at {self.now - 1000:.3f} s: " + "; ".join(waiting)

    def _picked(self) -> Actor | None:
        """Who runs next, of those who can."""
        ready = self._ready
        while ready:
            actor = ready.pop(int(self._random() * len(ready)) if len(ready) > 1 else 0)
            process = actor.process
            if actor.done or process.dead:
                continue
            if process.stopped:
                process.parked.append(actor)
                continue
            return actor
        return None

    def _resume(self, actor: Actor | None) -> None:
        """Only the hub calls this. Comes back when nobody can run, or somebody has ended."""
        if actor is None:
            return
        self.running = actor
        assert actor.greenlet is not None
        actor.greenlet.switch()
        self.running = None

    def _interrupt(self, actor: Actor) -> None:
        if actor.process.dead:
            self._countdown = 0
            raise ProcessDied
        self.steps += 1
        if self.steps > _STEPS_MAX:
            raise Stuck(f"it goes round and round: {self.who_waits()}")
        delay = self._next_gap()
        if delay:
            self.block("a CPU", delay)
            return
        if not (self._ready or self._stalls or actor.process.stopped):
            return
        if self._stalls and self._random() < self._stalls:
            self.block("a CPU", GRID * int(self._random() * 8))
        else:
            self.give_way()

    def _next_gap(self) -> float:
        """Draw how many points pass before the next interruption; the delay of this one."""
        gap = int(self._random() * self._spread)
        delay = 0.0
        if self.delays:
            self._passed += self._gap + 1
            if self._passed >= self.delays[-1].point:
                delay = self.delays.pop().seconds
            if self.delays:
                gap = max(0, min(gap, self.delays[-1].point - self._passed - 1))
        self._countdown = self._gap = gap
        return delay

    def _hand_over(self, actor: Actor) -> None:
        if actor.loop is None:
            self._switch(actor)
        else:
            # What asyncio keeps for a thread, which all actors share.
            hooks = sys.get_asyncgen_hooks()
            running = asyncio._get_running_loop()
            sys.set_asyncgen_hooks(None, None)
            asyncio._set_running_loop(None)
            try:
                self._switch(actor)
            finally:
                sys.set_asyncgen_hooks(*hooks)
                asyncio._set_running_loop(running)
        if actor.process.dead:
            raise ProcessDied

    def _switch(self, actor: Actor) -> None:
        """To whoever is picked; to the hub, which lets time pass, when nobody can run."""
        following = self._picked()
        if following is actor:
            return
        self.running = following
        if following is None:
            self._hub.switch()
        else:
            assert following.greenlet is not None
            following.greenlet.switch()

    def _push(
        self, when: float, actor: Actor | None, ticket: int, callback: Callable[[], None] | None
    ) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, actor, ticket, callback))

    def _advance(self, horizon: float) -> None:
        """To the next timer, and all that ring with it."""
        while self._timers and not self._is_due(self._timers[0]):
            heapq.heappop(self._timers)
        if not self._timers:
            raise Stuck(f"nobody can go on: {self.who_waits()}")
        self.now = max(self.now, self._timers[0][0])
        if self.now > horizon:
            raise Stuck(f"nobody comes to an end: {self.who_waits()}")
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)
            if not self._is_due(timer):
                continue
            _, _, actor, _, callback = timer
            if callback is not None:
                callback()
            elif actor is not None:
                actor.waiting = False
                self._ready.append(actor)

    def _is_due(
        self, timer: tuple[float, int, Actor | None, int, Callable[[], None] | None]
    ) -> bool:
        actor = timer[2]
        return actor is None or (actor.waiting and actor.ticket == timer[3])
