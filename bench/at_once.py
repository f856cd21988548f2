"""How often a second several threads do something, together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol


class Worker(Protocol):
    """Does one thing again and again. Used by one thread, which also makes it."""

    def once(self) -> None: ...
    def close(self) -> None: ...


def rate_at_once(makes: Sequence[Callable[[], Worker]], number: int) -> float:
    """A thread for each worker, each ``number`` times; times a second of all together.

    Each has done it once before, and nobody begins before everybody is there.
    """
    began = threading.Barrier(len(makes) + 1)
    ended = threading.Barrier(len(makes) + 1)

    def work(make: Callable[[], Worker]) -> None:
        try:
            worker = make()
            worker.once()
            began.wait()
            for _ in range(number):
                worker.once()
            ended.wait()
            worker.close()
        except BaseException:
            # Whoever waits for this thread would wait for ever.
            began.abort()
            ended.abort()
            raise

    threads = [threading.Thread(target=work, args=(make,)) for make in makes]
    for thread in threads:
        thread.start()
    began.wait()
    started = time.perf_counter()
    ended.wait()
    took = time.perf_counter() - started
    for thread in threads:
        thread.join()
    return len(makes) * number / took
