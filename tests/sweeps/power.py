"""The power is cut at every moment of a story, and a successor boots with any disk that is left.

A story is recorded once; its trace is replayed on a model of the disk (`disk`), and each distinct
disk becomes a real directory, in which the real code recovers. What was acknowledged before the cut
has to be there. A second cut, during the recovery from such a disk, is tried on some.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.oracle import PowerCut, Read
from turnlock.backends.files.process import LinuxProcesses

from .actors import Wire, actor
from .calls import watch
from .clients import Client, now
from .disk import Directory, Disk, Image, Name, Recorder, Synced, Trace, Write
from .pool import Work, spread
from .scenes import Ground, Seen, copy_of, describe, prepare, quiet, verdict
from .stories import STORIES, Story, one_turn, story, untouched
from .tally import Tally

_OPERATIONS = (Write, Name, Directory, Synced)
# Long enough for a claim that was torn to be called stale: the machine had to come up again.
_DOWN_SECONDS = 3600.0
# Every so many disks the recovery from one is cut again, and every so many of those are tried.
_AGAIN = 40
_OF_THE_SECOND = 8


def quick(work: Work) -> Work:
    return work._replace(stride=31)


class Share(NamedTuple):
    """Of one story's disks those whose number leaves ``rest`` by ``modulus``."""

    story: str
    rest: int
    modulus: int
    again: int
    at: Path


def sweep(work: Work) -> Tally:
    tally = Tally()
    names = [
        one.name
        for one in STORIES
        if one.holder is None and one.rival is None and work.chooses(one.name)
    ]
    shares = [
        Share(share.story, share.rest, share.modulus, _AGAIN * work.thin, share.at)
        for share in work.shares(names)
    ]
    for found in spread(work, cut_all, shares):
        tally.add(found)
    return tally


def cut_all(share: Share) -> Tally:
    tally = Tally()
    one = story(share.story)
    ground = prepare(one, share.at / "ground")
    root = copy_of(ground, share.at / "recorded")
    recorded = record(one, root)
    for number, cut in enumerate(cuts(recorded, root)):
        if number % share.modulus != share.rest:
            continue
        seen = Seen([*ground.events, *cut.events])
        seen.died(one.actor)
        at = share.at / str(number)
        cut.image.write_to(at, instead_of=root, modified=time.time() - _DOWN_SECONDS)
        if number // share.modulus % share.again == share.again // 8:
            _cut_again(tally, one, Ground(at, tuple(seen.events)), share.at / f"{number}-again")
        _judge(tally, one, at, seen, f"{one.name}, {cut.where}")
        tally.counts["distinct disks after a power cut"] += 1
        tally.fired[cut.call] += 1
    return tally


class Cut(NamedTuple):
    """The disk after a cut, and what was told before it. ``call``: the last operation."""

    where: str
    call: str
    image: Image
    events: list[Any]


def record(one: Story, root: str, *, name: str | None = None) -> tuple[Image, Trace]:
    """The trace of a story, and the disk that it began with."""
    found: list[Any] = []

    def work(wire: Wire) -> None:
        quiet()
        if name is not None:
            reboot()
        recorder = Recorder(root)
        watch(recorder)
        client = Client(one.open(root), recorder.tell, one.actor, prefix=f"{one.actor}-")
        one.act(client)
        wire.tell(Recorded(recorder.trace))

    start = Image.of(root)
    with actor("recorded", work) as recording:
        recording.ended(found.append)
    traces = [told.trace for told in found if isinstance(told, Recorded)]
    assert traces, f"{one.name} was not recorded: {found}"
    return start, traces[0]


class Recorded(NamedTuple):
    trace: Trace


def cuts(recorded: tuple[Image, Trace], root: str) -> Iterator[Cut]:
    """Every distinct disk, at every moment of a trace."""
    start, trace = recorded
    disk = Disk(start)
    told: list[Any] = []
    known: set[str] = set()
    for step, one in enumerate(trace):
        if isinstance(one, _OPERATIONS):
            disk.do(one)
        elif not isinstance(one, Read):
            # A reader may have seen what was not durable, and is gone with the power.
            told = [*told, one]
        for what, image in disk.images():
            key = _key(image, len(told), root)
            if key not in known:
                known.add(key)
                where = f"cut after step {step + 1}, {what}"
                yield Cut(where, type(one).__name__.lower(), image.copy(), told)


def _key(image: Image, told: int, root: str) -> str:
    digest = hashlib.sha256(str(told).encode())
    for path, data in sorted(image.reachable().items()):
        digest.update(f"{path.removeprefix(root)}\0{data!r}\n".encode())
    return digest.hexdigest()


def reboot() -> None:
    """In a forked process: this host has another boot id than the one that wrote what is there."""
    LinuxProcesses.boot_id = "another-boot"  # type: ignore[assignment]


def _judge(tally: Tally, one: Story, at: Path, seen: Seen, where: str) -> None:
    seen.note(PowerCut(now()))
    found = verdict(one.sessions, str(at), seen, durable=True, first=reboot)
    if found:
        tally.missed(where, describe(found))
    shutil.rmtree(at)


def _cut_again(tally: Tally, one: Story, ground: Ground, at: Path) -> None:
    """Cut the power once more while somebody recovers from this disk."""
    root = copy_of(ground, at)
    again = Story("again", untouched, one_turn, actor="second")
    recorded = record(again, root, name="second")
    for number, cut in enumerate(cuts(recorded, root)):
        if number % _OF_THE_SECOND:
            continue
        seen = Seen([*ground.events, *cut.events])
        seen.died("second")
        second = at.with_name(f"{at.name}-{number}")
        cut.image.write_to(second, instead_of=root, modified=time.time() - _DOWN_SECONDS)
        _judge(tally, one, second, seen, f"{one.name}, cut twice, then {cut.where}")
        tally.counts["disks after a second cut"] += 1
    shutil.rmtree(root)
