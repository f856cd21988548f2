"""What a process of the demo says: one JSON object a line, on its stdout."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..clock import SystemClock
from ..events import Event

_clock = SystemClock()
_lock = threading.Lock()
# What does not tell anybody who watches anything.
_FRAMES_TOLD = 1


class Report(NamedTuple):
    """``at`` is CLOCK_MONOTONIC, which all processes of a host share. ``what`` names an event of
    ``turnlock.events``, or something that the process itself did."""

    role: str
    at: float
    what: str
    facts: Mapping[str, Any]


def tell(what: str, **facts: Any) -> None:
    """Report something; from any thread of a process of the demo."""
    line = json.dumps({"at": _clock.monotonic(), "what": what, "facts": facts})
    with _lock:
        os.write(sys.stdout.fileno(), f"{line}\n".encode())


def tell_event(event: Event) -> None:
    """A subscriber of a store: every event is a report."""
    facts = event._asdict()
    if "stack" in facts:
        facts["stack"] = facts["stack"][-_FRAMES_TOLD:]
    tell(type(event).__name__, **facts)


def parse(role: str, line: bytes) -> Report:
    """A report from its line. Raises `ValueError` when it is none."""
    found = json.loads(line)
    return Report(role, float(found["at"]), str(found["what"]), found["facts"])
