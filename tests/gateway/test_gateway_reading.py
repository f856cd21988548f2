"""A frozen disk costs a request its answer, and the gateway a bounded number of threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.helpers import PATIENCE
from turnlock.errors import StoreError
from turnlock.gateway.errors import Refusal
from turnlock.gateway.reading import Reading

from .serving import eventually, run


@pytest.fixture
def frozen() -> Iterator[threading.Event]:
    thawed = threading.Event()
    yield thawed
    thawed.set()


async def refused(reading: Reading, frozen: threading.Event) -> str:
    with pytest.raises(Refusal) as caught:
        async with asyncio.timeout(PATIENCE):
            await reading.run(frozen.wait)
    return caught.value.code


def test_a_read_that_hangs_is_answered_in_its_place(frozen: threading.Event) -> None:
    async def test() -> None:
        assert await refused(Reading(0.01), frozen) == "storage_error"

    run(test())


def test_reads_that_hang_do_not_use_up_all_threads(
    frozen: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnlock.gateway.reading._MOST", 3)

    async def test() -> None:
        reading = Reading(0.01)
        for _ in range(3):
            assert await refused(reading, frozen) == "storage_error"
        assert await refused(reading, frozen) == "too_many_reads"
        frozen.set()
        await eventually(lambda: reading._under_way == 0)
        assert await reading.run(lambda: 1) == 1

    run(test())


def test_a_read_that_no_thread_takes_is_none_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: object) -> None:
        raise StoreError("workers", "start", "no thread")

    async def test() -> None:
        monkeypatch.setattr("turnlock.gateway.reading._MOST", 1)
        reading = Reading(PATIENCE)
        with monkeypatch.context() as patch, pytest.raises(Refusal) as caught:
            patch.setattr("turnlock.gateway.reading.on_worker", no_thread)
            await reading.run(int)
        assert caught.value.code == "storage_error"
        assert await reading.run(int) == 0

    run(test())
