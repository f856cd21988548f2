"""What is measured: our locks, those of peers, and the floors, behind one interface.

A subject is made for a path, in a contender's process, and imports its library only then. A peer is
set up as its documentation shows it, with its own defaults; where a default would make a figure
meaningless (proper-lockfile does not wait at all) the change is said in its label's note.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ..results import Kind


class Lock(Protocol):
    """An exclusive lock on the path that it was made for."""

    def take(self) -> None: ...
    def release(self) -> None: ...


class AsyncLock(Protocol):
    async def take(self) -> None: ...
    async def release(self) -> None: ...


class Subject(NamedTuple):
    """Exactly one of ``make`` and ``make_async`` is given; neither for one that is no Python.

    ``module`` is what has to be importable; ``package`` whose version is told. ``excludes_threads``
    is false for a lock that two threads of a process hold at once.
    """

    name: str
    label: str
    kind: Kind
    make: Callable[[str], Lock] | None = None
    make_async: Callable[[str], AsyncLock] | None = None
    module: str = ""
    package: str = ""
    names_holder: bool = False
    freed_at_death: bool = False
    excludes_threads: bool = True

    @property
    def is_python(self) -> bool:
        return self.make is not None or self.make_async is not None

    def missing(self) -> str | None:
        """Why it cannot be measured here; None when it can."""
        if self.module and importlib.util.find_spec(self.module) is None:
            return f"{self.label}: the package {self.package} is not installed"
        return None
