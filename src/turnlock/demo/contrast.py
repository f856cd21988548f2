"""The last scene: the same hang behind an ordinary lock file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from ..errors import seconds
from . import story
from .cast import ENDED, Member
from .playing import DemoFailed, Playing
from .reports import Report
from .stage import Tone


class Wedged(NamedTuple):
    """``waited`` in seconds; how often the waiter looked, and how often all seemed well."""

    waited: float
    tries: int
    healthy: int


def play_contrast(play: Playing) -> Wedged:
    actors = {"naive-holder": "holder", "naive-waiter": "waiter"}
    play.begin(story.CONTRAST, story.NAIVE, actors)
    lock, transcript = play.setting.root / "session.lock", play.setting.root / "session.jsonl"
    url = play.until("model-2", "listening").facts["url"]
    play.stands("watchdog", "there is none", Tone.FAINT)
    holder = play.start(
        "naive-holder",
        "naive-holder",
        lock=str(lock),
        transcript=str(transcript),
        url=url,
        text=story.QUESTION,
    )
    began = play.until("naive-holder", "asking").at
    play.line("watchdog", "there is none", Tone.FAINT)
    with play.looking(lambda: _look(play, holder, began)):
        play.pause(play.pace.arrive)
        play.start("naive-waiter", "naive-waiter", lock=str(lock), wait=play.pace.naive_wait)
        play.line("checks", _checks(play.until("naive-waiter", "looked")), Tone.GOOD)
        gave_up = play.until("naive-waiter", "gave-up").facts
        play.until("naive-waiter", ENDED)
    play.stage.caption(story.WEDGED)
    play.stands("waiter", f"gave up after {seconds(gave_up['waited'])}", Tone.BAD)
    _tell_wedged(play, lock, transcript, holder, began)
    play.read()
    return Wedged(gave_up["waited"], gave_up["tries"], gave_up["healthy"])


def _look(play: Playing, holder: Member, began: float) -> None:
    play.stands("model", f"took the request; no answer for {seconds(play.now() - began)}")
    play.stands("holder", f"process {holder.pid} hangs in its call, holding the lock file")
    looked = play.heard.get(("naive-waiter", "looked"))
    if looked is not None:
        play.stands("waiter", f"waits for {seconds(looked.facts['waited'])}")
        play.stands("checks", _checks(looked), Tone.GOOD)


def _tell_wedged(play: Playing, lock: Path, transcript: Path, holder: Member, began: float) -> None:
    if json.loads(lock.read_bytes())["pid"] != holder.pid:
        raise DemoFailed(f"{lock} is not its first holder's any more")
    held = seconds(play.now() - began)
    text = f"process {holder.pid} still holds the lock file, for {held} so far"
    play.line("holder", text, Tone.BAD)
    lines = transcript.read_text().splitlines()
    said = ", ".join(f"{one['role']}: {one['content']!r}" for one in map(json.loads, lines))
    text = f"its transcript has {len(lines)} line and no word of the hang: {said}"
    play.line("holder", text)


def _checks(looked: Report) -> str:
    facts = looked.facts
    alive = "alive" if facts["pid_alive"] else "gone"
    return (
        f"process {alive}, heart-beat {facts['heartbeat']:.1f} s ago, health check"
        f" {facts['health']}: {'healthy' if facts['healthy'] else 'not healthy'}"
    )
