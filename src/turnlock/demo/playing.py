"""What all scenes do: start and kill processes, wait for what they report, tell the stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..backends import LockRecord
from ..clock import Clock
from ..errors import TurnlockError
from ..store import Store
from .cast import ENDED, Cast, Member
from .reports import Report
from .stage import Gauge, Scene, Stage, Tone
from .story import Pace, sentence

_TICK = 0.1
# A process that says nothing for so long hangs in a way that the demo is not about.
_PATIENCE = 20.0


class DemoFailed(TurnlockError):
    """The demo did not go as it always does. Attribute ``why``."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"the demo failed: {why}")


class Texts(NamedTuple):
    """How things are put for people. ``clean`` makes any text safe to print; ``transcript`` makes
    lines of a session as read from a store."""

    clean: Callable[[object], str]
    transcript: Callable[[Store, str], list[str]]


class Setting(NamedTuple):
    """``root`` is for the files of the contrast, ``state`` the state directory."""

    root: Path
    state: Path
    pace: Pace
    texts: Texts
    clock: Clock


class Playing:
    """The running play. ``heard`` has the latest report of each kind, by process and name."""

    def __init__(self, setting: Setting, cast: Cast, stage: Stage, store: Store) -> None:
        self.setting = setting
        self.pace = setting.pace
        self.cast = cast
        self.stage = stage
        self.store = store
        self.heard: dict[tuple[str, str], Report] = {}
        self._began = self.now()
        self._actors: dict[str, str] = {}
        self._read_by = 0.0
        self._look: Callable[[], None] = lambda: None
        self._told_after: str | None = None
        self._held_back: list[Report] = []

    def now(self) -> float:
        return self.setting.clock.monotonic()

    def begin(self, scene: Scene, caption: str, actors: dict[str, str]) -> None:
        """``actors``: the row of each process; what others report is not told."""
        self._actors = actors
        self._read_by = self._began + scene.read_by
        self.stage.scene(scene)
        self.stage.caption(caption)

    # Processes

    def start(self, name: str, role: str, **facts: Any) -> Member:
        member = self.cast.start(name, role, **facts)
        self.line(self._actors[name], f"process {member.pid} starts", Tone.FAINT)
        return member

    def lock_of(self, session: str, pid: int) -> LockRecord | None:
        """The session's lock as the store lists it, if that process holds it."""
        locks = self.store.locks()
        return next((one for one in locks if (one.session, one.pid) == (session, pid)), None)

    # Reports

    def until(self, name: str, what: str) -> Report:
        """Wait for a report; the stage goes on meanwhile. Raises `DemoFailed`."""
        deadline = self.now() + _PATIENCE
        while (name, what) not in self.heard:
            left = deadline - self.now()
            if left <= 0 or (name, ENDED) in self.heard:
                how = "did not come in time" if left <= 0 else "ended too early"
                words = self.cast.member(name).last_words()
                raise DemoFailed(f"{name} {how}, before '{what}'" + (f": {words}" if words else ""))
            self._listen(min(left, _TICK))
        return self.heard[name, what]

    def pause(self, duration: float) -> None:
        until = self.now() + duration
        while (left := until - self.now()) > 0:
            self._listen(min(left, _TICK))

    def read(self, share: float = 1.0) -> None:
        """A pause for the audience, of so much of the pace's; shorter in a scene that is late."""
        self.pause(min(self.pace.read * share, self._read_by - self.now()))

    @contextmanager
    def looking(self, look: Callable[[], None]) -> Iterator[None]:
        """Look at something with every tick, while the block runs."""
        self._look = look
        try:
            yield
        finally:
            self._look = lambda: None

    def tell_after(self, what: str) -> None:
        """Tell nothing more until that report is told, by `tell_first`."""
        self._told_after = what

    def tell_first(self, report: Report) -> None:
        """Tell a report whose moment came before those that were held back for it."""
        self._told_after = None
        self._tell(report)
        held_back, self._held_back = self._held_back, []
        for later in sorted(held_back, key=lambda one: one.at):
            self._tell(later)

    def _listen(self, timeout: float) -> None:
        report = self.cast.next(timeout)
        if report is not None:
            self._hear(report)
        self._look()

    def _hear(self, report: Report) -> None:
        self.heard[report.role, report.what] = report
        if report.what == "written":
            raise DemoFailed("a holder that was fenced wrote its transcript")
        if self._told_after is None:
            self._tell(report)
        elif report.what != self._told_after:
            self._held_back.append(report)

    def _tell(self, report: Report) -> None:
        actor = self._actors.get(report.role)
        told = sentence(report, actor) if actor is not None else None
        if told is not None:
            self.line(told.actor, told.text, told.tone, at=report.at)

    # The stage

    def line(
        self, actor: str, text: str, tone: Tone = Tone.PLAIN, *, at: float | None = None
    ) -> None:
        elapsed = (self.now() if at is None else at) - self._began
        self.stage.line(elapsed, actor, self.setting.texts.clean(text), tone)

    def stands(
        self, actor: str, text: str, tone: Tone = Tone.PLAIN, gauge: Gauge | None = None
    ) -> None:
        elapsed = self.now() - self._began
        self.stage.stands(elapsed, actor, self.setting.texts.clean(text), tone, gauge)
