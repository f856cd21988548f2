"""Facts about processes, for judging claims that the kernel does not judge for us.

Our own claims need none of this: they are flocked, and the kernel drops a flock when its process
dies. A claim of another program (OpenClaw) has only a pid and perhaps a start time. psutil has
neither the raw start time (field 22 of /proc/PID/stat, clock ticks, which OpenClaw records) nor
NSpid, so on Linux /proc is read here; elsewhere psutil answers, without start times.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import Enum
from functools import cached_property
from typing import NamedTuple, Protocol


class PidStatus(Enum):
    ALIVE = "alive"
    DEAD = "dead"
    RECYCLED = "recycled"
    UNKNOWN = "unknown"


class ProcessFacts(NamedTuple):
    """``start_time`` in clock ticks since boot, None where the system has no such number."""

    alive: bool
    start_time: int | None


# (device, inode, ctime): equal for two looks at a lock file that nobody wrote in between.
ClaimVersion = tuple[int, int, int]

GONE = ProcessFacts(alive=False, start_time=None)


class Processes(Protocol):
    """What one host knows about its processes and about itself."""

    @property
    def host(self) -> str: ...
    @property
    def boot_id(self) -> str | None: ...
    @property
    def pid_namespace(self) -> int | None: ...

    def look_up(self, pid: int) -> ProcessFacts:
        """A process in state Z or X is not alive: it runs nothing and holds nothing."""
        ...

    def is_pid_elsewhere(self, pid: int, claim: ClaimVersion) -> bool:
        """Whether a process of another pid namespace has this number there.

        ``claim`` is the one that names the pid: see `look_elsewhere`.
        """
        ...

    def look_elsewhere(self, claims: Iterable[ClaimVersion]) -> None:
        """Look once for a sweep over these claims.

        They were written before, so the processes that they name ran before: one that is not there
        now is dead, and stays dead. A claim that is changed later is another version, and is looked
        up by itself.
        """
        ...


class LinuxProcesses:
    """From /proc."""

    def __init__(self) -> None:
        self._sweep: tuple[frozenset[ClaimVersion], frozenset[int]] = (frozenset(), frozenset())

    @cached_property
    def host(self) -> str:
        return os.uname().nodename

    @cached_property
    def boot_id(self) -> str | None:
        return _read("/proc/sys/kernel/random/boot_id").strip() or None

    @cached_property
    def pid_namespace(self) -> int | None:
        try:
            return os.stat("/proc/self/ns/pid").st_ino
        except OSError:
            return None

    def look_up(self, pid: int) -> ProcessFacts:
        # The command name, field 2, may hold spaces and parentheses; the last ')' ends it.
        _, _, rest = _read(f"/proc/{pid}/stat").rpartition(")")
        fields = rest.split()
        if len(fields) < 20:
            # Nothing readable: gone, or hidden from us (hidepid). Only ESRCH proves the former.
            return ProcessFacts(alive=_exists(pid), start_time=None)
        if fields[0] in "ZX":
            return GONE
        return ProcessFacts(alive=True, start_time=int(fields[19]))

    def is_pid_elsewhere(self, pid: int, claim: ClaimVersion) -> bool:
        swept, elsewhere = self._sweep
        return pid in (elsewhere if claim in swept else _pids_elsewhere())

    def look_elsewhere(self, claims: Iterable[ClaimVersion]) -> None:
        swept = frozenset(claims)
        self._sweep = (swept, _pids_elsewhere() if swept else frozenset())


class PortableProcesses:
    """From psutil, for systems without /proc."""

    @cached_property
    def host(self) -> str:
        return os.uname().nodename

    @cached_property
    def boot_id(self) -> str | None:
        import psutil

        return f"boot-{int(psutil.boot_time())}"

    @property
    def pid_namespace(self) -> int | None:
        return None

    def look_up(self, pid: int) -> ProcessFacts:
        import psutil

        try:
            dead = psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except psutil.NoSuchProcess:
            return GONE
        except psutil.AccessDenied:
            dead = False
        return GONE if dead else ProcessFacts(alive=True, start_time=None)

    def is_pid_elsewhere(self, pid: int, claim: ClaimVersion) -> bool:
        return False

    def look_elsewhere(self, claims: Iterable[ClaimVersion]) -> None:
        pass


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _pids_elsewhere() -> frozenset[int]:
    found = (namespace_pids(name) for name in os.listdir("/proc") if name.isdecimal())
    return frozenset(numbers[-1] for numbers in found if len(numbers) > 1)


def namespace_pids(pid: int | str) -> list[int]:
    """A process's numbers, from this pid namespace's to its own; empty where it cannot be told."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("NSpid:"):
            return [int(number) for number in line.split()[1:]]
    return []


def _read(path: str) -> str:
    # A process that ends between listing and reading has no file any more: it has no facts.
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
