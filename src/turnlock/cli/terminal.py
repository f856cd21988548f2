"""What people see: text that cannot steer their terminal, colour, columns."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

# Lines that are wrapped narrower than this cannot be read.
_NARROWEST = 20
_COLORS = {"error": "red", "warning": "yellow", "info": "cyan", "good": "green"}


def say(text: str = "", *, to_stderr: bool = False) -> None:
    """Print a line. Takes what `printable` made, and `paint`."""
    click.echo(text, err=to_stderr)


def paint(text: str, kind: str) -> str:
    """Colour for a severity, or ``good``, ``strong``, ``faint``; only on a terminal."""
    if not has_color():
        return text
    if kind in ("strong", "faint"):
        return click.style(text, bold=kind == "strong", dim=kind == "faint")
    return click.style(text, fg=_COLORS[kind], bold=True)


def has_color() -> bool:
    """https://no-color.org: any value of NO_COLOR, other than none, turns it off."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()


def width() -> int | None:
    """The columns of the terminal on stdout; None when it is none, and lines stay whole."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def wrapped(text: str, *, indent: int) -> list[str]:
    """The text as lines that fit the terminal behind ``indent`` columns; one line elsewhere."""
    room = width()
    if room is None:
        return [text]
    import textwrap

    lines = textwrap.wrap(
        text, max(room - indent, _NARROWEST), break_long_words=False, break_on_hyphens=False
    )
    return lines or [""]


def columns(rows: Sequence[Sequence[str]], *, indent: str = "") -> list[str]:
    """The rows as aligned lines."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        (
            indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def counted(number: int, noun: str) -> str:
    """``1 lock``, ``3 locks``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
