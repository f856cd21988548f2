"""A simulated process: its threads, its descriptors, and what befalls it."""

from __future__ import annotations

import errno
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from .kernel import OpenFile, Pollable, error
from .scheduler import GRID, Actor, ProcessDied

if TYPE_CHECKING:
    from .kernel import Kernel
    from .package import Copy
    from .world import World

# A descriptor of a process that is gone must not be taken for one of the next.
_generation = count(1)
_DESCRIPTORS_MAX = 1000

_FAILING = {
    errno.EIO: ("write", "fsync", "pread"),
    errno.ENOSPC: ("write", "link", "mkdir", "rename"),
    errno.EMFILE: ("open",),
    errno.EINTR: ("flock",),
}


class Fault(NamedTuple):
    """What befalls a process at its call number ``call``, or at that one of those named ``of``.

    ``kind``: ``kill``; ``stop`` for ``value`` seconds; ``delay``: the thread alone gets no CPU for
    that long; ``remove``: the same, and somebody removes the lock files by hand; ``fail`` the next
    call that can, with errno ``value``; ``short``: of the next write only a part is written.
    """

    call: int
    kind: str
    value: float = 0.0
    of: str = ""


class Process:
    def __init__(self, world: World, number: int, copy: Copy) -> None:
        self.world = world
        self.number = number
        self.name = f"p{number}"
        self.pid = 100 + number
        self.kernel: Kernel = world.kernel
        self.scheduler = world.scheduler
        self.copy = copy
        self.dead = False
        self.stopped = False
        self.parked: list[Actor] = []
        self.faults: dict[tuple[str, int], Fault] = {}
        self._calls: Counter[str] = Counter()
        self.descriptors: dict[int, OpenFile | Pollable | None] = {}
        self._first_descriptor = next(_generation) * _DESCRIPTORS_MAX
        self._errno = 0
        self._short = False
        copy.begin(self)

    def enter(self, call: str, what: str = "") -> None:
        """Every system call comes through here, before it has any effect."""
        if self.dead:
            raise ProcessDied
        actor = self.scheduler.running
        if actor is None:
            return
        if self.faults:
            self._count(call)
        self.scheduler.step()
        if self.world.trace is not None:
            self.world.say(f"{actor} {call} {what}")
        if self._errno and call in _FAILING[self._errno]:
            number, self._errno = self._errno, 0
            self.world.say(f"{actor}: {call} fails with {errno.errorcode[number]}")
            raise error(number, what or None)

    def use_disk(self) -> None:
        delay = self.world.disk_delay()
        if delay:
            self.scheduler.block("the disk", delay)

    def bytes_written(self, wanted: int) -> int:
        if not self._short or wanted < 2:
            return wanted
        self._short = False
        return 1 + int(self.world.random.random() * (wanted - 1))

    # Descriptors

    def new_descriptor(self, file: OpenFile | Pollable | None) -> int:
        number = self._first_descriptor
        while number in self.descriptors:
            number += 1
        self.descriptors[number] = file
        return number

    def file(self, fd: int) -> OpenFile:
        file = self.descriptors.get(fd)
        if not isinstance(file, OpenFile):
            raise error(errno.EBADF)
        return file

    def entered_file(self, call: str, fd: int) -> OpenFile:
        file = self.descriptors.get(fd)
        self.enter(call, file.path if isinstance(file, OpenFile) else "")
        return self.file(fd)

    def close(self, fd: int) -> None:
        if self.dead or fd < self._first_descriptor:
            # By a destructor of what is long gone.
            return
        if fd not in self.descriptors:
            raise error(errno.EBADF)
        file = self.descriptors.pop(fd)
        if isinstance(file, OpenFile):
            self.kernel.close(file)
        elif file is not None:
            file.close()

    # Fate

    def kill(self) -> None:
        """SIGKILL. The kernel tells watchers of closed files a moment before it drops the locks."""
        if self.dead:
            return
        self.dead = True
        self.scheduler.bury(self)
        self.world.died(self)
        files = list(self.descriptors.values())
        self.descriptors.clear()
        for file in files:
            if isinstance(file, Pollable):
                file.close()
            elif file is not None:
                self.kernel.closed(file)
        open_files = [file for file in files if isinstance(file, OpenFile)]
        self.scheduler.at(
            self.scheduler.now + GRID * int(self.world.random.random() * 3),
            lambda: self._unlock(open_files),
        )

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds."""
        if self.dead or self.stopped:
            return
        self.stopped = True
        self.world.stopped(self, seconds)
        self.scheduler.at(self.scheduler.now + seconds, self._go_on)

    def _go_on(self) -> None:
        self.stopped = False
        self.world.say(f"{self.name} goes on")
        parked, self.parked = self.parked, []
        self.scheduler.release(parked)

    def _unlock(self, files: list[OpenFile]) -> None:
        for file in files:
            self.kernel.unlocked(file)

    def _count(self, call: str) -> None:
        for name in ("", call):
            self._calls[name] += 1
            fault = self.faults.pop((name, self._calls[name]), None)
            if fault is not None:
                self._befall(fault)

    def _befall(self, fault: Fault) -> None:
        if fault.kind == "kill":
            self.kill()
            raise ProcessDied
        if fault.kind == "stop":
            self.stop(fault.value)
            self.scheduler.give_way()
        elif fault.kind == "delay":
            self.scheduler.block("a CPU", fault.value)
        elif fault.kind == "remove":
            self.world.remove_locks()
            self.scheduler.block("a CPU", fault.value)
        elif fault.kind == "fail":
            self._errno = int(fault.value)
        elif fault.kind == "short":
            self._short = True
