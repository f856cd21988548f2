"""Owning a state directory: one gateway at a time. What the lock is: `turnlock.doctor.presence`.

Nothing is judged here: the kernel gives the lock, or does not. Only to say who has it is the other
gateway looked at, and asked whether it answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import sys
import threading

from ..backends.files import native
from ..backends.files.fileops import FileOps, Handle
from ..clock import Clock, SystemClock, iso
from ..doctor.condition import LOCK_FILE, Condition, Stage
from ..doctor.live import AlreadyServed, Gateway, gateway_of
from ..errors import StoreError
from .state import remove_strays, replace

logger = logging.getLogger("turnlock")

# Somebody who looks has the lock for a moment, and the kernel takes one to let go of a dead one's.
_INSIST = 0.15
_PAUSE = 0.005
# The longest that the other gateway is asked for its condition; a refusal comes within a second.
_ASK = 0.3


class Ownership:
    """The lock on a state directory, until it is closed; `own` takes it."""

    def __init__(self, state_dir: str, handle: Handle, clock: Clock) -> None:
        self._path = os.path.join(state_dir, LOCK_FILE)
        self._handle = handle
        self._pid = os.getpid()
        self._facts = _facts(clock)
        self._lock = threading.Lock()

    def say(self, stage: Stage, url: str = "") -> None:
        """Write who owns the directory, and its stage. What cannot be written is logged.

        The lock does not depend on it. May be called from any thread.
        """
        text = json.dumps(self._facts | {"stage": stage.value, "url": url or None}, indent=2)
        with self._lock:
            if not self._is_ours:
                return
            try:
                replace(self._path, f"{text}\n", durable=False)
            except OSError as error:
                logger.warning("%s could not be written: %s", self._path, error)

    def close(self) -> None:
        """Give the directory up. In a forked child this does nothing: it is its parent's."""
        with self._lock:
            if self._is_ours:
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            # The lock goes last: until then the file is of nobody else.
            self._handle.close()

    @property
    def _is_ours(self) -> bool:
        return self._handle.fd >= 0 and self._pid == os.getpid()


def own(state_dir: str, *, files: FileOps | None = None, clock: Clock | None = None) -> Ownership:
    """Take the lock on an existing state directory. Blocks, for half a second at most.

    Raises `AlreadyServed` when another gateway has it, of this process or any other, and
    `StoreError` when nobody can have it. Then nothing was changed.
    """
    files = files or FileOps()
    clock = clock or SystemClock()
    handle = _opened(files, state_dir)
    try:
        if not _insist(files, handle, state_dir, clock):
            other = gateway_of(state_dir, _ASK)
            # It may have ended while it was looked at.
            if not _try(files, handle, state_dir):
                unknown = Gateway(state_dir, None, "", Condition.UNNAMED, None)
                raise AlreadyServed(state_dir, other or unknown)
    except BaseException:
        handle.close()
        raise
    remove_strays(state_dir)
    ownership = Ownership(state_dir, handle, clock)
    ownership.say(Stage.STARTING)
    return ownership


def _opened(files: FileOps, path: str) -> Handle:
    try:
        return files.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(path, "open", error.strerror or str(error)) from error


def _insist(files: FileOps, handle: Handle, path: str, clock: Clock) -> bool:
    deadline = clock.monotonic() + _INSIST
    while not _try(files, handle, path):
        if clock.monotonic() >= deadline:
            return False
        clock.sleep(_PAUSE)
    return True


def _try(files: FileOps, handle: Handle, path: str) -> bool:
    try:
        files.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Without the lock nothing would keep a second gateway out.
        hint = "the state directory has to be on a local file system with flock; see doctor"
        raise StoreError(path, "lock", error.strerror or str(error), hint) from error
    return True


def _facts(clock: Clock) -> dict[str, object]:
    processes = native().processes
    return {
        "v": 1,
        "pid": os.getpid(),
        "starttime": processes.look_up(os.getpid()).start_time,
        "host": processes.host,
        "bootId": processes.boot_id,
        "pidNamespace": processes.pid_namespace,
        "program": os.path.basename(sys.argv[0] or sys.executable),
        "started": iso(clock.wall()),
    }
