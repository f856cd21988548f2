"""What people see: text that cannot steer their terminal, colour, columns."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

import click

# Controls (ESC too), what turns the direction of text or hides in it, line and paragraph
# separators, lone surrogates (bytes of a file name that are no UTF-8), language tags.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
# Lines that are wrapped narrower than this cannot be read.
_NARROWEST = 20
_COLORS = {"error": "red", "warning": "yellow", "info": "cyan", "good": "green"}


def printable(value: object) -> str:
    """Text on one line that shows what it holds and does nothing.

    Everything that comes from a disk, a claim or a command line goes through here before it is
    printed: a control character in a file name must not reach the terminal.
    """
    return _UNSAFE.sub(_escaped, str(value))


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


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
