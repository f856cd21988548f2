"""Record ``turnlock demo`` as it runs in a terminal, into an animated SVG for the README.

    python scripts/record_demo.py [docs/demo.svg]

The demo runs in a real pseudo-terminal of 80 by 24; pyte keeps the screen. A picture is taken when
the output pauses. The SVG holds each different row once, and the pictures side by side as a strip
that moves in steps, with the times that were measured. Who prefers no motion sees the last picture.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import pyte

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 80, 24
QUIET = 0.03
# Pictures that follow sooner than this are one picture.
INTERVAL = 0.28
LAST_SHOWN = 8.0

CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN = 8.4, 18, 14, 14
BACKGROUND, FOREGROUND, DIM = "#1b1f27", "#d7dae0", "#7f8794"
COLORS = {
    "red": "#f4707a",
    "green": "#8fd18a",
    "brown": "#e8c06a",  # pyte's word for yellow
    "blue": "#6ea8e6",
    "cyan": "#66c9c9",
    "magenta": "#cf9be0",
}


class Run(NamedTuple):
    """Neighbouring characters that look alike."""

    column: int
    text: str
    color: str
    bold: bool
    italic: bool


Row = tuple[Run, ...]


class Picture(NamedTuple):
    """``at`` in seconds from the first one."""

    at: float
    rows: tuple[Row, ...]


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "demo.svg"
    pictures = list(record([sys.executable, "-m", "turnlock", "demo"]))
    svg = "\n".join(drawn(pictures)) + "\n"
    target.write_text(svg)
    print(f"{target}: {len(pictures)} pictures, {pictures[-1].at:.0f} s, {len(svg) // 1024} kB")


def record(command: Sequence[str]) -> Iterator[Picture]:
    """Run the command in a terminal; its pictures."""
    screen = Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    process, terminal = in_terminal(command)
    began = last = time.monotonic()
    shown: tuple[Row, ...] = ()
    while (chunk := read(terminal)) is not None:
        stream.feed(chunk)
        now = time.monotonic()
        rows = tuple(row(screen, line) for line in range(ROWS))
        if rows != shown and not chunk and now - last >= INTERVAL:
            yield Picture(now - began, rows)
            shown, last = rows, now
    yield Picture(time.monotonic() - began, tuple(row(screen, line) for line in range(ROWS)))
    if process.wait() != 0:
        raise SystemExit("\n".join(["the demo failed:", *screen.display]))


class Screen(pyte.Screen):
    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        """As pyte does; and dim, which it does not know, as a colour."""
        super().select_graphic_rendition(*attributes)
        if 2 in attributes:
            self.cursor.attrs = self.cursor.attrs._replace(fg="dim")


def in_terminal(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    variables = {"TERM": "xterm-256color", "COLORTERM": "", "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | variables
    )
    os.close(theirs)
    return process, ours


def read(terminal: int) -> bytes | None:
    """What came; nothing when the output pauses, None at its end."""
    if not select.select([terminal], [], [], QUIET)[0]:
        return b""
    try:
        return os.read(terminal, 65536) or None
    except OSError:  # what Linux says when nobody has the other side any more
        return None


def row(screen: Screen, line: int) -> Row:
    cells = [(column, screen.buffer[line][column]) for column in range(COLUMNS)]
    runs = []
    for look, group in groupby(cells, key=lambda cell: look_of(cell[1])):
        found = list(group)
        text = "".join(cell.data for _, cell in found)
        if text.strip():
            start = len(text) - len(text.lstrip())
            runs.append(Run(found[0][0] + start, text.strip(), *look))
    return tuple(runs)


def look_of(cell: Any) -> tuple[str, bool, bool]:
    color = DIM if cell.fg == "dim" else COLORS.get(cell.fg, FOREGROUND)
    return color, cell.bold, cell.italics


def drawn(pictures: Sequence[Picture]) -> Iterator[str]:
    width = COLUMNS * CELL_WIDTH + 2 * MARGIN
    height = ROWS * CELL_HEIGHT + 2 * MARGIN
    numbers = {one: number for number, one in enumerate({r: 0 for p in pictures for r in p.rows})}
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}"'
        f' width="{width:g}" height="{height}" role="img" xml:space="preserve">'
    )
    yield "<title>turnlock demo, recorded in a terminal</title>"
    yield from style(pictures, width)
    yield "<defs>"
    for one, number in numbers.items():
        if one:
            yield f'<g id="r{number}">{"".join(map(text_of, one))}</g>'
    yield "</defs>"
    yield f'<rect width="{width:g}" height="{height}" rx="8" fill="{BACKGROUND}"/>'
    yield f'<svg x="{MARGIN}" y="{MARGIN}" width="{width - 2 * MARGIN:g}"><g class="s">'
    for index, picture in enumerate(pictures):
        uses = "".join(
            f'<use href="#r{numbers[one]}" y="{line * CELL_HEIGHT}"/>'
            for line, one in enumerate(picture.rows)
            if one
        )
        yield f'<g transform="translate({index * width:g})">{uses}</g>'
    yield "</g></svg></svg>"


def style(pictures: Sequence[Picture], width: float) -> Iterator[str]:
    whole = pictures[-1].at + LAST_SHOWN
    yield "<style>"
    yield (
        f"text{{font:{FONT_SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',"
        "monospace;white-space:pre}.b{font-weight:bold}.i{font-style:italic}"
    )
    yield f".s{{animation:s {whole:.2f}s steps(1,end) infinite}}"
    stops = "".join(
        f"{percent:.2f}%{{transform:translateX({-index * width:g}px)}}"
        for index, percent in enumerate(100 * picture.at / whole for picture in pictures)
    ).replace(f"{100 * pictures[0].at / whole:.2f}%", "0%", 1)
    yield f"@keyframes s{{{stops}}}"
    last = -(len(pictures) - 1) * width
    yield (
        "@media(prefers-reduced-motion:reduce)"
        f"{{.s{{animation:none;transform:translateX({last:g}px)}}}}"
    )
    yield "</style>"


def text_of(run: Run) -> str:
    looks = " ".join(name for name, on in (("b", run.bold), ("i", run.italic)) if on)
    named = f' class="{looks}"' if looks else ""
    # The length keeps columns in line whatever font there is.
    return (
        f'<text x="{run.column * CELL_WIDTH:.1f}" y="{FONT_SIZE}" fill="{run.color}"{named}'
        f' textLength="{len(run.text) * CELL_WIDTH:.1f}" lengthAdjust="spacingAndGlyphs">'
        f"{escape(run.text)}</text>"
    )


if __name__ == "__main__":
    main()
