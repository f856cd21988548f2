"""Every file call of a process, seen before and after: `FileOps` is the one door to the kernel.

A watcher is put into the class itself, in a process that was forked for it. So it sees the calls of
every object that the code under test makes, and no code under test knows.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from turnlock.backends.files.fileops import FileOps

# These two only choose flags and call `open`.
_COMPOSED = frozenset({"open_quietly", "open_directory"})
CALLS = tuple(name for name in vars(FileOps) if not name.startswith("_") and name not in _COMPOSED)


class Point(NamedTuple):
    """A moment in a process: just before its ``number``-th file call (from 1), or just after."""

    number: int
    after: bool = False

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} call {self.number}"

    @classmethod
    def parse(cls, text: str) -> Point:
        """As `__str__` gives it."""
        when, _, number = text.split()
        return cls(int(number), when == "after")


class Reached(NamedTuple):
    """A process came to its point, which is at this call."""

    point: Point
    call: str


class Watcher:
    """Sees every call. One of its methods may raise, or end the process."""

    def before(self, number: int, call: str, arguments: tuple[Any, ...]) -> None:
        """Called with the arguments of the call; the object that is called is left out."""

    def after(self, number: int, call: str, arguments: tuple[Any, ...], result: object) -> None:
        """Called when the call succeeded."""

    def instead(
        self, number: int, call: str, arguments: tuple[Any, ...], go_on: Callable[..., Any]
    ) -> Any:
        """Make the call."""
        return go_on(*arguments)


def watch(watcher: Watcher) -> Callable[[], int]:
    """Have every call from now on seen. Returns what tells their number. For a forked process."""
    count = _Count()
    for name in CALLS:
        setattr(FileOps, name, _watched(name, vars(FileOps)[name], watcher, count))
    return lambda: count.last


class _Count:
    def __init__(self) -> None:
        self.last = 0


def _watched(name: str, call: Any, watcher: Watcher, count: _Count) -> Callable[..., Any]:
    def watched(self: FileOps, *arguments: Any) -> Any:
        count.last = number = count.last + 1
        watcher.before(number, name, arguments)
        go_on = call.__get__(self, FileOps)
        result = watcher.instead(number, name, arguments, go_on)
        watcher.after(number, name, arguments, result)
        return result

    return watched


class Halt(Watcher):
    """Sends this very process a signal at a point, and tells of it before."""

    def __init__(self, point: Point, number: signal.Signals, tell: Callable[[Reached], None]):
        self._point = point
        self._signal = number
        self._tell = tell

    def before(self, number: int, call: str, arguments: tuple[Any, ...]) -> None:
        if (number, False) == self._point:
            self._halt(call)

    def after(self, number: int, call: str, arguments: tuple[Any, ...], result: object) -> None:
        if (number, True) == self._point:
            self._halt(call)

    def _halt(self, call: str) -> None:
        self._tell(Reached(self._point, call))
        os.kill(os.getpid(), self._signal)


def points() -> Iterator[Point]:
    """All of them, in their order, without end."""
    number = 0
    while True:
        number += 1
        yield Point(number)
        yield Point(number, after=True)
