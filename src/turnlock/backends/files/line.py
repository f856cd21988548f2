"""The line in which the waiters of all processes stand, so that who came first goes first.

Without it a lock goes to whoever is quickest, and the quickest is the one that just released it: it
need not be woken. Eight contenders that hold for 5 ms each came to 59 turns for one that way.

A waiter opens the transcript and locks one byte of it, far past any end, with an open file
description lock. The byte's number is the time at which it came. So the kernel keeps the line: a
place in it ends with its process, and one call asks whether anybody stands further in front. These
locks and flock, which the guard uses, do not see each other.

The line decides who *tries* first, never who *has* the lock: claims do that. So nothing in here has
to be right for safety, and the rules are the simple ones.

* A waiter tries when nobody stands in front of it.
* Whoever releases while somebody waits does not try again at once: it lines up.
* A waiter that stands in front and does not take a free lock within `PATIENCE` (it is stopped, or
  starved of CPU) is passed, and from then on overlooked by whoever passed it.
* Where there is no transcript yet there is no line: whoever came before it was made takes the place
  of its coming as soon as it looks again. On a file system without such locks there is none at all.
"""

from __future__ import annotations

import math
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable

from ...clock import Clock
from .birth import Newborn
from .bounded import remember
from .fileops import FileOps, Handle
from .layout import Place

# How long a free lock may lie before those behind the first waiter try as well. Longer than a busy
# machine takes to wake a process, and short beside any turn.
PATIENCE = 0.05
_FAR = 1 << 62
_END = (1 << 63) - 1
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_MICROSECONDS = 1_000_000
_KNOWN_MAX = 256


class Line:
    """The lines of one backend's sessions."""

    def __init__(self, files: FileOps, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        # By lock path. Losing an entry costs patience once more, nothing else.
        self._passed: dict[str, int] = {}
        self._gives_way: dict[str, float] = {}

    def join(self, place: Place) -> Standing:
        """A place at the end of the line."""
        return Standing(self, place, _FAR + int(self._clock.monotonic() * _MICROSECONDS))

    def give_way(self, place: Place, transcript: Handle) -> None:
        """Called at a release: if somebody waits, this process does not try before them."""
        if self.in_front(place, transcript, _END) is not None:
            until = self._clock.monotonic() + PATIENCE
            remember(self._gives_way, place.lock, until, _KNOWN_MAX)

    def has_to_give_way(self, place: Place) -> bool:
        """Whether this process released a moment ago, and somebody still waits."""
        # Nearly always empty, and asked by every take.
        if not self._gives_way:
            return False
        until = self._gives_way.pop(place.lock, -math.inf)
        if until < self._clock.monotonic():
            return False
        try:
            transcript = self._files.open(place.transcript, _FLAGS)
        except OSError:
            return False
        try:
            return self.in_front(place, transcript, _END) is not None
        finally:
            transcript.close()

    def in_front(
        self, place: Place, transcript: Handle, number: int, *, passed: int = _FAR
    ) -> int | None:
        """The number of somebody who came before ``number``, and after who was ``passed``."""
        start = max(passed, self._passed.get(place.lock, _FAR)) + 1
        if start >= number:
            return None
        try:
            return self._files.locked_byte(transcript, start, number)
        except OSError:
            return None

    def overlook(self, place: Place, number: int) -> None:
        """From now on, whoever came up to ``number`` is not in the line for this process."""
        remember(self._passed, place.lock, number, _KNOWN_MAX)

    def now(self) -> float:
        return self._clock.monotonic()

    def stand(self, place: Place, number: int) -> Handle | None:
        """Lock the byte of this number; None where that cannot be done, or not yet."""
        try:
            handle = self._files.open(place.transcript, _FLAGS)
        except OSError:
            return None
        try:
            if stat.S_ISREG(self._files.stat_handle(handle).st_mode):
                self._files.lock_byte(handle, number)
                return handle
        except OSError:
            pass
        handle.close()
        return None


class Standing:
    """A waiter's place in the line, until it is closed."""

    __slots__ = (
        "_first",
        "_handle",
        "_line",
        "_number",
        "_passed",
        "_place",
        "_prepared",
        "_vacant_since",
    )

    def __init__(self, line: Line, place: Place, number: int) -> None:
        self._line = line
        self._place = place
        self._number = number
        self._handle = line.stand(place, number)
        self._vacant_since: float | None = None
        self._passed = _FAR
        self._first = False
        self._prepared: Newborn | None = None

    def prepare(self, prepare: Callable[[Place], Newborn | None]) -> None:
        """Before a wait: what would else be done while the session lies idle.

        Whether anybody stands in front, and a claim that is made as far as it can be.
        """
        self.may_try()
        if self._prepared is None:
            self._prepared = prepare(self._place)

    def prepared(self) -> Newborn | None:
        """The claim that is ready, once."""
        newborn, self._prepared = self._prepared, None
        return newborn

    def may_try(self) -> bool:
        """Whether it is this waiter's turn to try."""
        if self._first:
            return True
        before = self._in_front()
        if before is None:
            # Whoever comes later stands behind, so this stays as it is.
            self._first = self._handle is not None and self._passed == _FAR
            return True
        if self._vacant_since is None:
            return False
        now = self._line.now()
        if now - self._vacant_since < PATIENCE:
            return False
        # Whoever comes next gets as long: it may be awake and waiting for this one as well.
        self._passed = before
        self._vacant_since = now
        return self._in_front() is None

    def sees_vacancy(self) -> None:
        """The session is there for the taking, but others come first: their time runs."""
        if self._vacant_since is None:
            self._vacant_since = self._line.now()

    def sees_holder(self) -> None:
        """Somebody has the session: whoever stands in front was not the one that slept."""
        self._vacant_since = None
        self._passed = _FAR

    def took(self) -> None:
        """The session is this waiter's. Whom it had to pass, this process need not await again."""
        if self._passed > _FAR:
            self._line.overlook(self._place, self._passed)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
        unused = self.prepared()
        if unused is not None:
            unused.discard()

    def _in_front(self) -> int | None:
        if self._handle is None:
            self._handle = self._line.stand(self._place, self._number)
        if self._handle is None:
            return None
        return self._line.in_front(self._place, self._handle, self._number, passed=self._passed)


def count_in_line(transcripts: Iterable[str]) -> dict[str, int]:
    """How many stand in the line of each session, from /proc/locks; {} when it cannot be told.

    One of each store: the threads and tasks of a process queue among themselves first.
    """
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as table:
            rows = [line.split() for line in table]
    except OSError:
        return {}
    # "9: OFDLCK ADVISORY  READ -1 08:02:5678 4611686018427387904 4611686018427387904"
    standing = Counter(
        row[5]
        for row in rows
        if len(row) >= 7 and row[1] == "OFDLCK" and row[6].isdecimal() and int(row[6]) >= _FAR
    )
    named = {path: file for path in transcripts if (file := _in_table(path)) is not None}
    return {path: standing[file] for path, file in named.items()}


def _in_table(path: str) -> str | None:
    """A file as /proc/locks names it; None when there is none."""
    try:
        file = os.lstat(path)
    except OSError:
        return None
    return f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
