"""What has to be there before anything can be looked at."""

from __future__ import annotations

import os
import shlex
import stat

from ..errors import StoreError

_OPENCLAW_VARIABLES = ("OPENCLAW_STATE_DIR", "CLAWDBOT_STATE_DIR")
_OPENCLAW_PLACES = ("~/.openclaw", "~/.clawdbot")
_NAME_IT = "name the state directory with --state-dir or $TURNLOCK_STATE_DIR"


class CannotLook(StoreError):
    """There is no state directory here, or it cannot be read: nothing can be said about it."""

    def __init__(self, path: str, why: str, hint: str = "") -> None:
        super().__init__(path, "look at", why, hint)


def require_directory(path: str) -> None:
    """Raises `CannotLook` unless ``path`` is a directory that can be listed, and no part of one."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise CannotLook(path, "there is no such directory", _name_it(path)) from None
    except OSError as error:
        raise CannotLook(path, error.strerror or str(error)) from error
    if not stat.S_ISDIR(status.st_mode):
        raise CannotLook(path, "it is not a directory", _inside_hint(os.path.dirname(path)))
    require_whole(path)
    if not os.access(path, os.R_OK | os.X_OK):
        raise CannotLook(path, "permission denied", "look at it as its owner, or with sudo")


def require_whole(path: str) -> None:
    """Raises `CannotLook` for a directory inside of a state directory: its agents, or sessions."""
    whole = _whole_of(path)
    if whole is not None:
        raise CannotLook(path, f"it is a part of the state directory {whole!r}", _inside_hint(path))


def openclaw_directory() -> str | None:
    """Where OpenClaw of this user has its state, by its own rule; None when there is none."""
    named = (os.environ.get(variable) for variable in _OPENCLAW_VARIABLES)
    for place in (*filter(None, named), *_OPENCLAW_PLACES):
        path = os.path.expanduser(place)
        if os.path.isdir(path):
            return path
    return None


def _whole_of(path: str) -> str | None:
    """The state directory that this is the agents', an agent's or a sessions' directory of."""
    if os.path.isdir(f"{path}/agents"):
        return None
    parent, name = os.path.split(path)
    grandparent, parent_name = os.path.split(parent)
    if name == "sessions" and os.path.basename(grandparent) == "agents":
        return os.path.dirname(grandparent)
    if parent_name == "agents" and os.path.isdir(f"{path}/sessions"):
        return grandparent
    return parent if name == "agents" and _has_sessions(path) else None


def _has_sessions(agents: str) -> bool:
    try:
        return any(os.path.isdir(f"{agents}/{name}/sessions") for name in os.listdir(agents))
    except OSError:
        return False


def _inside_hint(path: str) -> str:
    whole = _whole_of(path)
    return f"say --state-dir {shlex.quote(whole)}" if whole is not None else ""


def _name_it(path: str) -> str:
    own = openclaw_directory()
    if own is None or os.path.realpath(own) == path:
        return _NAME_IT
    return f"{_NAME_IT}; OpenClaw's is --state-dir {shlex.quote(own)}"
