"""``turnlock db migrate``."""

from __future__ import annotations

import click

from ..backends.locations import open_postgres
from .options import common_options, required_store, store_option
from .terminal import say


@click.group()
@common_options
def command() -> None:
    """Look after a database of sessions."""


@command.command()
@store_option
@common_options
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Make the tables of a database, or bring them to this version.

    Safe while gateways run, those of the version before included, and when two do it at once.
    Needs a role that may create a schema; gateways do not.
    """
    url = required_store(ctx)
    # Says which package is missing.
    open_postgres(url)
    from ..backends.postgres import VERSION, migrate

    applied = migrate(url)
    for one in applied:
        say(f"applied {one.version:04d} {one.name}")
    if not applied:
        say(f"nothing to do: the tables are of version {VERSION}")
