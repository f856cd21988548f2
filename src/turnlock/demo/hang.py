"""The first scene: a call hangs; watchdog and error marker let the session go on."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import seconds
from . import story
from .cast import ENDED, Member
from .playing import DemoFailed, Playing
from .stage import Gauge, Tone
from .story import ALICE, milliseconds

_WAIT = 30.0


class Hung(NamedTuple):
    """Measured, in seconds. ``late``: from the hold limit to the fence; ``handed_over``: from the
    limit to the waiter's turn. ``size``: the transcript's before and after the zombie's write."""

    late: float
    handed_over: float
    waited: float
    size: int


def play_hang(play: Playing) -> Hung:
    pace, state = play.pace, str(play.setting.state)
    actors = {"model": "model", "holder": "holder", "waiter": "waiter"}
    play.begin(story.HANG, story.HANGS, actors)
    model = play.cast.start("model", "model")
    play.cast.start("model-2", "model")  # for the later scenes; it starts while this one is shown
    url = play.until("model", "listening").facts["url"]
    play.stands("model", f"process {model.pid} listens")
    facts = {"state": state, "session": ALICE, "url": url}
    holder = play.start("holder", "holder", text=story.QUESTION, max_hold=pace.max_hold, **facts)
    taken = play.until("holder", "TurnStarted")
    with play.looking(lambda: _look(play, holder)):
        play.until("holder", "asking")
        play.until("model", "request")
        play.pause(pace.arrive)
        play.start("waiter", "waiter", text=story.FOLLOW_UP, wait=_WAIT, **facts)
        play.until("waiter", "asks")
        deadline = taken.at + pace.max_hold
        late = _see_revocation(play, deadline)
        started = play.until("waiter", "TurnStarted")
        play.until("waiter", "answered")
        play.until("waiter", ENDED)
        play.pause(pace.zombie)
    size = _wake(play, model)
    return Hung(late, started.at - deadline, started.facts["waited"], size)


def _see_revocation(play: Playing, deadline: float) -> float:
    """How late the fence was. Its event comes when all that follows from it is done as well."""
    play.tell_after("TurnRevoked")
    revoked = play.until("holder", "TurnRevoked")
    late = float(revoked.facts["late"])
    play.tell_first(revoked._replace(at=deadline + late))
    play.stage.caption(story.REVOKED)
    return late


def _wake(play: Playing, model: Member) -> int:
    """The zombie's write; the size of the transcript that it did not reach."""
    play.stage.caption(story.WAKES)
    transcript = play.setting.state / "agents" / "main" / "sessions" / "alice.jsonl"
    size = transcript.stat().st_size
    play.line("model", f"process {model.pid} is ended, so the hung call breaks off")
    model.kill()
    play.stands("model", f"process {model.pid} was ended: its connections break", Tone.FAINT)
    refused = play.until("holder", "refused")
    play.stands("holder", f"its write was refused ({refused.facts['reason']})", Tone.BAD)
    if transcript.stat().st_size != size:
        raise DemoFailed(f"{transcript} changed after its holder was fenced")
    play.line("holder", f"the transcript is as it was: {size} bytes")
    play.read()
    return size


def _look(play: Playing, holder: Member) -> None:
    now = play.now()
    asking = play.heard.get(("holder", "asking"))
    if asking is not None and ("model", "request") in play.heard:
        play.stands("model", f"took the request; no answer for {seconds(now - asking.at)}")
    revoked = play.heard.get(("holder", "TurnRevoked"))
    if revoked is not None:
        late = milliseconds(revoked.facts["late"])
        play.stands("watchdog", f"fenced it {late} after the limit", Tone.WARN)
        play.stands("holder", f"process {holder.pid} is a zombie: it hangs on, fenced", Tone.BAD)
    elif asking is not None:
        play.stands("holder", f"process {holder.pid} hangs in its call, holding {ALICE}")
    _count_down(play, holder)
    _look_at_waiter(play, now)


def _count_down(play: Playing, holder: Member) -> None:
    record = play.lock_of(ALICE, holder.pid)
    if record is None or record.age_seconds is None or not record.max_hold_seconds:
        return
    age, limit = record.age_seconds, record.max_hold_seconds
    left = max(0.0, limit - age)
    tone = Tone.WARN if left < limit / 2 else Tone.PLAIN
    text = f"revokes it in {left:.1f} s (held {age:.1f} of {limit:.1f} s)"
    play.stands("watchdog", text, tone, Gauge(age, limit))


def _look_at_waiter(play: Playing, now: float) -> None:
    asks, started = play.heard.get(("waiter", "asks")), play.heard.get(("waiter", "TurnStarted"))
    if asks is None:
        return
    pid = play.cast.member("waiter").pid
    if started is not None:
        waited = seconds(started.facts["waited"])
        play.stands("waiter", f"process {pid} got the session after {waited}", Tone.GOOD)
    else:
        play.stands("waiter", f"process {pid} waits for {seconds(now - asks.at)}")
