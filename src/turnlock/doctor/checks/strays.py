"""Temporary files whose maker died between making one and giving it its name."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator

from ...backends.files.birth import is_temporary
from ...backends.files.fileops import Handle
from ..examination import Examination
from ..findings import Finding, finding

# A maker needs microseconds, or as long as one fsync hangs. Only the claim's temporary file is
# flocked, and not in its first moment, so that youth counts as well.
_YOUNG_SECONDS = 60.0


def check_strays(examination: Examination) -> Iterator[Finding]:
    for directory in examination.survey.directories:
        for name in sorted(filter(is_temporary, directory.names)):
            yield from _check(examination, f"{directory.path}/{name}")


def _check(examination: Examination, path: str) -> Iterator[Finding]:
    files = examination.files
    try:
        status = files.stat_path(path)
        if not stat.S_ISREG(status.st_mode) or _is_young(examination, status):
            return
        handle = files.open_quietly(path)
    except FileNotFoundError:
        return
    message = "a temporary file whose maker is gone"
    hint = f"remove it: {examination.command('doctor --fix')}"
    try:
        if not _is_free(examination, handle):
            return
        if examination.fix and _is_named(path, files.stat_handle(handle)):
            files.unlink(path)
            yield finding(
                "stray-file", path, f"removed: {message}", "nothing is left to do", fixed=True
            )
        else:
            yield finding("stray-file", path, message, hint)
    except OSError as error:
        why = error.strerror or str(error)
        yield finding("stray-file", path, f"{message}; it could not be removed: {why}", hint)
    finally:
        handle.close()


def _is_young(examination: Examination, status: os.stat_result) -> bool:
    return examination.clock.wall() - status.st_mtime < _YOUNG_SECONDS


def _is_free(examination: Examination, handle: Handle) -> bool:
    """Whether nobody holds the flock. To remove the file it is kept until the handle is closed."""
    kind = fcntl.LOCK_EX if examination.fix else fcntl.LOCK_SH
    try:
        examination.files.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_named(path: str, status: os.stat_result) -> bool:
    return os.path.samestat(os.lstat(path), status)
