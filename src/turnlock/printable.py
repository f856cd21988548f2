"""Text for people and for logs that cannot steer a terminal, nor pass for what it is not."""

from __future__ import annotations

import logging
import re

# Controls (ESC too), what turns the direction of text or hides in it, line and paragraph
# separators, lone surrogates (bytes of a file name that are no UTF-8), language tags.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(value: object) -> str:
    """Text on one line that shows what it holds and does nothing.

    Everything that comes from a disk, a claim or a command line goes through here before it is
    printed: a control character in a file name must not reach the terminal.
    """
    return _UNSAFE.sub(_escaped, str(value))


class PrintableFormatter(logging.Formatter):
    """Printable lines, of which only the first of a record begins at the margin.

    A line break in a file's name thus begins no record of its own.
    """

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).rstrip("\n").split("\n")
        return "\n  ".join(map(printable, lines))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
