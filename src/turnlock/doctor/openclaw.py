"""What OpenClaw (2026.2 to 2026.7) calls its sessions: ``agents/*/sessions/sessions.json``.

An object of session keys (``agent:main:main``, ``agent:main:telegram:group:-100``), each with at
least ``sessionId``, and sometimes ``sessionFile``, the path of the transcript: it is another than
``<sessionId>.jsonl`` for topics, and wrong once the directory was moved. So the file's name counts,
in the directory that the ``sessions.json`` lies in.

The file is hostile until checked: read up to a bound, never waited for; an entry that is not as it
has to be is passed over, and a name that would lead out of the directory is none.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..backends.files.fileops import FileOps
from ..backends.files.layout import TRANSCRIPT_SUFFIX, list_names

INDEX = "sessions.json"
CONFIG = "openclaw.json"
_BYTES_MAX = 64 * 1024 * 1024
_NAME_MAX = 255
_KEY_MAX = 1024


class NamedSession(NamedTuple):
    """A session key of OpenClaw's, with the path of its transcript, which may be missing."""

    key: str
    transcript: str


def named_sessions(files: FileOps, root: str) -> list[NamedSession]:
    """All that the indexes of all agents name, in the order of agents and keys."""
    agents = f"{root}/agents"
    return [
        found
        for agent in list_names(files, agents)
        for found in sorted(_named_in(files, f"{agents}/{agent}/sessions"))
    ]


def is_openclaw(root: str) -> bool:
    """Whether OpenClaw keeps, or kept, its state in this directory."""
    agents = f"{root}/agents"
    if os.path.lexists(f"{root}/{CONFIG}"):
        return True
    return any(
        os.path.lexists(f"{agents}/{agent}/sessions/{INDEX}")
        for agent in list_names(FileOps(), agents)
    )


def _named_in(files: FileOps, directory: str) -> Iterator[NamedSession]:
    for key, entry in _read_index(files, f"{directory}/{INDEX}").items():
        name = _file_name(entry) if isinstance(entry, dict) else None
        if name is not None and 0 < len(key) <= _KEY_MAX:
            yield NamedSession(key, f"{directory}/{name}")


def _file_name(entry: Mapping[str, object]) -> str | None:
    """The transcript's name in its directory."""
    file, identity = entry.get("sessionFile"), entry.get("sessionId")
    if isinstance(file, str):
        # Of another system, perhaps: only the last part is of use.
        base = file.replace("\\", "/").rpartition("/")[2]
        if base.endswith(TRANSCRIPT_SUFFIX) and _is_name(base):
            return base
    if isinstance(identity, str) and _is_name(identity + TRANSCRIPT_SUFFIX):
        return identity + TRANSCRIPT_SUFFIX
    return None


def _is_name(text: str) -> bool:
    if text.startswith(".") or "/" in text or "\0" in text:
        return False
    try:
        return len(os.fsencode(text)) <= _NAME_MAX
    except UnicodeEncodeError:
        return False


def _read_index(files: FileOps, path: str) -> Mapping[str, object]:
    try:
        handle = files.open_quietly(path)
    except OSError:
        return {}
    try:
        status = files.stat_handle(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _BYTES_MAX:
            return {}
        read = json.loads(files.read_at(handle, 0, status.st_size))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        handle.close()
    return read if isinstance(read, dict) else {}
