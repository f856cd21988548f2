"""``turnlock sessions`` and ``turnlock sessions read KEY``."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from ..backends import SessionRecord
from ..transcript.entries import entry_object
from ..transcript.jsonl import Line
from .jsonout import say_json, to_json
from .looking import looking
from .naming import NoSuchSession, resolve
from .options import (
    common_options,
    existing_store,
    is_state_directory_named,
    json_option,
    state_directory,
)
from .reading import Reader
from .terminal import columns, counted, printable, say


@click.group(invoke_without_command=True)
@json_option
@common_options
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the sessions, or read one.

    With --json one object: {"sessions": [{"session", "path", "size", "modified"}]}.
    """
    if ctx.invoked_subcommand is not None:
        return
    with looking(ctx):
        found = list(existing_store(ctx).sessions())
    if as_json:
        say_json({"sessions": [one._asdict() for one in found]}, indent=2)
        return
    for line in _session_lines(found):
        say(line)


@command.command()
@click.argument("key")
@json_option
@common_options
@click.pass_context
def read(ctx: click.Context, key: str, as_json: bool) -> None:
    """Show the transcript of session KEY, with its error markers.

    KEY may also be a file or a name that OpenClaw has for it, as for 'turnlock release'.

    With --json one entry a line: the entry as it is stored, and with it "kind" (message, opening,
    end, error-marker, or the entry's own type), "id" and "epoch" (null where it has none).
    """
    as_json = as_json or bool(ctx.parent and ctx.parent.params.get("as_json"))
    with looking(ctx):
        target = resolve(key, state_directory(ctx), named=is_state_directory_named(ctx))
        if not os.path.lexists(target.place.transcript):
            raise NoSuchSession(key, target.place.transcript)
        lines = target.store().read_lines(target.store_key)
        damaged = _show_json(lines) if as_json else _show(target.key, lines)
    if damaged:
        text = f"turnlock: {counted(damaged, 'damaged line')} skipped (turnlock doctor)"
        say(text, to_stderr=True)


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
            damaged += 1
        elif line.entry.get("type") != "session":
            say(to_json(entry_object(line.entry)))
    return damaged


def _show(session: str, lines: Iterable[Line]) -> int:
    reader = Reader(session)
    for line in lines:
        for text in reader.lines(line):
            say(text)
    return reader.damaged
