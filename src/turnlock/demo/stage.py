"""Where the play is shown: the protocol, and the plain stage that prints line by line."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

_ACTOR_LENGTH = 9


class Tone(enum.Enum):
    PLAIN = enum.auto()
    GOOD = enum.auto()
    WARN = enum.auto()
    BAD = enum.auto()
    FAINT = enum.auto()


class Scene(NamedTuple):
    """``actors`` each have a row that says how they stand.

    ``read_by``: seconds since the demo began after which the scene leaves no more time to read.
    """

    number: str
    title: str
    subtitle: str
    actors: tuple[str, ...]
    read_by: float


class Gauge(NamedTuple):
    """Seconds gone of a limit."""

    gone: float
    limit: float


class Stage(Protocol):
    """All texts are safe to print. ``elapsed`` is seconds since the demo began."""

    def scene(self, scene: Scene) -> None:
        """A new scene; what the last one showed stays above."""
        ...

    def caption(self, text: str) -> None:
        """What the scene is about, from here on."""
        ...

    def line(self, elapsed: float, actor: str, text: str, tone: Tone = Tone.PLAIN) -> None:
        """Something happened."""
        ...

    def stands(
        self, elapsed: float, actor: str, text: str, tone: Tone, gauge: Gauge | None = None
    ) -> None:
        """How an actor stands at this moment."""
        ...

    def block(self, lines: Sequence[str]) -> None:
        """Text of several lines, as it is; may have colours of its own."""
        ...

    def summary(self, rows: Sequence[tuple[str, str]]) -> None:
        """What was shown, and what was measured."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class PlainStage:
    """A line for everything that happens, without escapes: for pipes, logs and screen readers."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._seconds: dict[str, int] = {}

    def scene(self, scene: Scene) -> None:
        self._seconds.clear()
        self._say("")
        self._say(f"{scene.number}  {scene.title}  ({scene.subtitle})")

    def caption(self, text: str) -> None:
        self._say(f"     {text}")

    def line(self, elapsed: float, actor: str, text: str, tone: Tone = Tone.PLAIN) -> None:
        self._say(f"{elapsed:6.2f} s  {actor:<{_ACTOR_LENGTH}}  {text}")

    def stands(
        self, elapsed: float, actor: str, text: str, tone: Tone, gauge: Gauge | None = None
    ) -> None:
        # A countdown is a line for every second; everything else was said when it happened.
        if gauge is not None and int(gauge.gone) > self._seconds.get(actor, 0):
            self._seconds[actor] = int(gauge.gone)
            self.line(elapsed, actor, text, tone)

    def block(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._say(line)

    def summary(self, rows: Sequence[tuple[str, str]]) -> None:
        self._say("")
        self._say("What was shown, and measured here")
        for what, value in rows:
            self._say(f"  {what}: {value}")

    def close(self) -> None:
        pass
