"""The gateway of a state directory, as a command meets it: asked, and never gone behind.

A gateway knows what no lock file says: the phase of a turn, who waits, whether the turn goes on.
And what it holds is its own to give up: released through it, the turn's task is cancelled, its
client told and the marker written with what the turn was at. So a command looks for it first.

Who it is, `presence` tells; the conditions that it can be in, `condition`.

Its token is sent to this host alone, whatever url the file names: the two ends of a connection to
oneself have the same address.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigError, TurnlockError
from ..session import SessionKey
from .condition import PRESENCE_FILE, SOUND, WORDS, Stage
from .condition import Condition as Condition

if TYPE_CHECKING:
    from ..backends import LockRecord
    from .presence import Owner, Written

# The wall clock may have been set between the start of the process and that of its service.
_CLOCK_SLACK_SECONDS = 60.0
_TOKEN_VARIABLE = "TURNLOCK_TOKEN"
_TOKEN_FILE = "token"
_PATIENCE = 3.0
# A release waits for the marker, which may wait for a disk.
_RELEASE_PATIENCE = 10.0
_BYTES_MAX = 64 * 1024 * 1024
_HEALTH_BYTES_MAX = 64 * 1024
_UNAUTHORIZED = 401


# Nothing came, or nothing that can be read.
_NO_ANSWER = (OSError, ValueError, RecursionError)


class AlreadyServed(TurnlockError):
    """Another gateway serves this state directory, so this one did not start, and changed nothing.

    Attributes: ``path`` of the directory; of the other gateway ``pid`` (None when it cannot be
    told), ``url`` (empty before it has one), ``condition`` (``answers``, ``starting``,
    ``draining``, ``stopped``, ``closed``, ``blocked``, ``elsewhere``, ``inherited``, ``unnamed``),
    ``state`` of its process by the kernel, or None, and ``host``, or None.
    """

    def __init__(self, path: str, gateway: Gateway) -> None:
        self.path = path
        self.pid = gateway.pid
        self.url = gateway.url
        self.condition = gateway.condition.value
        self.state = gateway.state
        self.host = gateway.host
        is_own = gateway.pid == os.getpid()
        self.hint = "it is of this very process: end it first" if is_own else gateway.remedy
        super().__init__(
            f"state directory {path!r} is served already: the gateway there,"
            f" {gateway.description}; {self.hint}"
        )


class GatewayUnreachable(TurnlockError):
    """A gateway holds the session, and does not answer. Nothing was changed, unless it
    ``may_follow``: the request was sent, and it may have released the session, or may still.

    Attributes: ``session``, ``may_follow``, ``pid``, ``url`` and ``condition`` (as `AlreadyServed`
    has them, or ``silent``) of the gateway, ``state`` of its process by the kernel, or None.
    """

    def __init__(self, session: str, gateway: Gateway, *, may_follow: bool = False) -> None:
        self.session = session
        self.may_follow = may_follow
        self.pid = gateway.pid
        self.url = gateway.url
        self.condition = gateway.condition.value
        self.state = gateway.state
        self.hint = gateway.remedy
        outcome = f"session {session!r} was not released"
        if may_follow:
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
    """A gateway of which something lives.

    ``pid`` is None when it cannot be told; ``state``: of the process, ``T (stopped)`` for example.
    ``claims_as``: the pid in its claims, which differs in another pid namespace. ``heir``: the
    process that keeps the lock of one that is gone. ``has_lock``: whether the directory is its.
    """

    root: str
    pid: int | None
    url: str
    condition: Condition
    state: str | None
    claims_as: int | None = None
    host: str | None = None
    heir: int | None = None
    has_lock: bool = False

    @property
    def answers(self) -> bool:
        return self.condition is Condition.ANSWERS

    @property
    def takes_requests(self) -> bool:
        """Whether it can be asked what it holds, and to release it: also while it drains."""
        return self.condition in (Condition.ANSWERS, Condition.DRAINING)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with it: it answers, or starts, or ends."""
        return self.condition in SOUND

    @property
    def description(self) -> str:
        """A clause: which process, where, and its condition."""
        who = f"process {self.pid}" if self.pid is not None else "a process that cannot be seen"
        host = f" on host {self.host!r}" if self.condition is Condition.ELSEWHERE else ""
        where = f" at {self.url}" if self.url else ""
        return f"{who}{host}{where}, {WORDS[self.condition]}"

    @property
    def remedy(self) -> str:
        pid = self.pid
        match self.condition:
            case Condition.STOPPED:
                return f"let it go on: kill -CONT {pid}, or end it: kill -KILL {pid}"
            case Condition.SILENT:
                return "look again: turnlock locks"
            case Condition.ANSWERS:
                return f"to start another in its place, end it first: kill {pid}"
            case Condition.STARTING:
                return f"wait for it, or end it: kill {pid}"
            case Condition.DRAINING:
                return f"wait until it is gone, or hasten it: kill {pid}"
            case Condition.INHERITED:
                return f"end that process: kill {self.heir}"
        if pid is None or self.condition is Condition.ELSEWHERE:
            return "end it where it runs, a container with this directory most likely"
        end = f"kill {pid} (kill -KILL {pid} if it stays)"
        return f"end it: {end}; what it holds is free then, and the next gateway marks its turns"

    def holds(self, lock: LockRecord) -> bool:
        """Whether its process is the live holder of this lock."""
        named = (self.pid, self.claims_as)
        return lock.pid in named and lock.pid_status == "alive" and not lock.stale

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

        Raises `Refused`, `ConfigError` for a token that cannot be sent, and `GatewayUnreachable`
        when no answer came.
        """
        from urllib.parse import quote

        path = f"/sessions/{quote(session.agent, safe='')}/{quote(session.name, safe='')}/release"
        body = {"turn_id": turn_id, "reason": "operator"}
        try:
            status, answer = self._ask("POST", path, body, _RELEASE_PATIENCE)
        except ConfigError:
            raise
        except _NO_ANSWER as error:
            now = gateway_of(self.root) or self
            has_left = isinstance(error, ConnectionRefusedError) and not now.answers
            if now.takes_requests and not has_left:
                now = now._replace(condition=Condition.SILENT)
            raise GatewayUnreachable(str(session), now, may_follow=not has_left) from error
        if status != 200:
            raise _refused(status, answer)
        return answer

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, patience: float
    ) -> tuple[int, dict[str, Any]]:
        # Only for who has a gateway: it is a third of the time that a command needs to start.
        from .connection import connected

        headers = {"Authorization": f"Bearer {_token(self.root)}"}
        content = None if body is None else json.dumps(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        with connected(self.url, patience) as connection:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            answer = json.loads(response.read(_BYTES_MAX))
            return response.status, answer if isinstance(answer, dict) else {}


def gateway_of(root: str, patience: float = _PATIENCE) -> Gateway | None:
    """The gateway that serves this state directory; None when there is none. Changes nothing.

    It is asked whether it answers, and given ``patience`` seconds for all of that.
    """
    # Not at the top: every command imports this module, for its errors.
    from .presence import owner_of, read_written

    owner = owner_of(root)
    if owner is not None:
        return _with_lock(root, owner, patience)
    written = read_written(f"{root}/{PRESENCE_FILE}")
    return None if written.is_of_a_lock else _without_lock(root, written, patience)


def refuse_second(root: str, patience: float) -> None:
    """Raise `AlreadyServed` for a directory that a gateway plainly has.

    For who wants to start another, before it loads all that this takes. Whether it may, the lock
    decides: in doubt this says nothing.
    """
    gateway = gateway_of(root, patience)
    silent = (Condition.BLOCKED, Condition.CLOSED)
    plain = (*SOUND, Condition.STOPPED, *silent)
    if gateway is None or not gateway.has_lock or gateway.condition not in plain:
        return
    # One that is killed while it is asked gives no answer either.
    if gateway.condition not in silent or _still_has_lock(gateway):
        raise AlreadyServed(root, gateway)


def _still_has_lock(gateway: Gateway) -> bool:
    from .presence import owner_of

    owner = owner_of(gateway.root)
    return owner is not None and owner.pid == gateway.pid


def second_gateway(root: str, first: Gateway) -> Gateway | None:
    """A gateway without the directory's lock, of a program that takes none, beside the first."""
    from .presence import read_written

    written = read_written(f"{root}/{PRESENCE_FILE}")
    if written.is_of_a_lock or written.claim.pid in (first.pid, first.claims_as):
        return None
    found = _without_lock(root, written, _PATIENCE)
    return found if found is not None and found.answers else None


def _with_lock(root: str, owner: Owner, patience: float) -> Gateway:
    from ..backends.files.guard import process_state

    written = owner.written
    pid = owner.pid if owner.is_here else None
    state = None if pid is None else process_state(pid)
    if owner.heir is not None:
        condition = Condition.INHERITED
    elif state is not None and state[:1] in "Tt":
        condition = Condition.STOPPED
    else:
        condition = _said(written) or _asked(written.url, patience)
        if not owner.is_here and condition is not Condition.ANSWERS:
            condition = Condition.ELSEWHERE if owner.pid is not None else Condition.UNNAMED
    return Gateway(
        root,
        owner.pid,
        written.url,
        condition,
        state,
        owner.claims_as,
        written.claim.host,
        owner.heir,
        has_lock=True,
    )


def _said(written: Written) -> Condition | None:
    """The condition that a gateway writes itself, as nobody can ask for it."""
    if written.stage is Stage.STARTING:
        return Condition.STARTING
    if written.stage is Stage.DRAINING:
        return Condition.DRAINING
    return None if written.url else Condition.UNNAMED


def _without_lock(root: str, written: Written, patience: float) -> Gateway | None:
    """One that only ``gateway.json`` tells of: an older release, or another program."""
    from ..backends.files.guard import process_state

    pid = written.claim.pid
    if pid is None or not _runs_since(pid, written.started):
        return None
    state = process_state(pid)
    is_stopped = state is not None and state[:1] in "Tt"
    condition = Condition.STOPPED if is_stopped else _asked(written.url, patience)
    return Gateway(root, pid, written.url, condition, state, pid)


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


def _asked(url: str, patience: float) -> Condition:
    from .connection import connected

    try:
        with connected(url, patience) as connection:
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            health = response.read(_HEALTH_BYTES_MAX)
    except ConnectionRefusedError:
        return Condition.CLOSED
    except _NO_ANSWER:
        return Condition.BLOCKED
    stages = (Condition.STARTING, Condition.DRAINING) if response.status == 503 else ()
    said = (one for one in stages if f'"{one.value}"'.encode() in health)
    return next(said, Condition.ANSWERS)


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
    from .presence import small_file

    given = os.environ.get(_TOKEN_VARIABLE)
    if given:
        return checked_token(given, f"${_TOKEN_VARIABLE}")
    path = f"{root}/{_TOKEN_FILE}"
    written = small_file(path).decode("latin-1").strip()
    # Without one the gateway says what is missing.
    return checked_token(written, path) if written else ""


def checked_token(token: str, source: str) -> str:
    """The token, from there. Raises `ConfigError` for one that no header can carry."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(source, "the token has to be printable ASCII without blanks")
    return token
