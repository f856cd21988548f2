"""The outermost frame: whatever happens becomes a message and an exit code, once, here."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from ..errors import TurnlockError
from ..printable import printable
from .commands import cli
from .exits import ExitCode, exit_code
from .jsonout import error_object, say_json
from .log import log_errors_only
from .signals import Ended
from .terminal import say

_TRACEBACK_VARIABLE = "TURNLOCK_TRACEBACK"


def run(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code. Raises nothing but SystemExit."""
    _prepare_streams()
    log_errors_only()
    as_json = _wants_json(arguments)
    try:
        return _finished(_outcome(arguments, as_json))
    except BrokenPipeError:
        _drop_stdout()
        return ExitCode.READER_GONE
    except OSError as error:
        # Stdout itself: a full disk behind a redirection.
        _drop_stdout()
        with contextlib.suppress(OSError):
            say(f"turnlock: stdout: {printable(error.strerror)}", to_stderr=True)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _outcome(arguments: Sequence[str], as_json: bool) -> int:
    try:
        return _invoked(arguments)
    except BrokenPipeError:
        raise
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        say("turnlock: given up", to_stderr=True)
        return ExitCode.INTERRUPTED
    except Ended as ended:
        return 128 + ended.number
    except click.ClickException as error:
        _report(error, error.format_message() + _usage(error), as_json)
        return ExitCode.USAGE
    except TurnlockError as error:
        _report(error, str(error), as_json)
        return exit_code(error)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _report(error, f"{named}{error.strerror or error}", as_json)
        _flush_or_drop()
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - a bug of ours, and no user wants its traceback
        if os.environ.get(_TRACEBACK_VARIABLE):
            traceback.print_exc()
        text = f"internal error: {type(error).__name__}: {error}"
        _report(error, f"{text} ({_TRACEBACK_VARIABLE}=1 shows where)", as_json)
        return ExitCode.FAILED


def _invoked(arguments: Sequence[str]) -> int:
    # Not click's own main: that one has exit codes of its own for errors, Ctrl-C and EPIPE.
    with cli.make_context("turnlock", list(arguments) or ["--help"]) as ctx:
        code = cli.invoke(ctx)
    return code if isinstance(code, int) else ExitCode.OK


def _report(error: Exception, message: str, as_json: bool) -> None:
    if as_json:
        say_json({"error": error_object(error) | {"message": message}})
    else:
        say(f"turnlock: {printable(message)}", to_stderr=True)


def _usage(error: click.ClickException) -> str:
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f" ({ctx.command_path} --help)" if ctx is not None else ""


def _wants_json(arguments: Sequence[str]) -> bool:
    """Known before the arguments are understood: errors in them are JSON too."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in ours


def _finished(code: int) -> int:
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _prepare_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            # A terminal that knows no UTF-8 gets escapes, not a traceback.
            stream.reconfigure(errors="backslashreplace")


def _flush_or_drop() -> None:
    """After an error that may have been stdout's own: it is told once, and not again at the end."""
    try:
        _finished(ExitCode.FAILED)
    except OSError:
        _drop_stdout()


def _drop_stdout() -> None:
    # What is still buffered would fail once more when the interpreter ends.
    with contextlib.suppress(OSError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
