"""``turnlock import``."""

from __future__ import annotations

import click

from ..store import open_store
from .looking import looking
from .options import (
    common_options,
    existing_files,
    json_option,
    required_store,
    state_directory,
    store_option,
)
from .transfer import copied, report
from .unlisted import Unlisted, unlisted_in


@click.command(name="import")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@json_option
@store_option
@common_options
@click.pass_context
def command(ctx: click.Context, keys: tuple[str, ...], as_json: bool) -> int:
    """Copy sessions from the state directory into the database of --store.

    All of them, or those that are named. Every entry arrives byte for byte. What the database has
    of a session already has to be how it begins; what is missing is added, so it does no harm to
    do it again. Nothing of the state directory is changed.

    Exit code 1 when a session could not be copied whole; it stops no other. 2 when a directory
    cannot be listed: "unreadable" has its "path" and "why".
    With --json one object: {"sessions": [{"session", "result", "lines", "left_out"}]}; one that
    "failed" has a "why" in place of the last two, and what was added so far stays.
    """
    with (
        looking(ctx),
        existing_files(ctx) as files,
        open_store(required_store(ctx)) as database,
    ):
        left_out = Unlisted() if keys else unlisted_in(state_directory(ctx))
        return report(copied(files, database, keys), left_out, as_json)
