"""Waiting for a claim to change hands, and then for those who came first."""

from __future__ import annotations

from typing import NamedTuple

from ...clock import Clock
from .. import OVER_LIMIT_GRACE, Holder, Wake
from .fileops import FileOps
from .inspect import FileId, Inspector, Judged, named_file
from .judgement import State
from .layout import Place
from .line import Standing
from .waker import Waker, Watch

# The event of a holder's death can come a moment before the kernel drops its flock.
_AFTER_EVENT_TRIES = 24
_AFTER_EVENT_PAUSE = 50e-6
# Whoever comes first needs about that long to take what it was woken for.
_OTHERS_PAUSE = 300e-6
_OTHERS_PAUSE_MOST = 2e-3


class Vacancy(NamedTuple):
    """A session that is there for the taking while somebody else comes first.

    ``judged`` is the claim that lies there, of a holder that is dead or past its limit; None when
    none does. Its handle keeps the inode number from coming back as that of a new claim.
    """

    place: Place
    judged: Judged | None

    def close(self) -> None:
        if self.judged is not None:
            self.judged.close()


def held(judged: Judged) -> Holder:
    claim = judged.claim
    holder = Holder(claim.pid, claim.turn_id, judged.age, claim.max_hold, judged)
    if judged.verdict.state is State.LIVE:
        return holder
    doubt = ", ".join(judged.verdict.reasons)
    return holder._replace(doubt=doubt, releasable=judged.is_unseen)


def vacant(place: Place, judged: Judged | None = None) -> Holder:
    return Holder(None, None, None, None, Vacancy(place, judged))


class Waiting:
    """How a waiter learns that it is worth trying again."""

    def __init__(self, files: FileOps, clock: Clock, waker: Waker, inspector: Inspector) -> None:
        self._files = files
        self._clock = clock
        self._waker = waker
        self._inspector = inspector

    def wait(self, token: Judged | Vacancy, standing: Standing, timeout: float, wake: Wake) -> None:
        """Block until then, for ``timeout`` seconds at most, or until ``wake`` is set."""
        until = self._clock.monotonic() + timeout
        if isinstance(token, Judged):
            if self._wait_for_change(token, timeout, wake):
                # The change has set ``wake``: it says no more whether the waiter gave up.
                self._let_others(token.place, token.id, standing, until, None)
        else:
            seen = token.judged.id if token.judged is not None else None
            self._let_others(token.place, seen, standing, until, wake)

    def _wait_for_change(self, judged: Judged, timeout: float, wake: Wake) -> bool:
        watch = self._waker.watch(judged.handle, wake)
        try:
            # After the watch began, or what happened in between would be slept through.
            if self._changed_hands(judged):
                return True
            if is_ours_and_live(judged) and judged.limit is not None and judged.age is not None:
                timeout = min(timeout, max(0.0, judged.limit + OVER_LIMIT_GRACE - judged.age))
            return self._slept_until_change(judged, watch, timeout)
        finally:
            watch.close()

    def _slept_until_change(self, judged: Judged, watch: Watch, timeout: float) -> bool:
        until = self._clock.monotonic() + timeout
        interval = watch.interval
        while not watch.wait(self._clock, min(timeout, interval)):
            timeout = until - self._clock.monotonic()
            if self._changed_hands(judged):
                return True
            # Of a claim of ours that was all there is to see; a foreign one has to be judged anew.
            if timeout <= 0 or not is_ours_and_live(judged):
                return False
            interval = min(2 * interval, watch.interval_most)
        for _ in range(_AFTER_EVENT_TRIES):
            if self._changed_hands(judged):
                return True
            self._clock.sleep(_AFTER_EVENT_PAUSE)
        return False

    def _let_others(
        self,
        place: Place,
        seen: FileId | None,
        standing: Standing,
        until: float,
        wake: Wake | None,
    ) -> None:
        """Until this waiter may try, or somebody has put another claim where ``seen`` was.

        Until ``wake``, if there is one, is set, or the time is over, at the latest.
        """
        if standing.may_try():
            return
        standing.sees_vacancy()
        pause = _OTHERS_PAUSE
        while (
            not (wake is not None and wake.is_set())
            and named_file(self._files, place.lock) in (None, seen)
            and self._clock.monotonic() < until
        ):
            self._clock.sleep(pause)
            if standing.may_try():
                return
            pause = min(pause * 1.5, _OTHERS_PAUSE_MOST)

    def _changed_hands(self, judged: Judged) -> bool:
        if named_file(self._files, judged.place.lock) != judged.id:
            return True
        return is_ours_and_live(judged) and self._inspector.is_free(judged.handle)


def is_ours_and_live(judged: Judged) -> bool:
    return judged.claim.is_ours and judged.verdict.state is State.LIVE


def is_past_grace(judged: Judged) -> bool:
    """Past its hold limit for so long that its own watchdog must have failed."""
    if not judged.claim.is_ours or not judged.verdict.over_limit:
        return False
    assert judged.age is not None
    assert judged.limit is not None
    # From that very moment on: it is until then that a waiter sleeps.
    return judged.age >= judged.limit + OVER_LIMIT_GRACE
