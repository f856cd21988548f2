"""What has to be there before anything can be looked at."""

from __future__ import annotations

import os
import stat

from ..errors import StoreError


class CannotLook(StoreError):
    """There is no state directory here, or it cannot be read: nothing can be said about it."""

    def __init__(self, path: str, why: str, hint: str = "") -> None:
        super().__init__(path, "look at", why, hint)


def require_directory(path: str) -> None:
    """Raises `CannotLook` unless ``path`` is a directory that can be listed."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise CannotLook(
            path,
            "there is no such directory",
            "name the state directory with --state-dir or $TURNLOCK_STATE_DIR",
        ) from None
    except OSError as error:
        raise CannotLook(path, error.strerror or str(error)) from error
    if not stat.S_ISDIR(status.st_mode):
        raise CannotLook(path, "it is not a directory")
    if not os.access(path, os.R_OK | os.X_OK):
        raise CannotLook(path, "permission denied", "look at it as its owner, or with sudo")
