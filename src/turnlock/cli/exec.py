"""``turnlock exec``."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

import click

from ..printable import printable
from ..session import parse_key
from ..store import Store
from ..turns.sync import Turn
from .copying import Copiers
from .exits import ExitCode
from .options import (
    common_options,
    named_store,
    seconds_option,
    state_directory,
    store_option,
    store_to_write,
    turn_options,
)
from .process_group import ProcessGroup
from .revocation import told_of_revocation
from .signals import ENDING, Wakeups, ending_signals_raise
from .terminal import say


class CommandFailed(Exception):
    """Ends the turn with an error marker of reason ``error``; ``code`` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


class CommandStopped(BaseException):
    """Ends the turn with a marker of reason ``cancelled``: a signal was passed on to it."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


@click.command()
@click.argument("key")
@click.argument("arguments", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED)
@turn_options
@seconds_option(
    "--max-stall",
    help="After how long without output the session is taken; off by default. With it the command's"
    " stdout and stderr are pipes.",
)
@store_option
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    key: str,
    arguments: tuple[str, ...],
    wait: float | None,
    max_hold: float,
    max_stall: float | None,
    turn_id: str | None,
) -> int:
    """Run a command while holding session KEY.

    The command has stdin, stdout and stderr of turnlock, TURNLOCK_SESSION, TURNLOCK_TURN_ID and
    (without --store) TURNLOCK_STATE_DIR in its environment, and a process group and session of its
    own. SIGINT,
    SIGTERM, SIGHUP and SIGQUIT are passed on to its group. What it leaves running in the background
    goes on without the session.

    When the session is taken (--max-hold, or 'turnlock release'), the group is ended, with TERM and
    two seconds later with KILL, and the exit code is 124. Otherwise it is the command's: 128+n when
    signal n ended it, 127 when it was not found, 126 when it cannot be started.

    Exit code 0 is a turn that ended well, and leaves no trace. Any other leaves an error marker in
    the transcript: reason 'error', or 'cancelled' after a signal was passed on.

    With --max-stall all output of the command arrives, however slow its reader; the session is free
    meanwhile. Where it cannot be written, stderr says so, and exit code 0 becomes 1, without a
    marker. What the command leaves running in the background has a second more, then no reader.

    A turnlock that is killed by SIGKILL cannot end the command: it goes on without the session.
    """
    if not arguments:
        raise click.UsageError("there is no command: turnlock exec KEY -- COMMAND...", ctx)
    session = parse_key(key)
    store = store_to_write(ctx)
    environment = {**os.environ, "TURNLOCK_SESSION": str(session)}
    if named_store(ctx) is None:
        environment["TURNLOCK_STATE_DIR"] = state_directory(ctx)
    block = store.turn(key, wait=wait, max_hold=max_hold, max_stall=max_stall, turn_id=turn_id)
    copiers = Copiers()
    code: int = ExitCode.OK
    try:
        # The copying outlives the turn: a slow reader of the output keeps nobody from the session.
        with ending_signals_raise(), copiers, store, block as turn:
            environment["TURNLOCK_TURN_ID"] = turn.turn_id
            watched = max_stall is not None
            _run(store, turn, arguments, environment, copiers, watched=watched)
    except CommandFailed as failed:
        if failed.code in (ExitCode.NOT_STARTED, ExitCode.NOT_FOUND):
            say(f"turnlock: {printable(failed)}", to_stderr=True)
        code = failed.code
    except CommandStopped as stopped:
        code = stopped.code
    for why in copiers.failures:
        say(f"turnlock: {why}", to_stderr=True)
    return code or (ExitCode.FAILED if copiers.failures else ExitCode.OK)


def _run(
    store: Store,
    turn: Turn,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    copiers: Copiers,
    *,
    watched: bool,
) -> None:
    """Run the command to its end. Raises for every end but a good one."""
    passed_on: int | None = None
    with Wakeups() as wakeups, told_of_revocation(store, wakeups.notify):
        group = _started(arguments, environment, pipe_output=watched)
        with group:
            copiers.start(group.process, turn.progress)
            while (code := group.poll()) is None:
                for number in wakeups.wait():
                    if number in ENDING:
                        passed_on = number
                        group.signal(number)
                if turn.revoked:
                    # Leaving the block ends the group.
                    turn.check()
    copiers.ended()
    if code == 0:
        return
    message = f"{arguments[0]!r} {_how_it_ended(code)}"
    if passed_on is not None:
        name = signal.Signals(passed_on).name
        raise CommandStopped(f"{message} after {name} was passed on", code)
    raise CommandFailed(message, code)


def _how_it_ended(code: int) -> str:
    if code <= 128:
        return f"exited with status {code}"
    try:
        return f"was ended by {signal.Signals(code - 128).name}"
    except ValueError:
        return f"exited with status {code}"


def _started(
    arguments: Sequence[str], environment: Mapping[str, str], *, pipe_output: bool
) -> ProcessGroup:
    try:
        return ProcessGroup(arguments, environment, pipe_output=pipe_output)
    except FileNotFoundError as error:
        raise CommandFailed(f"{arguments[0]!r} was not found", ExitCode.NOT_FOUND) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        message = f"{arguments[0]!r} cannot be started: {why}"
        raise CommandFailed(message, ExitCode.NOT_STARTED) from error
