"""``turnlock export``."""

from __future__ import annotations

import click

from ..store import open_store
from .looking import looking
from .options import (
    common_options,
    json_option,
    required_store,
    state_directory,
    store_option,
)
from .transfer import copied, report
from .unlisted import Unlisted


@click.command(name="export")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@json_option
@store_option
@common_options
@click.pass_context
def command(ctx: click.Context, keys: tuple[str, ...], as_json: bool) -> int:
    """Copy sessions from the database of --store into the state directory.

    All of them, or those that are named; 'turnlock import' the other way round. Every entry arrives
    byte for byte. What the directory has of a session already has to be how it begins; what is
    missing is added, so it does no harm to do it again. Nothing of the database is changed.

    Exit code 1 when a session could not be copied whole; it stops no other.
    With --json one object: {"sessions": [{"session", "result", "lines", "left_out"}]}; one that
    "failed" has a "why" in place of the last two, and what was added so far stays.
    """
    with (
        looking(ctx),
        open_store(required_store(ctx)) as database,
        open_store(state_directory(ctx)) as files,
    ):
        return report(copied(database, files, keys), Unlisted(), as_json)
