"""The story: scenes, paces, and the sentence for each report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import seconds
from .reports import Report
from .stage import Scene, Tone

ALICE = "main/alice"
BOB = "main/bob"
CAROL = "main/carol"
QUESTION = "Which trains go to Oslo tonight?"
FOLLOW_UP = "Hello, are you still there?"


class Pace(NamedTuple):
    """Seconds. ``max_hold``: the hold limit of the hung turn. ``arrive``: when the waiter comes.
    ``zombie``: how long the fenced holder hangs on. ``naive_wait``: the wait limit at the ordinary
    lock file. ``read``: for the audience, at the end of a scene, unless the scene is late: the
    whole is to end within 40 seconds also where processes start slowly."""

    max_hold: float
    arrive: float
    zombie: float
    naive_wait: float
    read: float


FULL = Pace(max_hold=5.0, arrive=1.5, zombie=2.0, naive_wait=8.0, read=2.0)
FAST = Pace(max_hold=4.0, arrive=0.3, zombie=0.2, naive_wait=3.0, read=0.0)

HANG = Scene(
    "1/4",
    "A model call hangs",
    "layer 1: watchdog, layer 4: error marker",
    ("model", "holder", "watchdog", "waiter"),
    read_by=11.0,
)
CRASH = Scene(
    "2/4",
    "Two processes are killed",
    "layer 2: start-up clean-up, layer 3: doctor",
    ("holder", "clean-up", "holder 2", "doctor"),
    read_by=19.0,
)
READING = Scene("3/4", "What the transcripts say", "as read back from the files", (), read_by=22.0)
CONTRAST = Scene(
    "4/4",
    "The same hang, with an ordinary lock file",
    "no layer at all",
    ("model", "holder", "watchdog", "waiter", "checks"),
    read_by=36.0,
)

HANGS = "A turn holds its session's lock while it asks a model that will never answer."
REVOKED = "At its limit the holder was fenced, the turn marked, and the waiter went on."
WAKES = "The hung call ends at last. Its holder was fenced, so its write is refused."
KILLED = "kill -9 runs no 'finally': each process leaves its lock file behind."
CLEANED = "The next start cleans up; doctor finds the other one, and --fix repairs it."
READ = "Every turn has its end, and every failed one says why (!!)."
NAIVE = "The holder hangs just so, but now nothing watches how long it holds."
WEDGED = "All looks healthy, and the session is dead until somebody restarts it all."


class Sentence(NamedTuple):
    actor: str
    text: str
    tone: Tone = Tone.PLAIN


Facts = Mapping[str, Any]


def _revoked(facts: Facts) -> str:
    where = os.path.basename(facts["stack"][-1]) if facts["stack"] else "an unknown place"
    return (
        f"{facts['reason']} passed: fenced the holder {milliseconds(facts['late'])} after the"
        f" limit; it hangs in {where}"
    )


def _started(facts: Facts) -> str:
    if facts["waited"] < 0.1:
        return f"took {facts['session']}"
    return f"has {facts['session']} after waiting {seconds(facts['waited'])}"


# By what is reported: the one who did it (None: the process itself) and the sentence.
_SENTENCES: dict[str, tuple[str | None, Callable[[Facts], str], Tone]] = {
    "listening": (None, lambda facts: f"a model server at {facts['url']}", Tone.FAINT),
    "request": (None, lambda facts: f"took request {facts['number']}", Tone.PLAIN),
    "TurnStarted": (None, _started, Tone.GOOD),
    "asking": (None, lambda facts: "asks the model, without a time-out", Tone.PLAIN),
    "asks": (None, lambda facts: "brings the next message of the same session", Tone.PLAIN),
    "TurnRevoked": ("watchdog", _revoked, Tone.WARN),
    "TurnMarked": (
        "watchdog",
        lambda facts: f"wrote the error marker: {facts['reason']}",
        Tone.WARN,
    ),
    "answered": (None, lambda facts: f"got its reply: {facts['reply']!r}", Tone.GOOD),
    "woke": (None, lambda facts: f"the call ends: {facts['error']}", Tone.PLAIN),
    "refused": (None, lambda facts: f"its write is refused: {facts['error']}", Tone.BAD),
    "written": (None, lambda facts: "wrote its late reply", Tone.PLAIN),
    "gave-up": (
        None,
        lambda facts: (
            f"gave up after {seconds(facts['waited'])}: {facts['healthy']} of {facts['tries']}"
            " looks found the holder healthy"
        ),
        Tone.BAD,
    ),
}


def sentence(report: Report, actor: str) -> Sentence | None:
    """The sentence for what a process reported; None for what needs none."""
    if report.what not in _SENTENCES:
        return None
    who, words, tone = _SENTENCES[report.what]
    return Sentence(who or actor, words(report.facts), tone)


def milliseconds(value: float) -> str:
    return f"{max(0.0, value) * 1000:.1f} ms"
