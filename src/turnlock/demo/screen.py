"""The stage on a terminal, drawn with rich: a row per actor, a countdown, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .stage import Gauge, Scene, Tone

_STYLES = {
    Tone.PLAIN: "default",
    Tone.GOOD: "green",
    Tone.WARN: "yellow",
    Tone.BAD: "bold red",
    Tone.FAINT: "dim",
}
_BAR_WIDTH = 20
# Below this a bar leaves too little room for the words beside it.
_WIDTH_WITH_BAR = 64
# A frame may not fill the terminal: the cursor stands in the line below it.
_ROOM_BELOW = 1
_LINES_MIN = 3


class _Standing(NamedTuple):
    text: str
    tone: Tone
    gauge: Gauge | None


class _Happened(NamedTuple):
    elapsed: float
    actor: str
    text: str
    tone: Tone


class ScreenStage:
    """Draws a scene in place; its last picture stays above the next scene."""

    def __init__(self, *, no_color: bool = False) -> None:
        # None leaves it to NO_COLOR.
        self._console = Console(no_color=True if no_color else None, highlight=False)
        self._live: Live | None = None

    def scene(self, scene: Scene) -> None:
        self.close()
        self._scene = scene
        self._caption = ""
        self._standings: dict[str, _Standing] = {}
        self._lines: list[_Happened] = []
        self._console.print()
        if scene.actors:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
            self._draw()
        else:
            self._console.print(self._title())

    def caption(self, text: str) -> None:
        self._caption = text
        if self._live is None:
            self._console.print(Text(text, "italic"))
        self._draw()

    def line(self, elapsed: float, actor: str, text: str, tone: Tone = Tone.PLAIN) -> None:
        self._lines.append(_Happened(elapsed, actor, text, tone))
        self._draw()

    def stands(
        self, elapsed: float, actor: str, text: str, tone: Tone, gauge: Gauge | None = None
    ) -> None:
        self._standings[actor] = _Standing(text, tone, gauge)
        self._draw()

    def block(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._console.print(Text.from_ansi(line))

    def summary(self, rows: Sequence[tuple[str, str]]) -> None:
        self.close()
        table = Table.grid(padding=(0, 2))
        table.add_column(ratio=1)
        table.add_column(ratio=1)
        for what, value in rows:
            table.add_row(Text(what), Text(value, "bold"))
        self._console.print()
        title = "What was shown, and measured here"
        self._console.print(Panel(table, title=title, title_align="left", box=ROUNDED))

    def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        """The scene, with as many of its latest lines as the terminal has room for."""
        fixed = Group(self._title(), Text(self._caption, "italic"), self._panel())
        room = self._console.height - _ROOM_BELOW - self._rows_of(fixed)
        shown = self._lines[-max(room, _LINES_MIN) :]
        while len(shown) > _LINES_MIN and self._rows_of(self._happened(shown)) > room:
            shown = shown[1:]
        return Group(fixed, self._happened(shown))

    def _rows_of(self, renderable: RenderableType) -> int:
        return len(self._console.render_lines(renderable, pad=False))

    def _title(self) -> Text:
        scene = self._scene
        return Text.assemble(
            (f"{scene.number}  ", "dim"), (scene.title, "bold"), (f"  {scene.subtitle}", "cyan")
        )

    def _panel(self) -> Panel:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, style="bold")
        table.add_column(ratio=1)
        for actor in self._scene.actors:
            table.add_row(actor, self._standing(actor))
        return Panel(table, box=ROUNDED, border_style="blue")

    def _standing(self, actor: str) -> RenderableType:
        standing = self._standings.get(actor)
        if standing is None:
            return Text("…" if self._console.encoding.startswith("utf") else "...", "dim")
        text = Text(standing.text, _STYLES[standing.tone])
        if standing.gauge is None or self._console.width < _WIDTH_WITH_BAR:
            return text
        beside = Table.grid(padding=(0, 1))
        gone, limit = standing.gauge
        bar = ProgressBar(
            limit,
            min(gone, limit),
            width=_BAR_WIDTH,
            complete_style="yellow",
            finished_style="red",
        )
        beside.add_row(bar, text)
        return beside

    def _happened(self, lines: Sequence[_Happened]) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", no_wrap=True, style="dim")
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for one in lines:
            text = Text(one.text, _STYLES[one.tone])
            table.add_row(f"{one.elapsed:.1f} s", one.actor, text)
        return table
