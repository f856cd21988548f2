"""The second scene: processes are killed; start-up clean-up and doctor repair what they left."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, NamedTuple

from ..events import Event, LockReclaimed, TurnMarked
from ..store import open_store
from . import story
from .cast import Member, python_command, python_path
from .playing import DemoFailed, Playing
from .stage import Tone
from .story import BOB, CAROL, milliseconds

# They are killed long before.
_LONG_HOLD = 300.0
_HOLDERS = {"killed": ("holder", BOB), "killed-2": ("holder 2", CAROL)}


class Repaired(NamedTuple):
    stale: int
    removed: int
    markers: int


def play_crash(play: Playing) -> Repaired:
    actors = {name: actor for name, (actor, _) in _HOLDERS.items()}
    play.begin(story.CRASH, story.KILLED, actors)
    url = play.until("model-2", "listening").facts["url"]
    facts = {"state": str(play.setting.state), "url": url, "text": story.QUESTION}
    members = {
        name: play.start(name, "holder", session=session, max_hold=_LONG_HOLD, **facts)
        for name, (_, session) in _HOLDERS.items()
    }
    for name, (actor, session) in _HOLDERS.items():
        play.until(name, "asking")
        play.stands(actor, f"process {members[name].pid} holds {session}, and hangs")
    _kill(play, members, "killed")
    markers = _clean_up(play)
    play.stage.caption(story.CLEANED)
    _kill(play, members, "killed-2")
    found = _ask_doctor(play)
    fixed = _ask_doctor(play, "--fix")
    markers += sum(one["check"] == "stale-lock" and one["fixed"] for one in fixed["findings"])
    play.read()
    return Repaired(1 + found["summary"]["stale"], 1 + fixed["summary"]["removed"], markers)


def _kill(play: Playing, members: dict[str, Member], name: str) -> None:
    member, (actor, session) = members[name], _HOLDERS[name]
    play.read(1 / 2)
    member.kill()
    play.line(actor, f"process {member.pid} is killed while it holds {session}", Tone.BAD)
    record = play.lock_of(session, member.pid)
    if record is None or not record.stale:
        raise DemoFailed(f"the lock of {session} is not stale after the death of its holder")
    reasons = ", ".join(record.reasons)
    play.stands(actor, f"process {member.pid} is dead; its lock file stays ({reasons})", Tone.BAD)


def _clean_up(play: Playing) -> int:
    """What a service does at its start; the number of markers written."""
    events: list[Event] = []
    play.read(1 / 2)
    with open_store(play.setting.state) as starting:
        starting.subscribe(events.append)
        began = play.now()
        records = starting.clean_stale()
        took = play.now() - began
    removed = [one.session for one in records if one.removed]
    kept = [one.session for one in records if not one.removed]
    if (removed, kept) != ([BOB], [CAROL]):
        raise DemoFailed(f"clean-up removed the locks of {removed} and kept those of {kept}")
    for event in events:
        _tell_cleaned(play, event)
    play.line("clean-up", f"left the lock of {CAROL} alone: its holder lives")
    play.stands("clean-up", f"removed the lock of {BOB} in {milliseconds(took)}", Tone.GOOD)
    return sum(isinstance(event, TurnMarked) for event in events)


def _tell_cleaned(play: Playing, event: Event) -> None:
    if isinstance(event, LockReclaimed):
        text = f"removed the lock of {event.session}: process {event.pid}, {event.reason}"
        play.line("clean-up", text, Tone.GOOD)
    elif isinstance(event, TurnMarked):
        play.line("clean-up", f"wrote the error marker of its turn: {event.reason}", Tone.WARN)


def _ask_doctor(play: Playing, *fix: str) -> dict[str, Any]:
    """Run ``turnlock doctor``, and see that it says of the killed process's lock what it should."""
    command = " ".join(("turnlock doctor", *fix))
    play.stands("doctor", f"$ {command}")
    play.read(1 / 4)
    done = subprocess.run(
        python_command("doctor", *fix, "--state-dir", str(play.setting.state), "--json"),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": python_path()},
        start_new_session=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise DemoFailed(f"{command}: {done.stderr.decode(errors='replace').strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    lock = next(one for one in report["locks"] if one["session"] == CAROL)
    if lock["removed"] != bool(fix) or done.returncode != int(not fix):
        raise DemoFailed(f"{command} ended with {done.returncode} and said {lock}")
    what, tone = ("removed, its marker written", Tone.GOOD) if fix else ("stale", Tone.WARN)
    reasons = ", ".join(lock["reasons"])
    text = f"{command}: {CAROL}, process {lock['pid']} {lock['pid_status']}, {reasons}: {what}"
    play.line("doctor", f"{text} (exit code {done.returncode})", tone)
    play.stands("doctor", f"$ {command}  {what}, exit code {done.returncode}", tone)
    return report
