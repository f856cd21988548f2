"""Claims at their paths: put down, put in the place of another, taken away.

Every change of what a lock path names happens here, and each but the first under the guard, after a
look at whether the path still names the file that was judged, or the lease's own.
"""

from __future__ import annotations

import fcntl
from collections.abc import Sequence

from ...clock import Clock
from .. import Lost, Superseded, TakeRequest
from .aside import move_aside, name_aside
from .birth import Newborn, Nursery, make_directories, temporary_name
from .claim import Scribe
from .fileops import FileOps
from .inspect import FileId, Judged, file_id, named_file
from .layout import Place
from .lease import FileLease
from .storage import Storage
from .transcripts import Transcripts

# The turn of another program's claim, which names none. It is owed a marker all the same.
_FOREIGN = "foreign-pid-"


class Claims:
    """The claims of one backend. Raises OSError as it comes."""

    def __init__(
        self,
        files: FileOps,
        clock: Clock,
        nursery: Nursery,
        scribe: Scribe,
        transcripts: Transcripts,
    ) -> None:
        self._files = files
        self._clock = clock
        self._nursery = nursery
        self._scribe = scribe
        self._transcripts = transcripts

    def prepare(self, place: Place) -> Newborn | None:
        """What of a claim can be made before it is known when it begins; None if nothing."""
        return self._nursery.prepare(place.directory)

    def put(
        self, place: Place, request: TakeRequest, *, prepared: Newborn | None = None
    ) -> FileLease | None:
        """Put a claim where there is none; None where there is one."""
        try:
            return self._put(place, request, prepared)
        except FileNotFoundError:
            # Somebody may also have removed the directory since the claim was prepared in it.
            make_directories(self._files, place.directory)
            return self._put(place, request, None)

    def _put(
        self, place: Place, request: TakeRequest, prepared: Newborn | None
    ) -> FileLease | None:
        newborn = self._new(place, request, (), prepared)
        try:
            if newborn.link(place.lock):
                return self._lease(place, request, newborn, ())
        except BaseException:
            # Also what a signal's handler raises: the claim may be linked, and would hold.
            newborn.discard()
            raise
        newborn.discard()
        return None

    def supersede(
        self,
        place: Place,
        request: TakeRequest,
        judged: Judged,
        reason: str,
        *,
        lease: FileLease | None = None,
    ) -> FileLease | None:
        """Rename a claim of ours over the judged one, if the path still names that one.

        ``lease``: that of the judged claim, if it is of this process. It knows what is owed, also
        when the claim was written over.
        """
        claim = judged.claim
        turn_id = claim.turn_id if claim.is_ours else _foreign_turn(judged)
        opening, before = claim.opening, claim.owed
        if lease is not None:
            turn_id, opening, before = lease.turn_id, lease.opening, lease.owed
        turn = Superseded(turn_id, claim.pid, reason, judged.age, opening)
        owed = (*before, turn)
        newborn: Newborn | None = None
        try:
            newborn = self._new(place, request, owed)
            newborn.name(temporary_name(place.lock))
            with self._transcripts.guarded(place):
                renamed = self._rename_if_named(place, newborn, judged.id)
            if not renamed:
                newborn.discard()
                return None
            return self._lease(place, request, newborn, owed)
        except BaseException:
            # As in `_put`.
            if newborn is not None:
                newborn.discard()
            raise
        finally:
            # The flock on a judged file lasts until here; a copy in a child must not prolong it.
            self._files.flock(judged.handle, fcntl.LOCK_UN)
            judged.close()

    def move_aside(self, judged: Judged) -> str | None:
        """Rename the lock of another program to a name that is no lock's; the new path.

        None when the path does not name the judged file any more. See ``aside`` for what this can
        do, and what not. Raises `StoreError`, `LockPathError`.
        """
        place = judged.place
        with Storage("move aside", place.lock):
            aside = name_aside(place.lock, self._clock.wall())
            with self._transcripts.guarded(place, lenient=True):
                moved = move_aside(self._files, place.lock, judged.id, aside)
        return aside if moved else None

    def is_held(self, lease: FileLease) -> bool:
        return named_file(self._files, lease.place.lock) == lease.claim_id

    def check(self, lease: FileLease) -> None:
        """The fence. Call it under the guard, in one step with what it is to protect."""
        if not self.is_held(lease):
            raise Lost

    def remove(self, lease: FileLease) -> bool:
        """Free the lock path if it still names this lease's claim; whether it did.

        Under the guard.
        """
        if not self.is_held(lease):
            return False
        try:
            self._files.unlink(lease.place.lock)
        except FileNotFoundError:
            # Somebody removed it by hand in this very moment, which is what was wanted.
            pass
        # Whatever fails from here on, as the guard that is dropped next, changes nothing of that.
        lease.released = True
        return True

    def remove_guarded(self, lease: FileLease) -> bool:
        """The same under a guard of its own, and not through the lease's own descriptor.

        A call that hangs may be using that one.
        """
        with self._transcripts.guarded(lease.place, lenient=True):
            removed = self.remove(lease)
        lease.released = True
        return removed

    def _new(
        self,
        place: Place,
        request: TakeRequest,
        owed: Sequence[Superseded],
        prepared: Newborn | None = None,
    ) -> Newborn:
        content = self._scribe.write(
            turn_id=request.turn_id,
            session=place.label,
            max_hold=request.max_hold,
            wall=self._clock.wall(),
            monotonic=self._clock.monotonic(),
            owed=owed,
            opening=request.opening,
        )
        if prepared is None:
            return self._nursery.make(place.directory, place.lock, content, flocked=True)
        self._nursery.fill(prepared, place.directory, content)
        return prepared

    def _lease(
        self, place: Place, request: TakeRequest, newborn: Newborn, owed: tuple[Superseded, ...]
    ) -> FileLease:
        claim_id = file_id(self._files.stat_handle(newborn.handle))
        turn_id, opening = request.turn_id, request.opening
        return FileLease(place, turn_id, newborn.handle, claim_id, owed, opening)

    def _rename_if_named(self, place: Place, newborn: Newborn, wanted: FileId) -> bool:
        if named_file(self._files, place.lock) != wanted:
            return False
        newborn.rename_over(place.lock)
        return True


def owes_for_sure(turn: Superseded) -> bool:
    """A turn of ours owes its marker; a foreign one only if the transcript shows it cut off."""
    return turn.turn_id is not None and not turn.turn_id.startswith(_FOREIGN)


def _foreign_turn(judged: Judged) -> str | None:
    pid = judged.claim.pid
    return None if pid is None else f"{_FOREIGN}{pid}"
