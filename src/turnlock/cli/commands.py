"""The commands, each imported when it is used: doctor needs no web server."""

from __future__ import annotations

import importlib

import click

from .options import common_options

# name -> (module, what it does). The command is the attribute ``command`` of its module.
COMMANDS: dict[str, tuple[str, str]] = {
    "append": ("append", "Append entries, JSON lines from stdin, to a session."),
    "db": ("db", "Look after a database of sessions: make its tables."),
    "demo": ("demo", "Watch a model call hang and a process die, and the sessions go on."),
    "doctor": ("doctor", "Look for locks that are stale and files that are broken; repair them."),
    "exec": ("exec", "Run a command while holding a session."),
    "export": ("exporting", "Copy sessions from a database into the state directory."),
    "gateway": ("gateway", "Serve agents over HTTP."),
    "import": ("importing", "Copy sessions from the state directory into a database."),
    "locks": ("locks", "List every lock with its holder."),
    "practice-model": ("practice_model", "Serve a model that answers without a key, or hangs."),
    "prune": ("prune", "Take away sessions that nobody has used for many days."),
    "release": ("release", "Take a session from whoever holds it."),
    "sessions": ("sessions", "List the sessions, read one, or heal its transcript."),
}


class Commands(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = importlib.import_module(f"{__package__}.{module}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Not by importing all of them, as click would for their help.
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(COMMANDS.items())])


@click.group(cls=Commands)
@common_options
def cli() -> None:
    """Sessions of AI agents that a hung model call cannot wedge.

    A session is named AGENT/NAME, such as main/alice.
    """
