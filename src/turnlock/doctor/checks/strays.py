"""Temporary files whose maker died between making one and giving it its name."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator

from ...backends.files.birth import is_temporary
from ..examination import Examination
from ..findings import Finding, finding

# A maker needs microseconds, or as long as one fsync hangs. A claim's temporary file is flocked,
# but not in its first moment, so that youth counts as well. A transcript's is not flocked, as that
# would be its guard: nothing but its age tells that a maker lives who waits for a disk.
_YOUNG_SECONDS = 60.0
_YOUNG_TRANSCRIPT_SECONDS = 1800.0


def check_strays(examination: Examination) -> Iterator[Finding]:
    for directory in examination.survey.directories:
        for name in sorted(filter(is_temporary, directory.names)):
            path = f"{directory.path}/{name}"
            try:
                yield from _check(examination, path)
            except FileNotFoundError:
                continue
            except OSError as error:
                why = error.strerror or str(error)
                yield _stray(examination, path, f"could not be looked at or removed: {why}")


def _check(examination: Examination, path: str) -> Iterator[Finding]:
    files = examination.files
    status = files.stat_path(path)
    limit = _YOUNG_SECONDS if _is_claims(path) else _YOUNG_TRANSCRIPT_SECONDS
    young = examination.clock.wall() - status.st_mtime < limit
    if young or not stat.S_ISREG(status.st_mode):
        return
    handle = files.open_quietly(path)
    try:
        # To remove the file, its flock is kept until then.
        files.flock(handle, (fcntl.LOCK_EX if examination.fix else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        if not examination.fix:
            yield _stray(examination, path, "was left by a maker that is gone")
        elif os.path.samestat(files.stat_path(path), files.stat_handle(handle)):
            files.unlink(path)
            yield _stray(examination, path, "was removed; its maker is gone", fixed=True)
    except BlockingIOError:
        # Its maker lives.
        return
    finally:
        handle.close()


def _is_claims(path: str) -> bool:
    return path.removesuffix(".tmp").rpartition(".")[0].endswith(".lock")


def _stray(examination: Examination, path: str, what: str, *, fixed: bool = False) -> Finding:
    hint = f"remove it: {examination.command('doctor --fix')}"
    hint = "nothing is left to do" if fixed else hint
    return finding("stray-file", path, f"a temporary file {what}", hint, fixed=fixed)
