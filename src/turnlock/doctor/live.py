"""The gateway of a state directory, as a command meets it: asked, and never gone behind.

A gateway knows what no lock file says: the phase of a turn, who waits, whether the turn goes on.
And what it holds is its own to give up: released through it, the turn's task is cancelled, its
client told and the marker written with what the turn was at. So a command looks for it first.

``gateway.json`` names a process and a url. Then there are five conditions:

=========  ====================================================================================
condition  evidence
=========  ====================================================================================
answers    something spoke HTTP at its url, in time
stopped    the process is in state T (SIGSTOP, a debugger, a frozen container)
closed     the process lives, and its port refuses connections
blocked    the process lives, and a connection gets no answer: its event loop does nothing
silent     it answers, but gave no answer to this request
=========  ====================================================================================

Its token is sent to this host alone, whatever url the file names: the two ends of a connection to
oneself have the same address.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from ..clock import parse_iso
from ..errors import TurnlockError
from ..session import SessionKey

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from ..backends import LockRecord

NAME = "gateway.json"
# The wall clock may have been set between the start of the process and that of its service.
_CLOCK_SLACK_SECONDS = 60.0
_TOKEN_VARIABLE = "TURNLOCK_TOKEN"
_TOKEN_FILE = "token"
_PATIENCE = 3.0
# A release waits for the marker, which may wait for a disk.
_RELEASE_PATIENCE = 10.0
_BYTES_MAX = 64 * 1024 * 1024
_FILE_BYTES_MAX = 64 * 1024
_UNAUTHORIZED = 401


# Nothing came, or nothing that can be read.
_NO_ANSWER = (OSError, ValueError, RecursionError)


class Condition(Enum):
    ANSWERS = "answers"
    STOPPED = "stopped"
    CLOSED = "closed"
    BLOCKED = "blocked"
    SILENT = "silent"


_WORDS = {
    Condition.ANSWERS: "answers",
    Condition.STOPPED: "is stopped",
    Condition.CLOSED: "runs, but its port is closed",
    Condition.BLOCKED: "runs, but does not answer: its event loop is blocked",
    Condition.SILENT: "took the request and did not answer it",
}


class GatewayUnreachable(TurnlockError):
    """A gateway holds the session, and does not answer. Nothing was changed, unless it is
    ``silent``: then it may have released the session, or may still.

    Attributes: ``session``, ``pid``, ``url`` and ``condition`` (``stopped``, ``closed``,
    ``blocked``, ``silent``) of the gateway, ``state`` of its process by the kernel, or None.
    """

    def __init__(self, session: str, gateway: Gateway) -> None:
        self.session = session
        self.pid = gateway.pid
        self.url = gateway.url
        self.condition = gateway.condition.value
        self.state = gateway.state
        self.hint = gateway.remedy
        outcome = f"session {session!r} was not released"
        if gateway.condition is Condition.SILENT:
            outcome = f"whether session {session!r} was released is not known"
        super().__init__(
            f"{outcome}: the gateway that holds it, {gateway.description}; {self.hint}"
        )


class Refused(TurnlockError):
    """The gateway answered that it will not. Attributes: ``status`` (HTTP), ``code``, ``why``."""

    def __init__(self, status: int, code: str, why: str) -> None:
        self.status = status
        self.code = code
        self.why = why
        if status == _UNAUTHORIZED:
            self.hint = f"give it the gateway's token in ${_TOKEN_VARIABLE}, or run as its user"
        super().__init__(f"the gateway refused: {why}" + (f"; {self.hint}" if self.hint else ""))


class Gateway(NamedTuple):
    """A gateway whose process lives. ``state``: of the process, ``T (stopped)`` for example."""

    root: str
    pid: int
    url: str
    condition: Condition
    state: str | None

    @property
    def answers(self) -> bool:
        return self.condition is Condition.ANSWERS

    @property
    def description(self) -> str:
        """A clause: which process, where, and its condition."""
        where = f" at {self.url}" if self.url else ""
        return f"process {self.pid}{where}, {_WORDS[self.condition]}"

    @property
    def remedy(self) -> str:
        go_on = f"kill -CONT {self.pid}, or end it: kill -KILL {self.pid}"
        if self.condition is Condition.STOPPED:
            return f"let it go on: {go_on}"
        if self.condition is Condition.SILENT:
            return "look again: turnlock locks"
        end = f"kill {self.pid} (kill -KILL {self.pid} if it stays)"
        return f"end it: {end}; what it holds is free then, and the next gateway marks its turns"

    def holds(self, lock: LockRecord) -> bool:
        """Whether its process is the live holder of this lock."""
        return lock.pid == self.pid and lock.pid_status == "alive" and not lock.stale

    def locks(self) -> dict[str, Mapping[str, Any]]:
        """What it says of the locks of its directory, by their paths; {} when it says nothing."""
        try:
            status, answer = self._ask("GET", "/locks", None, _PATIENCE)
        except _NO_ANSWER:
            return {}
        listed = answer.get("locks") if status == 200 else None
        return {
            one["path"]: one
            for one in (listed if isinstance(listed, list) else ())
            if isinstance(one, dict) and isinstance(one.get("path"), str)
        }

    def release(self, session: SessionKey, turn_id: str | None) -> Mapping[str, Any]:
        """Have it release a session from this turn, and no other; what became of it.

        Raises `Refused`, and `GatewayUnreachable` when no answer came.
        """
        from urllib.parse import quote

        path = f"/sessions/{quote(session.agent, safe='')}/{quote(session.name, safe='')}/release"
        body = {"turn_id": turn_id, "reason": "operator"}
        try:
            status, answer = self._ask("POST", path, body, _RELEASE_PATIENCE)
        except _NO_ANSWER as error:
            now = gateway_of(self.root) or self
            silent = now._replace(condition=Condition.SILENT) if now.answers else now
            raise GatewayUnreachable(str(session), silent) from error
        if status != 200:
            raise _refused(status, answer)
        return answer

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, patience: float
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {_token(self.root)}"}
        content = None if body is None else json.dumps(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        with _connection(self.url, patience) as connection:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            answer = json.loads(response.read(_BYTES_MAX))
            return response.status, answer if isinstance(answer, dict) else {}


def gateway_of(root: str) -> Gateway | None:
    """The gateway that serves this state directory; None when none is alive. Changes nothing."""
    # Not at the top: every command imports this module, for its error.
    from ..backends.files.guard import process_state

    written = _written(f"{root}/{NAME}")
    pid, url = _pid(written), written.get("url")
    if pid is None or not _runs_since(pid, parse_iso(written.get("started"))):
        return None
    state = process_state(pid)
    named = url if isinstance(url, str) else ""
    return Gateway(root, pid, named, _condition(named, state), state)


def pid_in(path: str) -> int | None:
    """The process that a ``gateway.json`` names, alive or not; None when it names none."""
    return _pid(_written(path))


def _pid(written: Mapping[str, Any]) -> int | None:
    pid = written.get("pid")
    is_pid = isinstance(pid, int) and not isinstance(pid, bool) and 0 < pid < 2**31
    return pid if is_pid else None


def _runs_since(pid: int, moment: float | None) -> bool:
    """Whether the process lives, and is not one that got the number later."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return moment is None or process.create_time() <= moment + _CLOCK_SLACK_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _condition(url: str, state: str | None) -> Condition:
    if state is not None and state[:1] in "Tt":
        return Condition.STOPPED
    try:
        with _connection(url, _PATIENCE) as connection:
            connection.request("GET", "/healthz")
            connection.getresponse().read(_FILE_BYTES_MAX)
    except ConnectionRefusedError:
        return Condition.CLOSED
    except _NO_ANSWER:
        return Condition.BLOCKED
    return Condition.ANSWERS


@contextlib.contextmanager
def _connection(url: str, patience: float) -> Iterator[HTTPConnection]:
    """Raises OSError, and ValueError for a url that is none of this host."""
    # Only for who has a gateway: it is a third of the time that a command needs to start.
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(url)
    connection = HTTPConnection(parts.hostname, parts.port, timeout=patience)
    try:
        connection.connect()
        if connection.sock.getsockname()[0] != connection.sock.getpeername()[0]:
            raise ValueError(url)
        yield connection
    except HTTPException as error:
        raise ConnectionError(f"{url} speaks no HTTP: {error!r}") from error
    finally:
        connection.close()


def _refused(status: int, answer: Mapping[str, Any]) -> Refused:
    error = answer.get("error")
    facts = error if isinstance(error, dict) else {}
    code, why = facts.get("code"), facts.get("message")
    return Refused(
        status,
        code if isinstance(code, str) else "",
        why if isinstance(why, str) else f"HTTP {status}",
    )


def _token(root: str) -> str:
    given = os.environ.get(_TOKEN_VARIABLE)
    return given or _content(f"{root}/{_TOKEN_FILE}").decode("latin-1").strip()


def _written(path: str) -> dict[str, Any]:
    try:
        written = json.loads(_content(path))
    except (ValueError, RecursionError):
        return {}
    return written if isinstance(written, dict) else {}


def _content(path: str) -> bytes:
    """Of a small regular file, without a trace in its access time; empty when there is none."""
    from ..backends.files.fileops import FileOps

    files = FileOps()
    try:
        handle = files.open_quietly(path)
    except OSError:
        return b""
    try:
        regular = stat.S_ISREG(files.stat_handle(handle).st_mode)
        return files.read_at(handle, 0, _FILE_BYTES_MAX) if regular else b""
    except OSError:
        return b""
    finally:
        handle.close()
