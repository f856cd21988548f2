"""Exit codes: one table for people, programs and the documentation.

=======  ==========================================================================================
code     meaning
=======  ==========================================================================================
0        done; for ``doctor``: nothing stale or broken is left
1        the operation failed; for ``doctor``: something stale or broken is left
2        the command line or its input is wrong, or the command could not look at what it was to
         report on (no such state directory, session or permission)
69       the gateway that holds the session does not answer; nothing was changed
75       busy: another holder has the session and the wait limit passed; for ``gateway``: another
         gateway has the state directory
124      revoked: the session was taken from the command's turn
126 127  ``exec``: the command could not be started; was not found
128+n    ended by signal n: 130 for Ctrl-C, 143 for SIGTERM, 141 when the reader of stdout went away
=======  ==========================================================================================

``exec`` passes on the exit code of its command, so 1, 2 and 75 can also be the command's own.
"""

from __future__ import annotations

import signal
from enum import IntEnum

from ..doctor.live import AlreadyServed, GatewayUnreachable
from ..doctor.looking import CannotLook
from ..errors import (
    ConfigError,
    InvalidSessionKey,
    LeaseRevoked,
    LimitsError,
    SessionBusy,
    TurnlockError,
)


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 69
    BUSY = 75
    REVOKED = 124
    NOT_STARTED = 126
    NOT_FOUND = 127
    INTERRUPTED = 128 + signal.SIGINT
    READER_GONE = 128 + signal.SIGPIPE


class WrongInput(TurnlockError):
    """What the caller gave cannot be used. Attributes: ``why``, and ``line`` of stdin or None."""

    def __init__(self, why: str, *, hint: str = "", line: int | None = None) -> None:
        self.why = why
        self.hint = hint
        self.line = line
        where = f"line {line} of stdin: " if line is not None else ""
        super().__init__(f"{where}{why}" + (f"; {hint}" if hint else ""))


# The first match counts; every other error of ours is a failed operation.
_CODES: tuple[tuple[type[TurnlockError], ExitCode], ...] = (
    (SessionBusy, ExitCode.BUSY),
    (AlreadyServed, ExitCode.BUSY),
    (GatewayUnreachable, ExitCode.UNAVAILABLE),
    (LeaseRevoked, ExitCode.REVOKED),
    (InvalidSessionKey, ExitCode.USAGE),
    (LimitsError, ExitCode.USAGE),
    (ConfigError, ExitCode.USAGE),
    (WrongInput, ExitCode.USAGE),
    (CannotLook, ExitCode.USAGE),
)


def exit_code(error: TurnlockError) -> ExitCode:
    """The exit code of a command that ended with this error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)
