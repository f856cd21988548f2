"""``turnlock prune``."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import click

from ..backends import SessionRecord
from ..printable import printable
from ..pruning import Fate, Pruned
from ..store import Store
from .each import Failed, each
from .exits import ExitCode
from .jsonout import say_json
from .looking import looking
from .options import common_options, existing_store, json_option, store_option
from .terminal import columns, counted, say
from .unlisted import Unlisted, unlisted

_DAY = 86400.0
# A century: no calendar has the days that are much further back.
_DAYS_MAX = 36500.0
_MEANINGS = {
    Fate.GONE: "taken away",
    Fate.USED: "left alone: it was used meanwhile",
    Fate.BUSY: "left alone: somebody holds it",
    Fate.UNFINISHED: "left alone: its last turn has no terminal entry; turnlock doctor --fix",
    Fate.DIFFERS: "left alone: another session of that name is in the archive",
    Fate.LEFT_OUT: "left alone: it has bytes that no archive would get; turnlock sessions heal",
}


def _check_days(ctx: click.Context, param: click.Parameter, value: float) -> float:
    # No range refuses it: whatever it is compared with, it is not beyond that.
    if math.isnan(value):
        raise click.BadParameter(f"{value} is no number of days", ctx, param)
    return value


@click.command()
@click.option(
    "--idle-days",
    metavar="DAYS",
    type=click.FloatRange(min=0, min_open=True, max=_DAYS_MAX),
    callback=_check_days,
    required=True,
    help="Sessions that were last written so many days ago or earlier.",
)
@click.option("--archive", metavar="DIRECTORY", help="A state directory that gets a copy first.")
@click.option("--no-archive", is_flag=True, help="Keep no copy.")
@click.option("--delete", is_flag=True, help="Do it. Without this it is only said what would go.")
@json_option
@store_option
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    idle_days: float,
    archive: str | None,
    no_archive: bool,
    delete: bool,
    as_json: bool,
) -> int:
    """Take away sessions that nobody has used for many days.

    Only lists them, unless --delete is given; that needs --archive DIRECTORY, or --no-archive. What
    is in the archive are sessions as everywhere: 'turnlock sessions --state-dir DIRECTORY' lists
    them, and they can be imported again.

    A session that somebody holds, that was used meanwhile, or whose last turn has no terminal
    entry yet is left alone, and so is one that cannot be read. In a database it needs the role that
    owns the tables: a gateway's may take nothing away.

    Exit code 1 when a session was left alone, 2 when a directory cannot be listed ("unreadable").
    With --json one object: {"sessions": [{"session", "modified", "size", "fate"}]}; without
    --delete "fate" is "idle". One that "failed" has a "why" too.
    """
    _check(ctx, archive, no_archive, delete)
    idle = idle_days * _DAY
    with looking(ctx), existing_store(ctx) as store:
        # Not while the list is still read: it would be of what is left by then.
        found = list(store.idle(idle))
        left_out = unlisted(ctx)
        if not delete:
            return left_out.told(_show(found, left_out, as_json))
        with _archive(archive) as into:
            done = _pruned(store, found, idle, into)
        return left_out.told(_report(found, done, left_out, as_json))


def _check(ctx: click.Context, archive: str | None, no_archive: bool, delete: bool) -> None:
    if archive is not None and no_archive:
        raise click.UsageError("--archive and --no-archive exclude each other", ctx)
    if delete and archive is None and not no_archive:
        text = "say where a copy is kept, --archive DIRECTORY, or that none is: --no-archive"
        raise click.UsageError(text, ctx)
    if archive == "":
        raise click.BadParameter("it is empty", ctx, param_hint="--archive")


@contextlib.contextmanager
def _archive(directory: str | None) -> Iterator[Store | None]:
    if directory is None:
        yield None
        return
    from ..backends.locations import open_files

    path = os.path.realpath(directory)
    with Store(open_files(path), location=path) as archive:
        yield archive


def _pruned(
    store: Store, found: Sequence[SessionRecord], idle: float, archive: Store | None
) -> list[Pruned | Failed]:
    def prune(session: str) -> Pruned:
        return store.prune(session, idle=idle, archive=archive)

    stores = [store] if archive is None else [store, archive]
    return each([one.session for one in found], prune, stores=stores)


def _show(found: Sequence[SessionRecord], left_out: Unlisted, as_json: bool) -> int:
    if as_json:
        sessions = [
            {"session": one.session, "modified": one.modified, "size": one.size, "fate": "idle"}
            for one in found
        ]
        say_json({"sessions": sessions} | left_out.facts, indent=2)
        return ExitCode.OK
    for line in columns([_row(one.session, one.modified, one.size, "idle") for one in found]):
        say(line)
    say(
        f"{counted(len(found), 'session')}, nothing was done: --delete takes them away"
        if found
        else "no session is idle for so long"
    )
    return ExitCode.OK


def _report(
    found: Sequence[SessionRecord],
    done: Sequence[Pruned | Failed],
    left_out: Unlisted,
    as_json: bool,
) -> int:
    told = list(zip(found, done, strict=False))
    if as_json:
        say_json({"sessions": [_object(*one) for one in told]} | left_out.facts, indent=2)
    else:
        rows = [_row_of(*one) for one in told]
        for line in columns(rows) or ["no session is idle for so long"]:
            say(line)
    whole = all(isinstance(one, Pruned) and one.fate is Fate.GONE for one in done)
    return ExitCode.OK if whole else ExitCode.FAILED


def _object(record: SessionRecord, done: Pruned | Failed) -> dict[str, Any]:
    if isinstance(done, Pruned):
        return done._asdict() | {"fate": done.fate.value}
    facts = {"session": record.session, "modified": record.modified, "size": record.size}
    return facts | {"fate": "failed", "why": done.why}


def _row_of(record: SessionRecord, done: Pruned | Failed) -> tuple[str, str, str, str]:
    if isinstance(done, Pruned):
        return _row(done.session, done.modified, done.size, _MEANINGS[done.fate])
    why = f"left alone: {printable(done.why)}"
    return _row(record.session, record.modified, record.size, why)


def _row(session: str, modified: str, size: int, fate: str) -> tuple[str, str, str, str]:
    return printable(session), counted(size, "byte"), f"changed {modified}", fate
