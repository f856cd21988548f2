"""``gateway.json``: where a gateway says that it serves this directory."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from typing import Any

import psutil

from ...clock import parse_iso
from ..examination import Examination
from ..findings import Finding, finding

NAME = "gateway.json"
_BYTES_MAX = 64 * 1024
# The wall clock may have been set between the start of the process and that of its service.
_CLOCK_SLACK_SECONDS = 60.0


def check_gateway(examination: Examination) -> Iterator[Finding]:
    if NAME not in examination.survey.names:
        return
    path = f"{examination.root}/{NAME}"
    written = _read(examination, path)
    pid = written.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 2**31:
        message = "it cannot be read, or names no process"
        hint = f"the next gateway replaces it: {examination.command('gateway')}"
        yield finding("gateway-file", path, message, hint)
        return
    if _runs_since(pid, parse_iso(written.get("started"))):
        url = written.get("url")
        where = f" at {url}" if isinstance(url, str) else ""
        yield finding(
            "gateway-running",
            path,
            f"a gateway serves this directory{where}, as process {pid}",
            f"what it holds: {examination.command('locks')}",
        )
    else:
        yield finding(
            "gateway-gone",
            path,
            f"the gateway that wrote it, process {pid}, is gone",
            f"start one if it should serve: {examination.command('gateway')}",
        )


def _runs_since(pid: int, moment: float | None) -> bool:
    """Whether the process lives, and is not one that got the number later."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return moment is None or process.create_time() <= moment + _CLOCK_SLACK_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _read(examination: Examination, path: str) -> dict[str, Any]:
    try:
        handle = examination.files.open_quietly(path)
    except OSError:
        return {}
    try:
        if not stat.S_ISREG(examination.files.stat_handle(handle).st_mode):
            return {}
        written = json.loads(examination.files.read_at(handle, 0, _BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        handle.close()
    return written if isinstance(written, dict) else {}
