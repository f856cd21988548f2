"""``turnlock gateway``."""

from __future__ import annotations

import click

from ..doctor.live import refuse_second
from ..store import open_store
from .options import common_options, named_store, state_directory, store_option
from .serving import announce, extra_installed

# Seconds in which a gateway that has the directory may answer, for one that is refused.
_ASK = 0.3


@click.command()
@click.option("--config", "config_path", type=click.Path(), help="A TOML file.")
@click.option("--host", help="Default: the configuration's, else 127.0.0.1.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="0: any free. Default: the configuration's."
)
@store_option
@common_options
@click.pass_context
def command(
    ctx: click.Context, config_path: str | None, host: str | None, port: int | None
) -> None:
    """Serve agents over HTTP, one turn at a time for each session.

    Prints its URL, one line, on stdout; logs go to stderr. SIGTERM lets turns end before it ends;
    SIGHUP reads the configuration again. One gateway serves one state directory: a second one
    exits with 75, and names the first with its condition.

    With --store the sessions are in a database, which any number of gateways may serve, each with
    a state directory of its own for its token.
    """
    root = state_directory(ctx)
    # Both before what takes long to import. Without flock there is no store, and it says so.
    with open_store(named_store(ctx) or root) as store:
        if named_store(ctx) is not None:
            # A database that is not there, or has no tables, is a mistake to be told of at once.
            next(store.sessions(), None)
    refuse_second(root, _ASK)
    with extra_installed():
        from ..gateway import run
    run(
        state_dir=root,
        store_url=named_store(ctx),
        config_path=config_path,
        host=host,
        port=port,
        announce=announce,
    )
