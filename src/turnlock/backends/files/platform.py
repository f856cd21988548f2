"""What this system offers, asked once and by capability, never by its name."""

from __future__ import annotations

import errno
import os
import sys
from functools import cache
from typing import NamedTuple

from .process import LinuxProcesses, PortableProcesses, Processes
from .waker import InotifyWaker, PollingWaker, Waker

# A file system or kernel without O_TMPFILE says one of these.
NO_UNNAMED_FILES = frozenset(
    {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.EXDEV, errno.EPERM}
)


class Platform(NamedTuple):
    """``unnamed_files``: whether to try O_TMPFILE; a file system may still refuse it."""

    unnamed_files: bool
    waker: Waker
    processes: Processes


@cache
def native() -> Platform:
    """This system's. One for the process: its waker has an inotify instance."""
    has_proc = os.path.exists("/proc/self/fd") and os.path.exists("/proc/self/stat")
    linux = has_proc and sys.platform == "linux"
    return Platform(
        unnamed_files=linux and hasattr(os, "O_TMPFILE"),
        waker=InotifyWaker() if linux else PollingWaker(),
        processes=LinuxProcesses() if linux else PortableProcesses(),
    )


def portable() -> Platform:
    """Without O_TMPFILE, inotify and /proc, whether or not they are there."""
    return Platform(unnamed_files=False, waker=PollingWaker(), processes=PortableProcesses())
