"""``turnlock sessions``, ``turnlock sessions read KEY`` and ``turnlock sessions heal KEY``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

import click

from ..backends import SessionRecord
from ..doctor.healing import Healer
from ..printable import printable
from ..session import parse_key
from ..transcript.entries import entry_object
from ..transcript.jsonl import Line
from .exits import ExitCode
from .healed import healed_lines, healed_object
from .jsonout import say_json, to_json
from .looking import looking
from .naming import NoSuchSession, resolve
from .options import (
    common_options,
    existing_store,
    is_state_directory_named,
    json_option,
    named_store,
    seconds_option,
    state_directory,
    store_option,
)
from .progress import progress
from .reading import Reader
from .stored import require_session
from .terminal import columns, counted, say
from .unlisted import unlisted

# A smaller transcript is healed before anybody could read how far it is.
_SHOWN_BYTES = 64 * 1024 * 1024


@click.group(invoke_without_command=True)
@json_option
@store_option
@common_options
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> int:
    """List the sessions, read one, or heal its transcript.

    With --json one object: {"sessions": [{"session", "path", "size", "modified"}]}. Where a
    directory cannot be listed the exit code is 2, and "unreadable" has its "path" and "why".
    """
    if ctx.invoked_subcommand is not None:
        return ExitCode.OK
    with looking(ctx), existing_store(ctx) as store:
        found = list(store.sessions())
        left_out = unlisted(ctx)
    if as_json:
        say_json({"sessions": [one._asdict() for one in found]} | left_out.facts, indent=2)
    for line in () if as_json else _session_lines(found):
        say(line)
    return left_out.told()


@command.command()
@click.argument("key")
@json_option
@store_option
@common_options
@click.pass_context
def read(ctx: click.Context, key: str, as_json: bool) -> None:
    """Show the transcript of session KEY, with its error markers.

    KEY may also be a file or a name that OpenClaw has for it, as for 'turnlock release'.

    With --json one entry a line: the entry as it is stored, and with it "kind" (message, opening,
    end, error-marker, or the entry's own type), "id" and "epoch" (null where it has none).
    """
    as_json = as_json or bool(ctx.parent and ctx.parent.params.get("as_json"))
    with looking(ctx), _transcript(ctx, key) as (name, lines):
        damaged = _show_json(lines) if as_json else _show(name, lines)
    if damaged:
        text = f"turnlock: {counted(damaged, 'damaged line')} skipped (turnlock doctor)"
        say(text, to_stderr=True)


@command.command()
@click.argument("key")
@seconds_option(
    "--wait",
    forever=True,
    default=0,
    help="How long to wait for a busy session; 0 tries once, 'forever' is allowed.",
)
@json_option
@common_options
@click.pass_context
def heal(ctx: click.Context, key: str, wait: float | None, as_json: bool) -> None:
    """Put a healed copy in the place of the transcript of session KEY.

    Every entry that can be read stays, in its order, on a line of its own, below a header. What
    is damaged is left out and kept in FILE.torn; the original is kept as FILE.<time>.bak. A
    transcript that has nothing to heal is left as it is.

    Readers need no healing: they step over what is damaged. It is for other programs that read the
    file. The session is taken meanwhile; exit code 75 when somebody holds it.

    KEY may also be a file or a name that OpenClaw has for it, as for 'turnlock release'.

    With --json one object: {"session", "path", "healed", "markers", "changes", "original", "torn"}.
    """
    as_json = as_json or bool(ctx.parent and ctx.parent.params.get("as_json"))
    if named_store(ctx) is not None:
        raise click.UsageError("a transcript in a database has no damage to heal", ctx)
    target = resolve(key, state_directory(ctx), named=is_state_directory_named(ctx))
    path = target.place.transcript
    if not os.path.lexists(path):
        raise NoSuchSession(key, path)
    # It is read twice: to see what is in it, and to make the copy.
    size = os.lstat(path).st_size * 2
    shown = not as_json and size > _SHOWN_BYTES
    with progress("healing", size, shown=shown) as on_read:
        healer = Healer(target.layout, parse_key(target.store_key), on_read=on_read)
        healed = healer.heal(wait=wait)
    if as_json:
        say_json(healed_object(target.key, healed), indent=2)
        return
    for line in healed_lines(target.key, healed):
        say(line)


@contextlib.contextmanager
def _transcript(ctx: click.Context, key: str) -> Iterator[tuple[str, Iterator[Line]]]:
    """The session's name and its lines. Raises `NoSuchSession`."""
    if named_store(ctx) is not None:
        with existing_store(ctx) as store:
            session = require_session(store, key)
            yield session, store.read_lines(session)
        return
    target = resolve(key, state_directory(ctx), named=is_state_directory_named(ctx))
    if not os.path.lexists(target.place.transcript):
        raise NoSuchSession(key, target.place.transcript)
    yield target.key, target.store().read_lines(target.store_key)


def _session_lines(sessions: Iterable[SessionRecord]) -> list[str]:
    rows = [
        (printable(one.session), counted(one.size, "byte"), f"changed {one.modified}")
        for one in sessions
    ]
    return columns(rows) or ["no session"]


def _show_json(lines: Iterable[Line]) -> int:
    """Print the entries; the number of damaged lines."""
    damaged = 0
    for line in lines:
        if line.entry is None:
            damaged += line.is_damaged
        elif line.entry.get("type") != "session":
            say(to_json(entry_object(line.entry)))
    return damaged


def _show(session: str, lines: Iterable[Line]) -> int:
    reader = Reader(session)
    for line in lines:
        for text in reader.lines(line):
            say(text)
    return reader.damaged
