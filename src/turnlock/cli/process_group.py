"""A command in a process group and session of its own, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

import psutil

from ..clock import SystemClock

# From TERM to KILL.
GRACE_SECONDS = 2.0
# A process that KILL does not end waits for a disk; nobody can wait for that.
_KILLED_SECONDS = 5.0
_LOOK_SECONDS = 0.02


class ProcessGroup:
    """A running command; as a context it ends the group unless the command has ended by itself.

    The group's number is its own for as long as `poll` has not reaped the command.
    ``pipe_output``: its stdout and stderr are pipes to be read, and not those of this process.
    Raises OSError when the command cannot be started.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, pipe_output: bool
    ) -> None:
        output = subprocess.PIPE if pipe_output else None
        # A session of its own and not only a group: in a background group of the terminal's session
        # a command that reads the terminal would be stopped.
        self.process = subprocess.Popen(
            arguments,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
            bufsize=0,
        )
        self._group = self.process.pid

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.returncode is None:
            self._end()

    def poll(self) -> int | None:
        """The exit code as a shell gives it (128+n for signal n); None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """Send it to the whole group, while the command runs."""
        if self.process.returncode is None:
            self._send(number)

    def _end(self) -> None:
        """TERM, and after a grace KILL, to every process of the group; returns when they are gone.

        A process that has made itself a session of its own is not of the group any more.
        """
        self._send(signal.SIGTERM)
        # One that is stopped would not hear it.
        self._send(signal.SIGCONT)
        clock = SystemClock()
        deadline = clock.monotonic() + GRACE_SECONDS
        while self._lives() and clock.monotonic() < deadline:
            clock.sleep(_LOOK_SECONDS)
        self._send(signal.SIGKILL)
        try:
            self.process.wait(_KILLED_SECONDS)
        except subprocess.TimeoutExpired:
            return

    def _send(self, number: int) -> None:
        try:
            os.killpg(self._group, number)
        except (ProcessLookupError, PermissionError):
            # Nobody is left, or only what has become another user's.
            pass

    def _lives(self) -> bool:
        """Whether a process of the group still runs. Its leader is a zombie until it is reaped."""
        return any(_runs_in(process, self._group) for process in psutil.process_iter())


def _runs_in(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
    except (PermissionError, psutil.AccessDenied):
        return False
