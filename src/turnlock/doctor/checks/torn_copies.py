"""What repairs have kept: bytes that were cut short, and the originals of healed transcripts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ...backends.files.inspect import named_file
from ...backends.files.replacing import is_original, transcript_of
from ..examination import Examination
from ..findings import Finding, finding
from ..fragments import SUFFIX


def check_torn_copies(examination: Examination) -> Iterator[Finding]:
    for directory in examination.survey.directories:
        for name in sorted(directory.names):
            if not name.endswith(f".jsonl{SUFFIX}"):
                continue
            path = f"{directory.path}/{name}"
            if _is_empty(examination, path):
                continue
            orphan = name.removesuffix(SUFFIX) not in directory.names
            if orphan:
                message = "bytes that were copied aside from a transcript that is gone"
                hint = f"read it, then remove it: rm {shlex.quote(path)}"
            else:
                message = "bytes of entries that were cut short, copied aside from the transcript"
                hint = f"read it: less {shlex.quote(path)}; it goes when its transcript goes"
            yield finding("torn-copy", path, message, hint)


def check_originals(examination: Examination) -> Iterator[Finding]:
    for directory in examination.survey.directories:
        for name in sorted(filter(is_original, directory.names)):
            path = f"{directory.path}/{name}"
            transcript = f"{directory.path}/{transcript_of(name)}"
            if named_file(examination.files, path) == named_file(examination.files, transcript):
                message = "a second name of the transcript, left by a healing that was cut short"
                hint = "nothing has to be done: the next healing uses it"
            else:
                message = "the original of a transcript whose healed copy took its place"
                hint = f"when the transcript is as you want it, remove it: rm {shlex.quote(path)}"
            yield finding("healed-original", path, message, hint)


def _is_empty(examination: Examination, path: str) -> bool:
    """A full disk left it so, or it is gone by now."""
    try:
        return examination.files.stat_path(path).st_size == 0
    except FileNotFoundError:
        return True
