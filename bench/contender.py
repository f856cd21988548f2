"""A contender: a process that takes and releases one subject's lock, as it is told.

``python -m bench.contender SUBJECT PATH`` reads orders from standard input, one JSON array a line,
and answers each with a line of JSON when it is done; at the end of its input it ends. Times are
seconds of CLOCK_MONOTONIC. The same orders are understood by ``contender.mjs``, for locks that are
no Python:

* ``["cycles", N]``: take and release N times; seconds of each.
* ``["take"]``: when the lock was had. ``["release"]``: when it was about to be let go.
* ``["contend", FROM, UNTIL, HOLD]``: from and until these times take, hold for HOLD seconds and
  release; how often, and the longest wait in seconds.
* ``["hold", N]``: take N locks. ``["wait", N, SECONDS]``: wait for N locks, each in a thread or
  task of its own; the CPU seconds that this took.
* ``["swap", N]``: hand one lock N times from a thread or task to another; how late each had it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from typing import Any

from .subjects import AsyncLock, Lock, Subject
from .subjects.all import by_name

# Long enough that every waiter has come to rest in its wait.
_REST = 1.0
_REST_INSIDE = 0.03


class ThreadContender:
    def __init__(self, subject: Subject, path: str) -> None:
        assert subject.make is not None
        self._make = subject.make
        self._path = path
        self._lock = self._make(path)

    def obey(self, order: str, *arguments: Any) -> Any:
        return getattr(self, order)(*arguments)

    def cycles(self, number: int) -> list[float]:
        took = []
        for _ in range(number):
            started = time.perf_counter()
            self._lock.take()
            self._lock.release()
            took.append(time.perf_counter() - started)
        return took

    def take(self) -> float:
        self._lock.take()
        return time.monotonic()

    def release(self) -> float:
        before = time.monotonic()
        self._lock.release()
        return before

    def contend(self, start: float, until: float, hold: float) -> tuple[int, float]:
        time.sleep(max(0.0, start - time.monotonic()))
        turns = 0
        longest = 0.0
        while (asked := time.monotonic()) < until:
            self._lock.take()
            longest = max(longest, time.monotonic() - asked)
            turns += 1
            time.sleep(hold)
            self._lock.release()
        return turns, longest

    def hold(self, number: int) -> int:
        self._held = self._locks(number)
        for lock in self._held:
            lock.take()
        return number

    def wait(self, number: int, seconds: float) -> float:
        for lock in self._locks(number):
            threading.Thread(target=lock.take, daemon=True).start()
        time.sleep(_REST)
        before = time.process_time()
        time.sleep(seconds)
        return time.process_time() - before

    def swap(self, number: int) -> list[float]:
        # An object of its own for the waiter: some let the owner of one in again.
        waiter = Waiter(self._make(self._path))
        return [self._hand_to(waiter) for _ in range(number)]

    def _hand_to(self, waiter: Waiter) -> float:
        self._lock.take()
        thread = threading.Thread(target=waiter.run)
        thread.start()
        time.sleep(_REST_INSIDE)
        released = self.release()
        thread.join()
        return waiter.taken - released

    def _locks(self, number: int) -> list[Lock]:
        return [self._make(f"{self._path}-{one}") for one in range(number)]


class Waiter:
    """What another thread does: it takes the lock, notes when, and lets it go."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self.taken = 0.0

    def run(self) -> None:
        self._lock.take()
        self.taken = time.monotonic()
        self._lock.release()


class TaskContender:
    def __init__(self, subject: Subject, path: str) -> None:
        assert subject.make_async is not None
        self._make = subject.make_async
        self._path = path
        self._runner = asyncio.Runner()
        self._lock = self._runner.run(self._made(path))

    def obey(self, order: str, *arguments: Any) -> Any:
        return self._runner.run(getattr(self, order)(*arguments))

    async def _made(self, path: str) -> AsyncLock:
        return self._make(path)

    async def cycles(self, number: int) -> list[float]:
        took = []
        for _ in range(number):
            started = time.perf_counter()
            await self._lock.take()
            await self._lock.release()
            took.append(time.perf_counter() - started)
        return took

    async def take(self) -> float:
        await self._lock.take()
        return time.monotonic()

    async def release(self) -> float:
        before = time.monotonic()
        await self._lock.release()
        return before

    async def contend(self, start: float, until: float, hold: float) -> tuple[int, float]:
        await asyncio.sleep(max(0.0, start - time.monotonic()))
        turns = 0
        longest = 0.0
        while (asked := time.monotonic()) < until:
            await self._lock.take()
            longest = max(longest, time.monotonic() - asked)
            turns += 1
            await asyncio.sleep(hold)
            await self._lock.release()
        return turns, longest

    async def hold(self, number: int) -> int:
        self._held = self._locks(number)
        for lock in self._held:
            await lock.take()
        return number

    async def wait(self, number: int, seconds: float) -> float:
        waiters = [asyncio.create_task(lock.take()) for lock in self._locks(number)]
        await asyncio.sleep(_REST)
        before = time.process_time()
        await asyncio.sleep(seconds)
        used = time.process_time() - before
        assert not any(waiter.done() for waiter in waiters)
        return used

    async def swap(self, number: int) -> list[float]:
        other = self._make(self._path)
        return [await self._hand_to(other) for _ in range(number)]

    async def _hand_to(self, other: AsyncLock) -> float:
        await self._lock.take()
        waiter = asyncio.create_task(_wait(other))
        await asyncio.sleep(_REST_INSIDE)
        released = await self.release()
        return await waiter - released

    def _locks(self, number: int) -> list[AsyncLock]:
        return [self._make(f"{self._path}-{one}") for one in range(number)]


async def _wait(lock: AsyncLock) -> float:
    await lock.take()
    taken = time.monotonic()
    await lock.release()
    return taken


def main() -> None:
    name, path = sys.argv[1:]
    logging.disable()
    subject = by_name(name)
    contender = (ThreadContender if subject.make is not None else TaskContender)(subject, path)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(contender.obey(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
