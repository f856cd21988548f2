"""How a watch ends that is not read to its end: its limit ends with it, and so does its stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import turnlock
from turnlock import LeaseRevoked
from turnlock.store import Store
from turnlock.turns.sync import Turn


@pytest.fixture
def store() -> Iterator[Store]:
    with turnlock.open_store("memory:") as store:
        yield store


class Stream:
    """As an SDK's: not a generator, and its connection is open until it is closed."""

    def __init__(self, fails: bool = False) -> None:
        self.closed = 0
        self._fails = fails

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> int:
        if self._fails:
            raise ConnectionError
        return 1

    def close(self) -> None:
        self.closed += 1


def calls(turn: Any) -> int:
    return len(turn._core.lease.calls)


def unread(turn: Turn, stream: Stream) -> None:
    turn.watch(stream)


def broken_off(turn: Turn, stream: Stream) -> None:
    for _ in turn.watch(stream):
        break


def broken_off_from_a_call(turn: Turn, stream: Stream) -> None:
    for _ in turn.watch(lambda: stream):
        break


def closed(turn: Turn, stream: Stream) -> None:
    watch = turn.watch(stream)
    next(watch)
    watch.close()
    assert list(watch) == []


def failed(turn: Turn, stream: Stream) -> None:
    with pytest.raises(ConnectionError):
        list(turn.watch(Stream(fails=True)))
    with pytest.raises(ZeroDivisionError):
        list(turn.watch(stream, content=lambda item: item // 0))


def no_stream(turn: Turn, stream: Stream) -> None:
    stream.close()
    with pytest.raises(TypeError):
        turn.watch(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "use", [unread, broken_off, broken_off_from_a_call, closed, failed, no_stream]
)
def test_in_a_thread(use: Callable[[Turn, Stream], None], store: Store) -> None:
    stream = Stream()
    with store.turn("main/a") as turn:
        use(turn, stream)
        assert calls(turn) == 0
        assert stream.closed


def test_when_the_session_was_taken_meanwhile(store: Store) -> None:
    stream = Stream()
    with pytest.raises(LeaseRevoked), store.turn("main/a") as turn:
        for _ in turn.watch(stream):
            store.revoke("main/a")
    assert stream.closed


def test_in_a_task_that_does_not_go_on_with_it(store: Store) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def main() -> int:
        async with store.turn("main/a") as turn:
            turn.watch(numbers())
            return calls(turn)

    assert asyncio.run(main()) == 0
