"""`SessionLock`: the lock of a transcript, for those who want only that."""

from __future__ import annotations

import os
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from .backends import Backend
from .backends.locations import open_files
from .errors import StoreError
from .limits import DEFAULT_MAX_HOLD, DEFAULT_WAIT
from .session import SessionKey
from .store import NoLoop, WrongContext, is_loop_running
from .turns.runtime import Runtime
from .turns.sync import OpenTurn
from .turns.taking import Wanted, wanted

if TYPE_CHECKING:
    from .turns.aio import OpenAsyncTurn

# A single file has no session key; the layout answers every key with that file.
_NO_KEY = SessionKey("lock", "lock")


class SessionLock:
    """The write lock of one transcript, with claim, watchdog and fence, but without turns.

    ``with SessionLock(path) as lock:`` or ``async with``; may be used again and again, and by many
    threads and tasks. The lock is the file ``<path>.lock``, the same that a store's turns take. The
    transcript is made, empty, when it is missing; nothing is written to it, except the error
    markers that a dead turn owed.

    ``wait``: seconds to wait for the lock, then `SessionBusy`; 0 tries once, None waits for ever.
    ``max_hold``: seconds after which the lock is taken from the block: its task is cancelled, and
    the block raises `LeaseRevoked`.

    It keeps others out; it cannot fence what the block itself writes. Call `check` before a write,
    and mind that the lock may be taken a moment later; `Store.turn` fences every append.
    Raises `LimitsError` at once; on entering `SessionBusy`, `AlreadyHeld`, `LockPathError`,
    `TranscriptError`, `StoreError`, and `LeaseRevoked` when it was taken away again at once.
    """

    def __init__(
        self,
        transcript_path: str | os.PathLike[str],
        *,
        wait: float | None = DEFAULT_WAIT,
        max_hold: float = DEFAULT_MAX_HOLD,
    ) -> None:
        self.path = os.path.abspath(os.fspath(transcript_path))
        self._want: Wanted = wanted(_NO_KEY, wait=wait, max_hold=max_hold, is_turn=False)
        self._backend: Backend[Any] = open_files(self.path, one_file=True)
        self._blocks: dict[object, OpenTurn | OpenAsyncTurn] = {}

    @property
    def revoked(self) -> bool:
        """Whether the lock was taken from the block of this thread or task."""
        return self._block().core.lease.is_revoked

    def check(self) -> None:
        """Raises `LeaseRevoked` unless this thread's or task's block still has the lock."""
        self._block().core.check()

    def __enter__(self) -> SessionLock:
        if is_loop_running():
            raise WrongContext
        block = OpenTurn(_runtime(), self._backend, self._want.renewed())
        try:
            block.take()
            self._blocks[threading.current_thread()] = block
        except BaseException as error:
            block.give_up(error)
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        block = self._left()
        assert isinstance(block, OpenTurn)
        block.exit(error)

    async def __aenter__(self) -> SessionLock:
        if not is_loop_running():
            raise NoLoop
        from .turns.aio import OpenAsyncTurn

        block = OpenAsyncTurn(_runtime(), self._backend, self._want.renewed())
        await block.take()
        self._blocks[_caller()] = block
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        block = self._left()
        assert not isinstance(block, OpenTurn)
        await block.exit(error)

    def _left(self) -> OpenTurn | OpenAsyncTurn:
        """The block that ends: the caller's, or the only one, entered in another thread or task."""
        caller = _caller()
        if caller not in self._blocks and len(self._blocks) == 1:
            caller = next(iter(self._blocks))
        block = self._blocks.pop(caller, None)
        if block is None:
            why = "this thread or task did not enter it, and several others did"
            raise StoreError(self.path, "leave", why)
        return block

    def _block(self) -> OpenTurn | OpenAsyncTurn:
        block = self._blocks.get(_caller())
        if block is None:
            raise StoreError(self.path, "check", "this thread or task does not hold the lock")
        return block


@cache
def _runtime() -> Runtime:
    """Shared by all locks: one watchdog thread for a process, not one a lock."""
    return Runtime()


def _caller() -> object:
    if is_loop_running():
        return sys.modules["asyncio"].current_task()
    # Not its number: that of a thread which ended is the next one's.
    return threading.current_thread()
