"""Transcripts: a header, whole lines, and every turn ended."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...errors import TranscriptError
from ...session import is_part
from ...transcript.entries import VERSION
from ...transcript.jsonl import pieces
from ...transcript.scan import Scan
from ...transcript.tail import TurnSeen
from ..endings import Reading, read_transcript
from ..examination import NOT_TRIED, Examination, Occupation
from ..findings import Finding, finding
from ..fragments import TornCopy
from ..scanning import damage_of, scan_transcript, what_readers_step_over
from ..settling import settle

# Of turns without terminal entry so many are named.
_NAMES_MAX = 5


class Transcript(NamedTuple):
    """``session`` is None when the file's name can be no part of a session key."""

    path: str
    session: str | None

    @property
    def lock(self) -> str:
        return f"{self.path}.lock"

    @property
    def name(self) -> str:
        """What to type for it."""
        return shlex.quote(self.session or self.path)


def check_transcripts(examination: Examination) -> Iterator[Finding]:
    for directory in examination.survey.directories:
        for base in directory.transcripts(examination.files):
            name = base.removesuffix(".jsonl")
            named = directory.agent is not None and is_part(name)
            key = f"{directory.agent}/{name}" if named else None
            yield from _check(examination, Transcript(f"{directory.path}/{base}", key))


def _check(examination: Examination, transcript: Transcript) -> Iterator[Finding]:
    """One transcript; what the storage refuses is a finding of that one alone."""
    path = transcript.path
    try:
        yield from _look(examination, transcript)
    except FileNotFoundError:
        return
    except TranscriptError:
        yield _no_file(path)
    except OSError as error:
        yield finding(
            "transcript-unreadable",
            path,
            f"it cannot be read: {error.strerror or error}",
            f"look at it: ls -l {shlex.quote(path)}; then again as its owner, or with sudo",
        )


def _look(examination: Examination, transcript: Transcript) -> Iterator[Finding]:
    path = transcript.path
    if not stat.S_ISREG(examination.files.stat_path(path).st_mode):
        yield _no_file(path)
        return
    reading = read_transcript(examination.files, path)
    if reading.tail.epoch:
        examination.ours.append((path, reading.mode))
    yield from _check_header(examination, transcript, reading)
    scan = scan_transcript(examination, path, reading.size) if examination.deep else None
    if scan is not None:
        yield from what_readers_step_over(examination, transcript.name, path, scan)
    damaged = reading.damaged if scan is None else damage_of(scan, reading)
    yield from _check_lines(examination, path, damaged)
    yield from _check_end(examination, transcript, reading, scan)


def _no_file(path: str) -> Finding:
    return finding(
        "transcript-object",
        path,
        "it is not a regular file, so no turn can begin",
        f"look at it: ls -ld {shlex.quote(path)}; then move it away",
    )


def _check_header(
    examination: Examination, transcript: Transcript, reading: Reading
) -> Iterator[Finding]:
    if reading.size == 0:
        message = "it has no bytes: a lock without turns made it, or its content was lost"
        hint = "if it had content, restore it from a backup; else the next turn begins it"
        yield finding("transcript-empty", transcript.path, message, hint)
        return
    if reading.first is None:
        return
    entry = next((inside for _, _, inside in pieces(reading.first) if inside), None)
    heal = examination.command(f"sessions heal {transcript.name}")
    if entry is None:
        message = "its first line, the header, is no JSON object; entries are still read"
        hint = f"give it a header, in a copy that takes its place: {heal}"
        yield finding("header-damaged", transcript.path, message, hint)
    elif entry.get("type") != "session":
        message = "its first line is no header; entries are still read"
        hint = f"give it a header, in a copy that takes its place: {heal}"
        yield finding("header-missing", transcript.path, message, hint)
    elif entry.get("version") != VERSION:
        message = f"its header is of version {entry.get('version')!r:.50}, and {VERSION} is known"
        hint = "if another program is to go on with it, see what that program says of the version"
        yield finding("header-version", transcript.path, message, hint)


def _check_lines(
    examination: Examination, path: str, damaged: Sequence[bytes]
) -> Iterator[Finding]:
    copy = TornCopy(examination.files, path, clock=examination.clock)
    lost = copy.missing(damaged) if damaged else []
    if lost:
        number = len(lost)
        what = "1 line is" if number == 1 else f"{number} lines are"
        message = f"{what} no JSON object (cut short, or damaged), and skipped by readers"
        yield _kept(examination, "damaged-lines", path, message, copy, lost)


def _check_end(
    examination: Examination, transcript: Transcript, reading: Reading, scan: Scan | None
) -> Iterator[Finding]:
    newest = reading.tail.open_turn
    unfinished = [*reading.tail.earlier, *([newest] if newest is not None else [])]
    if scan is not None:
        unfinished = scan.unfinished
    if not reading.fragment and not unfinished:
        return
    occupation = _occupation_since(examination, transcript, reading)
    if occupation is None:
        return
    if reading.fragment:
        yield from _torn(examination, transcript.path, reading)
    # With a stale lock the marker is owed by that lock's finding.
    if unfinished and occupation is Occupation.FREE:
        yield _unfinished(examination, transcript, unfinished, reading.size)


def _torn(examination: Examination, path: str, reading: Reading) -> Iterator[Finding]:
    copy = TornCopy(examination.files, path, clock=examination.clock)
    lost = copy.missing(reading.fragment)
    if not lost:
        return
    number = sum(map(len, reading.fragment))
    what = f"it ends in an entry that was cut short ({number} of its bytes)"
    if reading.nuls:
        what = "it ends in NULs, as a power loss leaves them, after what was cut short"
    yield _kept(examination, "torn-tail", path, f"{what}; it was never acknowledged", copy, lost)


def _occupation_since(
    examination: Examination, transcript: Transcript, reading: Reading
) -> Occupation | None:
    """Who could be writing; None when somebody may have written since it was read.

    Lock first, then size: whoever takes the session in between is seen by what it writes.
    """
    occupation = examination.occupation(transcript.lock)
    if occupation is Occupation.HELD:
        return None
    size = examination.files.stat_path(transcript.path).st_size
    return occupation if size == reading.size else None


def _kept(
    examination: Examination, check: str, path: str, message: str, copy: TornCopy, lost: list[bytes]
) -> Finding:
    hint = f"keep a copy of the bytes: {examination.command('doctor --fix')}"
    if not examination.fix:
        return finding(check, path, message, hint)
    why = _keep(examination, copy, lost)
    if why is not None:
        return finding(check, path, f"{message}; they could not be copied: {why}", hint)
    return finding(
        check,
        path,
        f"{message}; a copy is in {copy.path}",
        "nothing is left to do",
        fixed=True,
    )


def _keep(examination: Examination, copy: TornCopy, lost: list[bytes]) -> str | None:
    """Why they could not be kept; None when they are."""
    if examination.disk_hangs:
        return NOT_TRIED
    try:
        copy.keep(lost)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _unfinished(
    examination: Examination, transcript: Transcript, unfinished: Sequence[TurnSeen], size: int
) -> Finding:
    path = transcript.path
    names = ", ".join(turn.turn_id or "unknown" for turn in unfinished[:_NAMES_MAX])
    if len(unfinished) == 1:
        message = f"turn {names} has no terminal entry, and nobody holds the session"
    else:
        more = ", …" if len(unfinished) > _NAMES_MAX else ""
        message = f"{len(unfinished)} turns ({names}{more}) have no terminal entry each,"
        message += " and nobody holds the session"
    hint = f"write what is owed: {examination.command('doctor --fix')}"
    if examination.deep:
        hint = f"{hint} --deep"
    if not examination.fix:
        return finding("unfinished-turn", path, message, hint)
    why = settle(examination, path, unfinished, size)
    if why is not None:
        message = f"{message}; it could not be written: {why}"
        return finding("unfinished-turn", path, message, hint)
    message = f"{message}; each has its error marker now"
    return finding("unfinished-turn", path, message, "nothing is left to do", fixed=True)
