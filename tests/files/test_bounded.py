"""What a process remembers of its sessions is bounded, and no thread fails on another's."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from turnlock.backends.files.bounded import remember

THREADS, ROUNDS = 4, 40_000


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Threads change as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_the_oldest_is_forgotten() -> None:
    entries: dict[str, int] = {}
    for number, name in enumerate("abcad"):
        remember(entries, name, number, 3)
    assert list(entries) == ["b", "c", "d"]


@pytest.mark.usefixtures("eager_switches")
def test_threads_that_remember_at_once_do_not_fail() -> None:
    """Such an error came out of a release, after a good turn."""
    entries: dict[tuple[int, int], int] = {}
    barrier = threading.Barrier(THREADS)
    failed: list[BaseException] = []

    def work(thread: int) -> None:
        barrier.wait()
        try:
            for number in range(ROUNDS):
                remember(entries, (thread, number), number, 8)
                entries.pop((thread, number), None)
                remember(entries, (thread, -number), number, 8)
        except RuntimeError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(entries) <= 8
