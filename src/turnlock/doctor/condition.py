"""The conditions that a gateway can be in, as a command beside it can tell them apart.

=========  ====================================================================================
condition  evidence
=========  ====================================================================================
answers    something spoke HTTP at its url, in time
starting   it says so: it has the directory, and cleans up before it serves
draining   it says so: a signal asked it to end
stopped    the process is in state T (SIGSTOP, a debugger, a frozen container)
closed     the process lives, and its port refuses connections
blocked    the process lives, and a connection gets no answer: its event loop does nothing
silent     it answers, but gave no answer to this request
elsewhere  it has the directory in another pid namespace, and does not answer here
inherited  it is gone, and a process that was forked from it keeps its lock
unnamed    the directory's lock is held, and nothing says by what gateway
=========  ====================================================================================
"""

from __future__ import annotations

from enum import Enum

LOCK_FILE = "gateway.lock"
PRESENCE_FILE = "gateway.json"
# After its drain limit a gateway has ended within so many seconds, whatever holds it.
LATEST_END = 8.0


class Stage(Enum):
    """What a gateway says of itself."""

    STARTING = "starting"
    SERVING = "serving"
    RELOADING = "reloading"
    DRAINING = "draining"


class Condition(Enum):
    ANSWERS = "answers"
    STARTING = "starting"
    DRAINING = "draining"
    STOPPED = "stopped"
    CLOSED = "closed"
    BLOCKED = "blocked"
    SILENT = "silent"
    ELSEWHERE = "elsewhere"
    INHERITED = "inherited"
    UNNAMED = "unnamed"


WORDS = {
    Condition.ANSWERS: "answers",
    Condition.STARTING: "is starting",
    Condition.DRAINING: "is shutting down",
    Condition.STOPPED: "is stopped",
    Condition.CLOSED: "runs, but its port is closed",
    Condition.BLOCKED: "runs, but does not answer: its event loop is blocked",
    Condition.SILENT: "took the request and did not answer it",
    Condition.ELSEWHERE: "runs in another pid namespace, and does not answer here",
    Condition.INHERITED: "is gone, but a process that was forked from it keeps its lock",
    Condition.UNNAMED: "has the lock of the directory, and nothing says how to reach it",
}
# Of these nothing is wrong with the gateway.
SOUND = frozenset({Condition.ANSWERS, Condition.STARTING, Condition.DRAINING})
