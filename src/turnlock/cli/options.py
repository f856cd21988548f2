"""What every command understands: where the sessions are, and how long is a wait."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import __version__
from ..config import default_state_directory
from ..doctor.looking import require_directory, require_whole
from ..limits import DEFAULT_MAX_HOLD, DEFAULT_WAIT

if TYPE_CHECKING:
    from ..store import Store

F = TypeVar("F", bound=Callable[..., Any])
_STATE_DIRECTORY = "turnlock.state_directory"
_STORE = "turnlock.store"
_TURN_ID = re.compile(r"[A-Za-z0-9._:@+=-]{1,100}", re.ASCII)


def seconds_option(
    name: str, *, help: str, default: float | None = None, forever: bool = False
) -> Callable[[F], F]:
    """An option in seconds; with ``forever`` that word is None."""

    def convert(ctx: click.Context, param: click.Parameter, value: Any) -> float | None:
        if value is None or (forever and value == "forever"):
            return None
        try:
            return float(value)
        except ValueError:
            raise click.BadParameter(f"{value!r} is no number of seconds", ctx, param) from None

    return click.option(
        name,
        metavar="SECONDS",
        type=str,
        default=None if default is None else f"{default:g}",
        show_default=default is not None,
        help=help,
        callback=convert,
    )


def common_options(function: F) -> F:
    """``--state-dir`` and ``--version``, before or after the command; the later one counts."""
    state = click.option(
        "--state-dir",
        metavar="DIRECTORY",
        help="Where the sessions are. Default: $TURNLOCK_STATE_DIR, else the platform's place.",
        expose_value=False,
        callback=_remember_state_directory,
        is_eager=True,
    )
    version = click.version_option(__version__, "--version", message="turnlock %(version)s")
    return version(state(function))


def store_option(function: F) -> F:
    """``--store``, for commands that work on a database as well as on a state directory."""
    return click.option(
        "--store",
        metavar="URL",
        help="Where the sessions are, in place of a state directory: postgresql://HOST/DATABASE.",
        expose_value=False,
        callback=_remember_store,
    )(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="JSON for programs.")(function)


def turn_options(function: F) -> F:
    """How long a command waits for its session, and holds it."""
    wait = seconds_option(
        "--wait",
        forever=True,
        default=DEFAULT_WAIT,
        help="How long to wait for a busy session; 0 tries once, 'forever' is allowed.",
    )
    hold = seconds_option(
        "--max-hold",
        default=DEFAULT_MAX_HOLD,
        help="After how long the session is taken from this command.",
    )
    turn_id = click.option(
        "--turn-id",
        metavar="TEXT",
        callback=_check_turn_id,
        help="The turn's name; random by default.",
    )
    return wait(hold(turn_id(function)))


def state_directory(ctx: click.Context) -> str:
    """The state directory as a path, whether or not it exists."""
    named = ctx.find_object(dict) or {}
    return os.path.realpath(named.get(_STATE_DIRECTORY) or default_state_directory())


def named_state_directory(ctx: click.Context) -> str | None:
    """The state directory as the command line names it, whatever the environment says; or None."""
    return (ctx.find_object(dict) or {}).get(_STATE_DIRECTORY)


def named_store(ctx: click.Context) -> str | None:
    """The URL that ``--store`` gave; None where sessions are in the state directory."""
    return (ctx.find_object(dict) or {}).get(_STORE)


def required_store(ctx: click.Context) -> str:
    """The same, for commands of databases alone."""
    url = named_store(ctx)
    if url is None:
        raise click.UsageError("name the database: --store postgresql://HOST/DATABASE", ctx)
    return url


def is_state_directory_named(ctx: click.Context) -> bool:
    """Whether somebody said where it is; else it is the platform's place."""
    named = ctx.find_object(dict) or {}
    return bool(named.get(_STATE_DIRECTORY) or os.environ.get("TURNLOCK_STATE_DIR"))


def existing_store(ctx: click.Context) -> Store:
    """The store, to look at. Raises `CannotLook` when there is no state directory to look at."""
    url = named_store(ctx)
    return _open(url) if url is not None else existing_files(ctx)


def existing_files(ctx: click.Context) -> Store:
    """The state directory, to look at, whatever ``--store`` says. Raises `CannotLook`."""
    root = state_directory(ctx)
    require_directory(root)
    return _open(root)


def store_to_write(ctx: click.Context) -> Store:
    """The store; its directory is made when it is written.

    Raises `CannotLook` for a directory inside of a state directory: nothing may be made there.
    """
    url = named_store(ctx)
    if url is not None:
        return _open(url)
    root = state_directory(ctx)
    require_whole(root)
    return _open(root)


def _open(root: str) -> Store:
    # Not for --help and --version: it is half of the time that a command needs to start.
    from ..store import open_store

    return open_store(root)


def _check_turn_id(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    # Short and plain enough to stand whole in claims, markers and logs.
    if value is not None and not _TURN_ID.fullmatch(value):
        raise click.BadParameter(f"{value!r:.200} is not {_TURN_ID.pattern}", ctx, param)
    return value


def _remember_store(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    from ..backends.locations import POSTGRES

    if not value.startswith(POSTGRES):
        raise click.BadParameter("it is a URL that begins with postgresql://", ctx, param)
    ctx.ensure_object(dict)[_STORE] = value


def _remember_state_directory(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> None:
    if value is None:
        return
    if not value:
        raise click.BadParameter("it is empty", ctx, param)
    # A shell leaves the ~ of --state-dir=~/x alone.
    ctx.ensure_object(dict)[_STATE_DIRECTORY] = os.path.expanduser(value)
