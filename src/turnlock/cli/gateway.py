"""``turnlock gateway``."""

from __future__ import annotations

import click

from .options import common_options, state_directory
from .serving import announce, extra_installed


@click.command()
@click.option("--config", "config_path", type=click.Path(), help="A TOML file.")
@click.option("--host", help="Default: the configuration's, else 127.0.0.1.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="0: any free. Default: the configuration's."
)
@common_options
@click.pass_context
def command(
    ctx: click.Context, config_path: str | None, host: str | None, port: int | None
) -> None:
    """Serve agents over HTTP, one turn at a time for each session.

    Prints its URL, one line, on stdout; logs go to stderr. SIGTERM lets turns end before it ends;
    SIGHUP reads the configuration again. One gateway serves one state directory: a second one
    exits with 75, and names the first with its condition.
    """
    with extra_installed():
        from ..gateway import run
    run(
        state_dir=state_directory(ctx),
        config_path=config_path,
        host=host,
        port=port,
        announce=announce,
    )
