"""The clients of a simulated process: tasks and threads that have turns, and operators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.oracle import (
    Acked,
    Asked,
    Began,
    EpochTold,
    Granted,
    Leaving,
    Left,
    MarkerOwed,
    Outcome,
    Read,
    Revoked,
    Started,
    records,
)

from .plan import Act, ClientPlan, ProcessPlan, Step, TurnPlan

if TYPE_CHECKING:
    from .loop import SimulatedLoop
    from .process import Process
    from .world import World

_PATIENCE_BETWEEN_TRIES = 0.3
_SIBLING_PAUSE = 0.01


class Planned(Exception):
    """What a block raises because its plan says so."""


class Host:
    """The program that runs in a simulated process: a store, its clients and its operators."""

    def __init__(self, world: World, process: Process, plan: ProcessPlan) -> None:
        self.world = world
        self.process = process
        self.store = world.open_store(process)
        self.errors: Any = process.copy.load("turnlock.errors")
        self.entries: Any = process.copy.load("turnlock.transcript.entries")
        self.aio: Any = process.copy.load("turnlock.turns.aio")
        self.time: Any = process.copy.system.modules["time"]
        self.loop: SimulatedLoop | None = None
        self.siblings: list[asyncio.Task[None]] = []
        self.events: Any = process.copy.load("turnlock.events")
        self.store.subscribe(self._seen)
        self._plan = plan

    def start(self) -> None:
        start = self.process.scheduler.start
        tasks = []
        for number, plan in enumerate(self._plan.clients):
            if plan.is_thread:
                client = ThreadClient(self, number, plan)
                start(self.process, f"thread{number}", client.run, daemon=False)
            else:
                tasks.append(TaskClient(self, number, plan))
        if tasks:
            start(self.process, "loop", lambda: self._run_loop(tasks), daemon=False)
        if self._plan.acts:
            start(self.process, "operator", self._operate, daemon=False)

    def read(self, session: str, turn_id: str | None = None) -> None:
        began = self.world.stamp()
        found = records(self.store.read(session))
        self.world.note(Read(self.world.stamp(), session, found, began, turn_id))

    def _run_loop(self, clients: list[TaskClient]) -> None:
        from .loop import SimulatedLoop

        self.loop = loop = SimulatedLoop(self.process)
        self.world.loops.append(loop)

        async def main() -> None:
            await asyncio.gather(*(loop.create_task(one.run()) for one in clients))
            # Not gathered: for tasks that are done, how soon that comes back depends on the Python.
            for sibling in self.siblings:
                await sibling

        loop.run(main())

    def _seen(self, event: Any) -> None:
        if isinstance(event, self.events.TurnRevoked):
            self.world.note(Revoked(self.world.stamp(), event.turn_id, event.reason))
        elif isinstance(event, self.events.TurnStarted):
            self.world.note(Started(self.world.stamp(), event.turn_id))
        elif isinstance(event, self.events.MarkerOwed):
            self.world.note(MarkerOwed(self.world.stamp(), event.turn_id))

    def _operate(self) -> None:
        for act in sorted(self._plan.acts):
            self.time.sleep(max(0.0, 1000.0 + act.at - self.process.scheduler.now))
            try:
                self._act(act)
            except self.errors.TurnlockError as error:
                self.world.allow(error, self.errors)

    def _act(self, act: Act) -> None:
        self.world.say(f"{self.process.name}: operator: {act.kind} {act.session}")
        match act.kind:
            case "revoke":
                self.store.revoke(act.session)
            case "clean":
                self.store.clean_stale()
            case "look":
                self.store.locks()
                list(self.store.sessions())
            case "check":
                self.store.check_leases()
            case "read":
                self.read(act.session)
            case "remove":
                self.world.remove_lock(act.session)


class _Client:
    """What tasks and threads have in common: how a turn's story is noted."""

    def __init__(self, host: Host, number: int, plan: ClientPlan) -> None:
        self.host = host
        self.world = host.world
        self.plan = plan
        self._name = f"{host.process.name}c{number}"
        self._count = 0
        self._turn_count = 0

    def _ask(self, plan: TurnPlan, lane: str | None) -> tuple[str, Any]:
        self._turn_count += 1
        turn_id = f"{self._name}t{self._turn_count}"
        block = self.host.store.turn(
            plan.session,
            wait=plan.wait,
            max_hold=plan.max_hold,
            max_stall=plan.max_stall,
            turn_id=turn_id,
        )
        asked = self.world.stamp()
        process = self.host.process.name
        self.world.note(Asked(asked, turn_id, plan.session, process, lane, plan.max_hold))
        return turn_id, block

    def _granted(self, turn_id: str) -> None:
        self._since = self.host.process.scheduler.now
        self.world.note(Granted(self.world.stamp(), turn_id))

    def _leaving(self, turn_id: str) -> None:
        self.world.note(Leaving(self.world.stamp(), turn_id))

    def _to_limit(self, plan: TurnPlan) -> float:
        """Seconds until the turn's hold limit: an append then meets its revocation."""
        return max(0.0, self._since + plan.max_hold - self.host.process.scheduler.now)

    def _entries(self, turn_id: str, count: float) -> list[Any]:
        made = []
        for _ in range(int(count)):
            self._count += 1
            made.append(self.host.entries.user("x") | {"id": f"{turn_id}.{self._count}"})
        return made

    def _began(self, turn_id: str, entries: list[Any]) -> tuple[tuple[str, ...], float]:
        ids = tuple(entry["id"] for entry in entries)
        began = self.world.stamp()
        self.world.note(Began(began, turn_id, ids))
        return ids, began

    def _acked(self, turn_id: str, ids: tuple[str, ...], given: list[str], began: float) -> None:
        assert tuple(given) == ids, (given, ids)
        self.world.note(Acked(self.world.stamp(), turn_id, ids, began))

    def _left(self, turn_id: str, error: BaseException | None) -> None:
        """Note how a turn ended, and that this was one of the ways in which it may."""
        errors = self.host.errors
        match error:
            case None:
                outcome = Outcome.OK
            case errors.SessionBusy():
                outcome = Outcome.BUSY
            case errors.LeaseRevoked():
                self.world.note(Revoked(self.world.stamp(), turn_id, error.reason))
                outcome = Outcome.REVOKED
            case asyncio.CancelledError() if self._cancels():
                outcome = Outcome.CANCELLED
            case Planned():
                outcome = Outcome.FAILED
            case errors.TurnlockError():
                self.world.allow(error, errors)
                outcome = Outcome.FAILED
            case _:
                raise error
        self.world.note(Left(self.world.stamp(), turn_id, outcome))

    def _told(self, error: Any) -> None:
        """A sibling learned that its turn is over, or that it cannot write."""
        if not isinstance(error, self.host.errors.LeaseRevoked):
            self.world.allow(error, self.host.errors)

    def _cancels(self) -> int:
        return 0


class TaskClient(_Client):
    _timeout: asyncio.Timeout | None = None
    _outside_cancels = 0

    async def run(self) -> None:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        await asyncio.sleep(self.plan.begins)
        at = self.plan.cancel_at
        story = self._story()
        try:
            await (story if at is None else _Counted(story, at, self._strike))
        except asyncio.CancelledError:
            if not self._outside_cancels:
                raise

    def _strike(self) -> None:
        self._loop.call_later(self.plan.cancel_after, self._cancel)

    def _cancel(self) -> None:
        assert self._task is not None
        if not self._task.done():
            self.world.say(f"{self._name} is cancelled")
            self._outside_cancels += 1
            self._task.cancel()

    async def _story(self) -> None:
        if self.plan.timeout is None:
            await self._turns()
            return
        try:
            async with asyncio.timeout(self.plan.timeout) as timeout:
                self._timeout = timeout
                await self._turns()
        except TimeoutError:
            pass

    async def _turns(self) -> None:
        for plan in self.plan.turns:
            await self._turn(plan)

    async def _turn(self, plan: TurnPlan) -> None:
        turn_id, block = self._ask(plan, self.host.process.name)
        problem: BaseException | None = None
        try:
            async with block as turn:
                self._granted(turn_id)
                await self._steps(plan, turn_id, turn)
                self._leaving(turn_id)
        except BaseException as error:  # noqa: BLE001 - sorted out by `_left`
            problem = error
        if self.host.process.dead:
            return
        assert self._task is not None
        self._left(turn_id, problem)
        if isinstance(problem, asyncio.CancelledError):
            raise problem
        if self._task.cancelling() > self._cancels():
            raise AssertionError(f"turn {turn_id} left a cancellation of its own on its task")

    def _cancels(self) -> int:
        """How often somebody else has cancelled this task."""
        timed_out = self._timeout is not None and self._timeout.expired()
        return self._outside_cancels + timed_out

    async def _steps(self, plan: TurnPlan, turn_id: str, turn: Any) -> None:
        stubborn = plan.stubborn
        for step in plan.steps:
            while True:
                try:
                    await self._step(step, plan, turn_id, turn)
                except (asyncio.CancelledError, self.host.errors.LeaseRevoked):
                    if stubborn <= 0:
                        raise
                    stubborn -= 1
                    await asyncio.sleep(_PATIENCE_BETWEEN_TRIES)
                    step = Step("append", 1)
                    continue
                break

    async def _step(self, step: Step, plan: TurnPlan, turn_id: str, turn: Any) -> None:
        match step.kind:
            case "append":
                await self._append(turn_id, turn, self._entries(turn_id, step.value))
            case "edge":
                await asyncio.sleep(self._to_limit(plan))
                await self._append(turn_id, turn, self._entries(turn_id, step.value))
            case "again":
                entries = self._entries(turn_id, step.value)
                await self._append(turn_id, turn, entries)
                await self._append(turn_id, turn, entries)
            case "gather":
                several = (
                    self._append(turn_id, turn, self._entries(turn_id, 1))
                    for _ in range(1 + int(step.value))
                )
                for answer in await asyncio.gather(*several, return_exceptions=True):
                    if isinstance(answer, BaseException):
                        raise answer
            case "sibling":
                self.host.siblings.append(self._loop.create_task(self._sibling(turn_id, turn)))
            case "pause" | "hang":
                await asyncio.sleep(step.value)
            case "block":
                self.host.time.sleep(step.value)
            case "read":
                await self.host.aio.on_worker(lambda: self.host.read(plan.session, turn_id))
            case "progress":
                turn.progress("working")
            case "check":
                await turn.check()
            case "messages":
                await turn.messages()
            case "epoch":
                epoch = await turn.epoch
                self.world.note(EpochTold(self.world.stamp(), turn_id, epoch))
            case "watch":
                async for _ in turn.watch(_stream(step.value), first=0.25, idle=0.25):
                    pass
            case "raise":
                raise Planned

    async def _sibling(self, turn_id: str, turn: Any) -> None:
        """A task of the turn that appends until it is told that the turn is over."""
        try:
            while True:
                await self._append(turn_id, turn, self._entries(turn_id, 1))
                await asyncio.sleep(_SIBLING_PAUSE)
        except self.host.errors.TurnlockError as error:
            self._told(error)

    async def _append(self, turn_id: str, turn: Any, entries: list[Any]) -> None:
        ids, began = self._began(turn_id, entries)
        self._acked(turn_id, ids, await turn.append(*entries), began)


class ThreadClient(_Client):
    def run(self) -> None:
        self.host.time.sleep(self.plan.begins)
        for plan in self.plan.turns:
            self._turn(plan)

    def _turn(self, plan: TurnPlan) -> None:
        turn_id, block = self._ask(plan, None)
        problem: BaseException | None = None
        try:
            with block as turn:
                self._granted(turn_id)
                self._steps(plan, turn_id, turn)
                self._leaving(turn_id)
        except Exception as error:  # noqa: BLE001 - sorted out by `_left`
            problem = error
        self._left(turn_id, problem)

    def _steps(self, plan: TurnPlan, turn_id: str, turn: Any) -> None:
        stubborn = plan.stubborn
        for step in plan.steps:
            while True:
                try:
                    self._step(step, plan, turn_id, turn)
                except self.host.errors.LeaseRevoked:
                    if stubborn <= 0:
                        raise
                    stubborn -= 1
                    self.host.time.sleep(_PATIENCE_BETWEEN_TRIES)
                    step = Step("append", 1)
                    continue
                break

    def _step(self, step: Step, plan: TurnPlan, turn_id: str, turn: Any) -> None:
        match step.kind:
            case "append":
                self._append(turn_id, turn, self._entries(turn_id, step.value))
            case "edge":
                self.host.time.sleep(self._to_limit(plan))
                self._append(turn_id, turn, self._entries(turn_id, step.value))
            case "again":
                entries = self._entries(turn_id, step.value)
                self._append(turn_id, turn, entries)
                self._append(turn_id, turn, entries)
            case "sibling":
                self.host.process.scheduler.start(
                    self.host.process,
                    f"sibling of {turn_id}",
                    partial(self._sibling, turn_id, turn),
                    daemon=False,
                )
            case "pause" | "hang" | "block":
                self.host.time.sleep(step.value)
            case "read":
                self.host.read(plan.session, turn_id)
            case "progress":
                turn.progress("working")
            case "check":
                turn.check()
            case "messages":
                turn.messages()
            case "epoch":
                self.world.note(EpochTold(self.world.stamp(), turn_id, turn.epoch))
            case "watch":
                stream = _blocking_stream(step.value, self.host.time.sleep)
                for _ in turn.watch(stream, first=0.25, idle=0.25):
                    pass
            case "raise":
                raise Planned

    def _sibling(self, turn_id: str, turn: Any) -> None:
        """A thread of the turn that appends until it is told that the turn is over."""
        try:
            while True:
                self._append(turn_id, turn, self._entries(turn_id, 1))
                self.host.time.sleep(_SIBLING_PAUSE)
        except self.host.errors.TurnlockError as error:
            self._told(error)

    def _append(self, turn_id: str, turn: Any, entries: list[Any]) -> None:
        ids, began = self._began(turn_id, entries)
        self._acked(turn_id, ids, turn.append(*entries), began)


async def _stream(pause: float) -> AsyncIterator[int]:
    for number in range(3):
        await asyncio.sleep(pause)
        yield number


def _blocking_stream(pause: float, sleep: Callable[[float], None]) -> Iterator[int]:
    for number in range(3):
        sleep(pause)
        yield number


class _Counted:
    """A coroutine to await; ``strike`` is called at its suspension number ``at``."""

    def __init__(self, story: Coroutine[Any, Any, None], at: int, strike: Callable[[], None]):
        self._story = story
        self._at = at
        self._strike = strike

    def __await__(self) -> Generator[Any, Any, None]:
        count = 0
        step: Callable[[], Any] = partial(self._story.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration:
                return
            count += 1
            if count == self._at:
                self._strike()
            try:
                step = partial(self._story.send, (yield awaited))
            except BaseException as error:  # noqa: BLE001 - thrown into what it is meant for
                step = partial(self._story.throw, error)
