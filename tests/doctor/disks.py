"""Disks that are slow or hang, with a clock that decides how long somebody waited for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.helpers import PATIENCE
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.clock import SystemClock

_fdatasync = FileOps.fdatasync
# Shorter waits are of others than those who wait for a marker.
_OTHERS = 0.99


class SlowDisk(FileOps):
    """A write is durable once ``goes_on`` is set."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def fdatasync(self, handle: Handle) -> None:
        assert self.goes_on.wait(PATIENCE)
        _fdatasync(self, handle)


class DisksClock(SystemClock):
    """On which the disk needs ``needs`` seconds: who waits for less is told at once that they
    passed. ``waited``: for how long each was ready to wait for a marker.
    """

    def __init__(self, disk: SlowDisk, needs: float) -> None:
        self.waited: list[float] = []
        self._disk = disk
        self._needs = needs

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        if timeout is None or timeout < _OTHERS:
            return event.wait(timeout)
        self.waited.append(timeout)
        if timeout < self._needs:
            return False
        self._disk.goes_on.set()
        return event.wait(PATIENCE)


@contextmanager
def slow_disk(needs: float) -> Iterator[tuple[SlowDisk, DisksClock]]:
    disk = SlowDisk()
    try:
        yield disk, DisksClock(disk, needs)
    finally:
        disk.goes_on.set()
