"""SIGKILL at every file call, and at every file call of the recovery from what the first one left.

A state on the disk is what a successor finds: names, claims, and of each transcript what follows
its last turn that ended. Two that differ only in times, names of turns, ids and pids are one. A
recovery is killed before each of its calls; two deaths that leave the same, having told the same,
are judged once.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from turnlock.transcript.entries import TERMINAL

from .calls import Point, points
from .clients import Client
from .pool import Share, Work, spread
from .scenes import Ground, Seen, contents, copy_of, describe, kill, prepare, verdict
from .stories import LIVELY, STORIES, Story, cleans_up, one_turn, runs_doctor, story, untouched
from .tally import Tally

# What comes after a death, and may be killed as well.
RECOVERIES: dict[str, Callable[[Client], object]] = {
    "take": one_turn,
    "start-up clean-up": cleans_up,
    "doctor --fix": runs_doctor,
}
_RANDOM = r"[0-9a-f]{16}|\d{4}-\d\d-\d\dT[\d.-]+Z"
# Where others run beside it, one run may have fewer calls than another.
_RUNS_TO_THE_END = 3


class Left(NamedTuple):
    """A state that a death left behind, and by which death."""

    digest: str
    ground: Ground
    sessions: tuple[str, ...]
    story: str
    point: Point


class Again(NamedTuple):
    """A recovery that is to be killed at every ``stride``-th of its points."""

    left: Left
    recovery: str
    stride: int
    at: Path


def quick(work: Work) -> Work:
    return work._replace(stride=19, thin=11)


def sweep(work: Work) -> Tally:
    tally = Tally()
    stories = [one.name for one in STORIES if work.chooses(one.name)]
    states: dict[str, Left] = {}
    for found, left in spread(work, kill_all, work.shares(stories)):
        tally.add(found)
        states = left | states
    tally.counts["distinct states left on disk"] = len(states)
    again = [
        Again(left, name, work.stride, work.at / f"again-{number}-{name}")
        for number, left in enumerate(states.values())
        for name in RECOVERIES
        if (number + work.seed) % work.thin == 0
    ]
    for found in spread(work, kill_recovery, again):
        tally.add(found)
    return tally


def kill_all(share: Share) -> tuple[Tally, dict[str, Left]]:
    """Kill one story at its share of points; what that came to, and the states that it left."""
    one = story(share.story)
    ground = prepare(one, share.at / "ground")
    tally, left = Tally(), dict[str, Left]()
    ended = 0
    for number, point in enumerate(share.points()):
        seen = Seen(ground.events)
        root = copy_of(ground, share.at / str(number))

        def keep(root: str = root, seen: Seen = seen, point: Point = point) -> None:
            digest = digest_of(root)
            if digest not in left:
                kept = share.at / f"left-{len(left)}"
                shutil.copytree(root, kept, symlinks=True)
                left[digest] = Left(digest, seen.as_ground(kept), one.sessions, one.name, point)

        # Beside a live turn the same states are left as without one.
        goes_on = one.sessions != LIVELY
        reached = kill(one, root, point, seen, on_death=keep if goes_on else None)
        _judge(tally, one.sessions, root, seen, one.name, point)
        if reached is None:
            ended += 1
            if ended == (_RUNS_TO_THE_END if one.rival else 1):
                break
        else:
            tally.counts["kills"] += 1
            tally.fired[reached.call] += 1
    return tally, left


def kill_recovery(again: Again) -> Tally:
    """Kill the recovery from a state at its points."""
    left = again.left
    tally = Tally()
    one = Story(again.recovery, untouched, RECOVERIES[again.recovery], actor="second")
    judged: set[tuple[str, int]] = set()
    for point in points():
        if point.after or (point.number - 1) % again.stride:
            continue
        seen = Seen(left.ground.events)
        root = copy_of(left.ground, again.at / f"{point.number}-{point.after}")
        reached = kill(one, root, point, seen)
        known = content_of(root), len(seen.events)
        if known in judged:
            shutil.rmtree(root)
        else:
            judged.add(known)
            where = f"{left.story}, {left.point}, then {one.name}"
            _judge(tally, left.sessions, root, seen, where, point)
        if reached is None:
            return tally
        tally.counts["kills of a recovery"] += 1
        tally.fired[reached.call] += 1
    raise AssertionError("there is no end of points")


def _judge(
    tally: Tally, sessions: tuple[str, ...], root: str, seen: Seen, where: str, point: Point
) -> None:
    found = verdict(sessions, root, seen)
    tally.counts["recoveries judged"] += 1
    if found:
        tally.missed(f"{where}, {point}", describe(found))
    shutil.rmtree(root)


def content_of(root: str) -> str:
    """All of it but what is random: a recovery that changes nothing need not be judged again."""
    hidden = re.compile(rf'{_RANDOM}|"(monotonic|pid|starttime)": ?[\d.]+')
    content = {path.removeprefix(root): data for path, data in sorted(contents(root).items())}
    return hidden.sub("*", repr(content))


# States


def digest_of(root: str) -> str:
    """What a successor finds, as far as it makes a difference to it."""
    names: dict[str, str] = {}
    found = {
        re.sub(_RANDOM, "*", path.removeprefix(root)): _told(path, data, names)
        for path, data in sorted(contents(root).items())
    }
    directories = sorted(str(one.relative_to(root)) for one in Path(root).rglob("*/"))
    return json.dumps([found, directories])


def _told(path: str, data: bytes, names: dict[str, str]) -> list[Any]:
    if not path.endswith(".jsonl"):
        return _claim(data, names)
    *lines, torn = data.split(b"\n")
    entries = [_entry(line, names) for line in lines]
    ends = [number for number, entry in enumerate(entries) if entry[1] in TERMINAL]
    # What has ended has ended, however much it is.
    return [bool(ends), entries[ends[-1] + 1 :] if ends else entries, len(torn)]


def _claim(data: bytes, names: dict[str, str]) -> list[Any]:
    try:
        claim = json.loads(data)
    except ValueError:
        return [len(data)]
    owed = [(_named(turn["turnId"], names), turn["reason"]) for turn in claim.get("supersedes", ())]
    return [_named(claim.get("turnId"), names), owed]


def _entry(line: bytes, names: dict[str, str]) -> list[Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return [len(line), None]
    data = entry.get("data") or {}
    told = [entry["type"], entry.get("customType"), data.get("reason")]
    return [*told, _named(data.get("turnId"), names), "closes" in data]


def _named(turn_id: str | None, names: dict[str, str]) -> str | None:
    """Which turn it is, by the order in which they are met."""
    return None if turn_id is None else names.setdefault(turn_id, f"T{len(names) + 1}")
