"""Files of ours that other users may read: one finding for a directory."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from ..examination import Examination
from ..findings import Finding, finding

_OTHERS = 0o077


def check_modes(examination: Examination) -> Iterator[Finding]:
    loose: dict[str, list[str]] = {}
    for path, mode in examination.ours:
        if mode & _OTHERS:
            directory, name = os.path.split(path)
            loose.setdefault(directory, []).append(name)
    for directory, names in sorted(loose.items()):
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield finding(
            "file-mode",
            directory,
            f"other users may read or write {names[0]}{others}; the mode of ours is 0600",
            f"chmod go-rwx {shlex.quote(directory)}/*.jsonl*",
        )
