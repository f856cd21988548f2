"""What can go wrong, split by who caused it.

::

    TurnlockError
    ├── SessionBusy (TimeoutError)      another holder has the lock, and the wait limit passed
    ├── AlreadyHeld                     the caller's own task or thread has the lock
    ├── LeaseRevoked                    the lease was the caller's and is not any more
    ├── InvalidSessionKey (ValueError)  the caller named no session
    ├── LimitsError (ValueError)        the caller's limits do not fit each other
    ├── ConfigError (ValueError)        the caller's configuration cannot be read
    ├── LockPathError                   something at the lock path is not a claim
    ├── TranscriptError                 the transcript cannot be read or written
    ├── StoreError                      the storage failed; the cause is in ``__cause__``
    │   └── GuardTimeout                a stopped process holds the guard of a session
    └── ModelError                      the model's endpoint failed (``turnlock.models``)

Every class carries its facts as attributes and composes its message from them, once, here.
"""

from __future__ import annotations

from typing import Any


class TurnlockError(Exception):
    """Base of every error that Turnlock raises on purpose.

    ``hint`` names what to do about it, often a command, or is empty.
    """

    hint: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process pools; their constructors take keywords, so pickle the facts.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(cls: type[TurnlockError], args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


def seconds(value: float) -> str:
    """A duration for people: ``0.25 s``, ``42 s``, ``5 min 3 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if value < 10:
        return f"{value:.2f} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


class SessionBusy(TurnlockError, TimeoutError):
    """Another holder has the session's lock and the wait limit passed.

    Attributes: ``session``; ``holder_pid`` and ``holder_turn`` (None when the claim names none);
    ``age`` and ``limit`` of the holder in seconds (None when unknown); ``waited`` in seconds;
    ``doubt``: why nobody here can tell whether the holder lives, as reasons of doctor's; else
    empty. Nothing was written.
    """

    def __init__(
        self,
        session: str,
        *,
        holder_pid: int | None = None,
        holder_turn: str | None = None,
        age: float | None = None,
        limit: float | None = None,
        waited: float = 0.0,
        doubt: str = "",
        releasable: bool = True,
    ) -> None:
        self.session = session
        self.holder_pid = holder_pid
        self.holder_turn = holder_turn
        self.age = age
        self.limit = limit
        self.waited = waited
        self.doubt = doubt
        self.hint = _how_to_free(session, doubt, releasable)
        holder = f"turn {holder_turn!r}" if holder_turn else "a holder that names no turn"
        process = f" of process {holder_pid}" if holder_pid is not None else ""
        held = f", held for {seconds(age)}" if age is not None else ""
        bound = f" with a limit of {seconds(limit)}" if limit is not None else ""
        unknown = f", and nobody here can tell whether it lives ({doubt})" if doubt else ""
        super().__init__(
            f"session {session!r} is busy: {holder}{process}{held}{bound}{unknown};"
            f" gave up after waiting {seconds(waited)} ({self.hint})"
        )


def _how_to_free(session: str, doubt: str, releasable: bool) -> str:
    if not releasable:
        return "what can be done says: turnlock doctor"
    if doubt:
        return f"if its host or container is gone: turnlock release {session}"
    return f"to take it from its holder: turnlock release {session}"


class AlreadyHeld(TurnlockError):
    """The caller's own task or thread already holds this session: a wait would never end.

    Attributes: ``session``, ``turn_id``.
    """

    def __init__(self, session: str, turn_id: str) -> None:
        self.session = session
        self.turn_id = turn_id
        self.hint = "use the turn that is open, from turnlock.current_turn()"
        super().__init__(
            f"this task or thread already holds session {session!r} as turn {turn_id!r};"
            f" {self.hint}"
        )


class LeaseRevoked(TurnlockError):
    """The lease was taken from its holder; nothing of the turn reaches the transcript any more.

    Attributes: ``session``, ``turn_id``, ``held`` (seconds) and ``reason``, one of the reasons of
    an error marker (``hold-limit``, ``stall-limit``, ``model-limit``, ``operator`` …), or
    ``superseded`` (another process took it, or the lock file was removed by hand) or ``forked``
    (this is a child process; the turn belongs to its parent).
    """

    def __init__(self, session: str, *, turn_id: str, held: float, reason: str) -> None:
        self.session = session
        self.turn_id = turn_id
        self.held = held
        self.reason = reason
        super().__init__(
            f"turn {turn_id!r} lost session {session!r} after {seconds(held)}: {reason}"
        )


class InvalidSessionKey(TurnlockError, ValueError):
    """The text is no session key. Attributes: ``key``, ``why``."""

    def __init__(self, key: object, why: str) -> None:
        self.key = key
        self.why = why
        self.hint = 'encode any text with turnlock.session_key("agent", text)'
        super().__init__(f"{shown(key)} is no session key: {why}; {self.hint}")


class LimitsError(TurnlockError, ValueError):
    """A limit is out of range, or two limits contradict each other.

    Attributes: ``name``, ``value``, ``why``.
    """

    def __init__(self, name: str, value: object, why: str) -> None:
        self.name = name
        self.value = value
        self.why = why
        super().__init__(f"limit {name!r} is {shown(value)}, but {why}")


class ConfigError(TurnlockError, ValueError):
    """The configuration file cannot be used. Attributes: ``path``, ``why``."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"configuration {path!r}: {why}")


class LockPathError(TurnlockError):
    """What lies at the lock path cannot be judged, so nobody may take or remove it.

    Attributes: ``path``, ``why``.
    """

    def __init__(self, path: str, why: str, hint: str = "") -> None:
        self.path = path
        self.why = why
        self.hint = hint or "look at it, then move it away by hand; turnlock doctor lists it"
        super().__init__(f"lock path {path!r}: {why}; {self.hint}")


class TranscriptError(TurnlockError):
    """The transcript cannot be read or written as a transcript. Attributes: ``path``, ``why``."""

    def __init__(self, path: str, why: str, hint: str = "") -> None:
        self.path = path
        self.why = why
        self.hint = hint
        super().__init__(f"transcript {path!r}: {why}" + (f"; {hint}" if hint else ""))


class StoreError(TurnlockError):
    """The storage failed: full, read-only, gone, or of an unsupported kind.

    Attributes: ``path``, ``operation``; the operating system's error is in ``__cause__``. What was
    acknowledged before is safe; the operation itself was not acknowledged.
    """

    def __init__(self, path: str, operation: str, why: str, hint: str = "") -> None:
        self.path = path
        self.operation = operation
        self.why = why
        self.hint = hint
        super().__init__(f"{operation} {path!r}: {why}" + (f"; {hint}" if hint else ""))


class GuardTimeout(StoreError):
    """A process was stopped inside the guard, the microseconds of check-and-write.

    Attributes: ``path``, ``pid`` and ``state`` of the process (None when it cannot be seen) and
    ``waited``. Nothing unsafe happened: the lock is where it was.
    """

    def __init__(self, path: str, *, pid: int | None, state: str | None, waited: float) -> None:
        self.pid = pid
        self.state = state
        self.waited = waited
        who = f"process {pid}" if pid is not None else "a process that cannot be seen from here"
        condition = f" (state {state})" if state else ""
        act = f"kill -CONT {pid}, or kill -KILL {pid}" if pid is not None else "turnlock doctor"
        super().__init__(
            path,
            "guard",
            f"{who}{condition} has held the guard for {seconds(waited)}",
            f"continue or end it: {act}",
        )


class ModelError(TurnlockError):
    """The model's endpoint failed, or broke its protocol.

    Attributes: ``provider``, ``model``, ``kind`` (``request``, ``connect``, ``status``,
    ``protocol``, ``interrupted``), ``status`` (HTTP, or None) and ``retry_after`` (seconds, or
    None). ``detail`` is what the endpoint said, already cut to a bounded length but not redacted.
    """

    def __init__(
        self,
        *,
        provider: str,
        model: str,
        kind: str,
        detail: str,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.provider = provider
        self.model = model
        self.kind = kind
        self.detail = detail
        self.status = status
        self.retry_after = retry_after
        http = f" (HTTP {status})" if status is not None else ""
        super().__init__(f"model {provider}/{model} failed: {kind}{http}: {detail}")


def why_of(error: TurnlockError) -> str:
    """What went wrong and what to do about it, for who names the path already."""
    if not isinstance(error, (StoreError, LockPathError, TranscriptError)):
        return str(error)
    return f"{error.why}; {error.hint}" if error.hint else error.why


def shown(value: object, most: int = 200) -> str:
    """A value for a message: its repr, cut to ``most`` characters. Raises nothing."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # More digits than Python writes, or objects in objects, beyond reason.
        return f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= most else text[: most - 3] + "..."
