"""What a guarded client costs beside a bare one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import openai

import turnlock

from ..gateway import practice_model
from ..measure import Bench, in_rounds, result_of
from ..results import Column, Kind, Result, Row, Spread

_CHUNKS = 50
_ASKED: dict[str, Any] = {
    "model": "practice",
    "messages": [{"role": "user", "content": f"/tokens {_CHUNKS}"}],
    "stream": True,
}
_THREAD = "a thread's call"
_TASK = "a task's call"
_BARE = "openai's client"
_GUARDED = "the same, turnlock.guard"


class Guarded:
    name = "guarded"
    title = "A guarded call"
    what = "What `turnlock.guard` adds to a call: limits by content, and an end with the turn."
    how = (
        f"openai's client streams {_CHUNKS} chunks that the practice model, a process of its own,"
        " sends at once, in an open turn; a round bare, a round guarded. *CPU* is the time of the"
        " client's thread in a guarded round, by that in the bare one beside it."
    )
    floor = "The same client, bare: no limit but its own, and nothing that ends a blocked thread."
    reading = (
        "A model takes seconds, and sends its chunks one by one; this is the worst that a guard can"
        " be: nothing but chunks. Most of both rows is the SDK making objects of JSON."
    )

    def run(self, bench: Bench) -> Result:
        calls = max(1, bench.scale.turns // 10)
        cells: dict[str, dict[str, Spread]] = {_BARE: {}, _GUARDED: {}}
        with practice_model() as url, turnlock.open_store("memory:") as store:
            for title, asking in ((_THREAD, InThread(store, url)), (_TASK, InTask(store, url))):
                jobs = {label: partial(asking.ask, label, calls) for label in cells}
                for job in jobs.values():
                    job()
                asking.cpu.clear()
                for label, took in in_rounds(bench.scale.rounds, jobs).items():
                    cells[label][title] = Spread.of(took)
                cells[_GUARDED][_cpu(title)] = Spread.of(asking.ratios())
                asking.close()
        columns = [
            column
            for title in (_THREAD, _TASK)
            for column in (Column(title, "ms"), Column(_cpu(title), "times the bare one"))
        ]
        rows = [Row(_BARE, Kind.FLOOR, cells[_BARE]), Row(_GUARDED, Kind.OURS, cells[_GUARDED])]
        return result_of(self, columns, rows)


def _cpu(title: str) -> str:
    return f"{title}, CPU"


class Asking:
    """One client of each kind. ``cpu``: the seconds that each round took of the thread."""

    def __init__(self) -> None:
        self.cpu: dict[str, list[float]] = {}

    def ask(self, label: str, number: int) -> list[float]:
        """A round; how long each call took in ms."""
        began = time.thread_time()
        took = self._ask(label, number)
        self.cpu.setdefault(label, []).append(time.thread_time() - began)
        return [1e3 * one for one in took]

    def ratios(self) -> Iterable[float]:
        rounds = zip(self.cpu[_GUARDED], self.cpu[_BARE], strict=True)
        return [guarded / bare for guarded, bare in rounds]

    def _ask(self, label: str, number: int) -> list[float]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class InThread(Asking):
    def __init__(self, store: turnlock.Store, url: str) -> None:
        super().__init__()
        self._store = store
        self._clients = {
            _BARE: openai.OpenAI(api_key="any", base_url=url),
            _GUARDED: turnlock.guard(openai.OpenAI(api_key="any", base_url=url)),
        }

    def _ask(self, label: str, number: int) -> list[float]:
        with self._store.turn("main/threads"):
            return [self._call(self._clients[label]) for _ in range(number)]

    def _call(self, client: openai.OpenAI) -> float:
        began = time.perf_counter()
        for _ in client.chat.completions.create(**_ASKED):
            pass
        return time.perf_counter() - began

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


class InTask(Asking):
    def __init__(self, store: turnlock.Store, url: str) -> None:
        super().__init__()
        self._store = store
        self._runner = asyncio.Runner()
        self._clients = {
            _BARE: openai.AsyncOpenAI(api_key="any", base_url=url),
            _GUARDED: turnlock.guard(openai.AsyncOpenAI(api_key="any", base_url=url)),
        }

    def _ask(self, label: str, number: int) -> list[float]:
        return self._runner.run(self._calls(self._clients[label], number))

    async def _calls(self, client: openai.AsyncOpenAI, number: int) -> list[float]:
        async with self._store.turn("main/tasks"):
            return [await self._call(client) for _ in range(number)]

    async def _call(self, client: openai.AsyncOpenAI) -> float:
        began = time.perf_counter()
        async for _ in await client.chat.completions.create(**_ASKED):
            pass
        return time.perf_counter() - began

    def close(self) -> None:
        for client in self._clients.values():
            self._runner.run(client.close())
        self._runner.close()
