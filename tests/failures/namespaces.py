"""Processes in namespaces of their own: other pids, other mounts, another host name.

Root may make them; elsewhere a user namespace gives the right to, where the system allows that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache


def unshared(*options: str) -> list[str]:
    """What a command is prefixed with to run in new namespaces, e.g. ``--pid``, ``--mount``.

    The command is a child of ``unshare`` and dies with it.
    """
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--fork", "--kill-child", *options]


def in_shell(script: str) -> list[str]:
    """A prefix that runs ``script``, in which ``"$@"`` is the command."""
    return ["sh", "-c", script, "sh"]


PIDS = ("--pid", "--mount", "--mount-proc")
MOUNTS = ("--mount", "--propagation", "private")


def missing(capability: str) -> str | None:
    """Why a capability is not there; None when it is."""
    return _PROBES[capability]()


@cache
def _no_namespaces() -> str | None:
    if shutil.which("unshare") is None:
        return "there is no unshare command"
    tried = subprocess.run([*unshared(*PIDS), "true"], capture_output=True, timeout=20, check=False)
    return None if tried.returncode == 0 else "neither root nor allowed to make user namespaces"


@cache
def _no_root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


_PROBES: dict[str, Callable[[], str | None]] = {
    "namespaces": _no_namespaces,
    "root": _no_root,
}
