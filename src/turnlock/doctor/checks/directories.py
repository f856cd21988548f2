"""Directories: listed at all, of the right owner, and written by nobody else."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from ..examination import Examination
from ..findings import Finding, finding

_ENTERED_BY_OTHERS = stat.S_IXGRP | stat.S_IXOTH


def check_directories(examination: Examination) -> Iterator[Finding]:
    for path in _directories(examination):
        try:
            status = examination.files.stat_path(path)
        except OSError:
            # Gone by now, or not to be looked at: the survey has said so.
            continue
        yield from _check_mode(path, status)
        yield from _check_owner(path, status)
    for path, why in examination.survey.unreadable:
        yield finding(
            "directory-unreadable",
            path,
            f"it cannot be listed: {why}",
            f"look at it: ls -ld {shlex.quote(path)}; then look again as its owner, or with sudo",
        )


def _directories(examination: Examination) -> list[str]:
    root = examination.root
    paths = [root]
    # Behind a directory that nobody else can enter, the modes further down let nobody in.
    if examination.files.stat_path(root).st_mode & _ENTERED_BY_OTHERS:
        if "agents" in examination.survey.names:
            paths.append(f"{root}/agents")
        for directory in examination.survey.directories:
            paths += [os.path.dirname(directory.path), directory.path]
    return paths


def _check_mode(path: str, status: os.stat_result) -> Iterator[Finding]:
    if not stat.S_ISDIR(status.st_mode):
        return
    mode = f"its mode is {stat.S_IMODE(status.st_mode):04o}"
    if status.st_mode & stat.S_IWOTH:
        message = f"every user may put files here or take them away: {mode}"
        yield finding("directory-mode", path, message, f"chmod go-w {shlex.quote(path)}")
    elif status.st_mode & stat.S_IWGRP:
        message = f"group {status.st_gid} may put files here or take them away: {mode}"
        yield finding("directory-group", path, message, f"chmod g-w {shlex.quote(path)}")


def _check_owner(path: str, status: os.stat_result) -> Iterator[Finding]:
    me = os.geteuid()
    if me not in (0, status.st_uid):
        yield finding(
            "directory-owner",
            path,
            f"it belongs to user {status.st_uid} and you are user {me}",
            f"run turnlock as that user, or: sudo chown -R {me} {shlex.quote(path)}",
        )
