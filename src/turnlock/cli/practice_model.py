"""``turnlock practice-model``."""

from __future__ import annotations

import click

from .options import common_options
from .serving import announce, extra_installed


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0, the default: any free.")
@common_options
def command(host: str, port: int) -> None:
    """Serve an OpenAI-compatible model that needs no key, and hangs on demand.

    Prints its URL, one line, on stdout.
    """
    import asyncio

    if not host:
        # To asyncio that would be every address of the machine.
        raise click.BadParameter("the name or address to listen on is empty", param_hint="--host")
    with extra_installed():
        from ..practice import serve
    asyncio.run(serve(host, port, announce))
