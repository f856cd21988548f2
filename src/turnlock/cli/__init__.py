"""The command line: ``turnlock``, also ``python -m turnlock``."""

from __future__ import annotations

import importlib

import click

# name -> (module, attribute). A command is imported when it is used: doctor needs no web server.
COMMANDS: dict[str, tuple[str, str]] = {}


class LazyGroup(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup)
def cli() -> None:
    """Sessions of AI agents that a hung model call cannot wedge."""


def main() -> None:
    cli(prog_name="turnlock")
