"""The play: its scenes in their order, and what was measured.

Every scene waits for reports of real processes and raises `DemoFailed` when one does not come or
says something else than what the scene is about: the demo shows what happens, or that it does not.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import seconds
from ..store import open_store
from . import story
from .cast import Cast
from .contrast import Wedged, play_contrast
from .crash import Repaired, play_crash
from .hang import Hung, play_hang
from .playing import Playing, Setting
from .stage import Stage
from .story import ALICE, BOB, CAROL, milliseconds


class Summary(NamedTuple):
    """What was measured in each scene."""

    hung: Hung
    repaired: Repaired
    wedged: Wedged

    def rows(self) -> list[tuple[str, str]]:
        """For people: what, and how much."""
        hung, repaired, wedged = self
        return [
            ("from the hold limit to the fence", milliseconds(hung.late)),
            ("from the limit to the waiter's turn", milliseconds(hung.handed_over)),
            ("the waiter waited", f"{seconds(hung.waited)}, and got its reply"),
            ("the zombie's late write", f"refused; the transcript stays at {hung.size} bytes"),
            (
                "after two times kill -9",
                f"{repaired.stale} stale locks, {repaired.removed} removed,"
                f" {repaired.markers} markers written",
            ),
            (
                "behind an ordinary lock file",
                f"the waiter gave up after {seconds(wedged.waited)};"
                f" {wedged.healthy} of {wedged.tries} looks said: healthy",
            ),
        ]


def play(setting: Setting, cast: Cast, stage: Stage) -> Summary:
    """Play all scenes. The cast may still run when it returns; who made it ends it.

    Raises `DemoFailed`.
    """
    with open_store(setting.state) as store:
        playing = Playing(setting, cast, stage, store)
        hung = play_hang(playing)
        repaired = play_crash(playing)
        _read_transcripts(playing)
        summary = Summary(hung, repaired, play_contrast(playing))
    stage.summary(summary.rows())
    return summary


def _read_transcripts(play: Playing) -> None:
    play.begin(story.READING, story.READ, {})
    for session in (ALICE, BOB, CAROL):
        play.stage.block(play.setting.texts.transcript(play.store, session))
    play.read(1.5)
