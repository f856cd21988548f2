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
    caught_by="tests/files/test_line.py::test_waiters_come_in_the_order_of_their_coming",
)
GOES_FIRST = Mutant(
    "a waiter does not look who stands in front",
    Edit(
        "backends/files/line.py",
        "        if before is None:\n",
        "        if True:\n",
    ),
    caught_by="tests/files/test_line.py::test_waiters_come_in_the_order_of_their_coming",
)
NEVER_GIVES_WAY = Mutant(
    "who released a session takes it again before those who wait",
    Edit(
        "backends/files/line.py",
        "            remember(self._gives_way, place.lock, until, _KNOWN_MAX)\n",
        "            pass\n",
    ),
    caught_by="tests/files/test_line.py::test_who_released_lets_a_waiter_go_first",
)
GIVES_WAY_EVERYWHERE = Mutant(
    "who gives way on one session finds every other one busy",
    Edit(
        "backends/files/line.py",
        "        if until < self._clock.monotonic():\n            return False\n",
        "        if until < self._clock.monotonic():\n            return True\n",
    ),
    caught_by="tests/files/test_line.py::test_who_gives_way_on_one_session_takes_another",
)
GHOST_IN_LINE = Mutant(
    "a waiter that gave up stays in the line",
    Edit(
        "backends/files/line.py",
        "        if self._handle is not None:\n            self._handle.close()\n        unused",
        "        unused",
    ),
    caught_by="tests/files/test_line.py::test_who_released_takes_again_when_nobody_waits",
)
WAITS_FOR_SLEEPER = Mutant(
    "a waiter that does not take its turn is never passed",
    Edit(
        "backends/files/line.py",
        "        if now - self._vacant_since < PATIENCE:\n",
        "        if True:\n",
    ),
    caught_by="tests/files/test_line.py::test_a_waiter_that_does_not_take_is_passed",
)
SLEEPER_NOT_REMEMBERED = Mutant(
    "who was passed once is awaited every time",
    Edit(
        "backends/files/line.py",
        "            self._line.overlook(self._place, self._passed)\n",
        "            pass\n",
    ),
    caught_by="tests/files/test_line.py::test_a_waiter_that_does_not_take_is_passed",
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
    caught_by="tests/files/test_waker.py::test_what_happens_before_the_watch_begins_is_not_slept_through",
)
SLEEPS_PAST_LIMIT = Mutant(
    "a waiter does not wake for the limit of the holder",
    Edit(
        "backends/files/waiting.py",
        "                timeout = min(timeout, max(0.0, judged.limit + OVER_LIMIT_GRACE - judged.age))\n",
        "                pass\n",
    ),
    caught_by="tests/files/test_waker.py::test_a_waiter_wakes_by_itself_when_its_holder_is_over_its_limit",
)
DEAF_TO_RELEASE = Mutant(
    "a waiter does not hear of a release",
    Edit(
        "backends/files/waker.py",
        "_MASK = _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF | _ONESHOT\n",
        "_MASK = _CLOSE_WRITE | _MOVE_SELF | _ONESHOT\n",
    ),
    caught_by="tests/files/test_waker.py::test_one_waiter_reads_for_all",
)
DEAF_TO_DEATH = Mutant(
    "a waiter does not hear of a holder's death",
    Edit(
        "backends/files/waker.py",
        "_MASK = _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF | _ONESHOT\n",
        "_MASK = _ATTRIB | _DELETE_SELF | _MOVE_SELF | _ONESHOT\n",
    ),
    caught_by="tests/files/test_waker.py::test_the_death_of_a_holder_is_heard",
)
READER_LEAVES = Mutant(
    "a waiter that read for all leaves nobody in its place",
    Edit(
        "backends/files/waker.py",
        "        if reader is not None:\n            reader.set()\n",
        "",
    ),
    caught_by="tests/files/test_waker.py::test_when_the_reader_leaves_another_one_reads",
)
READER_STAYS = Mutant(
    "a waiter that has left counts as the one that reads",
    Edit(
        "backends/files/waker.py",
        "                self._reader = None\n            wake.interrupt = None\n",
        "                pass\n            wake.interrupt = None\n",
    ),
    caught_by="tests/files/test_waker.py::test_when_the_reader_leaves_another_one_reads",
)
UNINTERRUPTED = Mutant(
    "the waiter that reads for all cannot be woken",
    Edit(
        "backends/files/waker.py",
        "        wake.interrupt = inotify.interrupt\n",
        "",
    ),
    caught_by="tests/files/test_waker.py::test_a_reader_can_be_called_off",
)
ONE_IS_WOKEN = Mutant(
    "of those who wait for one claim only one is woken",
    Edit(
        "backends/files/waker.py",
        "                    woken = list(self._waiting.pop(number, ()))\n",
        "                    woken = list(self._waiting.pop(number, ()))[:1]\n",
    ),
    caught_by="tests/files/test_waker.py::test_all_who_wait_for_one_claim_are_woken",
)
OVERFLOW_UNSEEN = Mutant(
    "events that the kernel dropped wake nobody",
    Edit(
        "backends/files/waker.py",
        "                if mask & _OVERFLOW:\n",
        "                if False:\n",
    ),
    caught_by="tests/files/test_waker.py::test_when_the_kernel_has_dropped_events_all_are_woken",
)
NO_INOTIFY_NO_WAIT = Mutant(
    "a waiter without inotify fails",
    Edit(
        "backends/files/waker.py",
        "        except OSError:\n            return PolledWatch(wake)\n",
        "        except OSError:\n            raise\n",
    ),
    caught_by="tests/files/test_waker.py::test_without_inotify_a_waiter_looks_by_itself",
)
WRITABLE_PROBE = Mutant(
    "waiters open claims for writing",
    Edit(
        "backends/files/fileops.py",
        "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)",
        "os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)",
    ),
    caught_by="tests/files/test_waker.py::test_who_only_looks_wakes_nobody",
)
