"""Faults of waiting: the line of all processes, and how a waiter learns that it may try."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

# The line

NO_LINE = Mutant(
    "nobody stands in line",
    Edit(
        "backends/files/line.py",
        "                self._files.lock_byte(handle, number)\n",
        "                pass\n",
    ),
)
GOES_FIRST = Mutant(
    "a waiter does not look who stands in front",
    Edit(
        "backends/files/line.py",
        "        if before is None:\n",
        "        if True:\n",
    ),
)
NEVER_GIVES_WAY = Mutant(
    "who released a session takes it again before those who wait",
    Edit(
        "backends/files/line.py",
        "            _remember(self._gives_way, place.lock, self._clock.monotonic() + PATIENCE)\n",
        "            pass\n",
    ),
)
GHOST_IN_LINE = Mutant(
    "a waiter that gave up stays in the line",
    Edit(
        "backends/files/line.py",
        "        if self._handle is not None:\n            self._handle.close()\n        unused",
        "        unused",
    ),
)
WAITS_FOR_SLEEPER = Mutant(
    "a waiter that does not take its turn is never passed",
    Edit(
        "backends/files/line.py",
        "        if now - self._vacant_since < PATIENCE:\n",
        "        if True:\n",
    ),
)
SLEEPER_NOT_REMEMBERED = Mutant(
    "who was passed once is awaited every time",
    Edit(
        "backends/files/line.py",
        "            self._line.overlook(self._place, self._passed)\n",
        "            pass\n",
    ),
)

# Waking

SLEPT_THROUGH = Mutant(
    "a waiter does not look again once its watch has begun",
    Edit(
        "backends/files/waiting.py",
        "            # After the watch began, or what happened in between would be slept through.\n"
        "            if self._changed_hands(judged):\n                return True\n",
        "",
    ),
)
SLEEPS_PAST_LIMIT = Mutant(
    "a waiter does not wake for the limit of the holder",
    Edit(
        "backends/files/waiting.py",
        "                timeout = min(timeout, max(0.0, judged.limit + OVER_LIMIT_GRACE - judged.age))\n",
        "                pass\n",
    ),
)
DEAF_TO_RELEASE = Mutant(
    "a waiter does not hear of a release",
    Edit(
        "backends/files/waker.py",
        "_MASK = _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF | _ONESHOT\n",
        "_MASK = _CLOSE_WRITE | _MOVE_SELF | _ONESHOT\n",
    ),
)
DEAF_TO_DEATH = Mutant(
    "a waiter does not hear of a holder's death",
    Edit(
        "backends/files/waker.py",
        "_MASK = _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF | _ONESHOT\n",
        "_MASK = _ATTRIB | _DELETE_SELF | _MOVE_SELF | _ONESHOT\n",
    ),
)
READER_LEAVES = Mutant(
    "a waiter that read for all leaves nobody in its place",
    Edit(
        "backends/files/waker.py",
        "        if reader is not None:\n            reader.set()\n",
        "",
    ),
)
READER_STAYS = Mutant(
    "a waiter that has left counts as the one that reads",
    Edit(
        "backends/files/waker.py",
        "                self._reader = None\n            wake.interrupt = None\n",
        "                pass\n            wake.interrupt = None\n",
    ),
)
UNINTERRUPTED = Mutant(
    "the waiter that reads for all cannot be woken",
    Edit(
        "backends/files/waker.py",
        "        wake.interrupt = inotify.interrupt\n",
        "",
    ),
)
ONE_IS_WOKEN = Mutant(
    "of those who wait for one claim only one is woken",
    Edit(
        "backends/files/waker.py",
        "                    woken = list(self._waiting.pop(number, ()))\n",
        "                    woken = list(self._waiting.pop(number, ()))[:1]\n",
    ),
)
OVERFLOW_UNSEEN = Mutant(
    "events that the kernel dropped wake nobody",
    Edit(
        "backends/files/waker.py",
        "                if mask & _OVERFLOW:\n",
        "                if False:\n",
    ),
)
NO_INOTIFY_NO_WAIT = Mutant(
    "a waiter without inotify fails",
    Edit(
        "backends/files/waker.py",
        "        except OSError:\n            return PolledWatch(wake)\n",
        "        except OSError:\n            raise\n",
    ),
)
WRITABLE_PROBE = Mutant(
    "waiters open claims for writing",
    Edit(
        "backends/files/fileops.py",
        "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)",
        "os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)",
    ),
)
