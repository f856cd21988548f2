"""Every failure as one answer in OpenAI's form, with a code out of one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from ..errors import (
    LeaseRevoked,
    LockPathError,
    ModelError,
    SessionBusy,
    StoreError,
    TranscriptError,
    TurnlockError,
)
from ..limits import Limits
from ..turns.writer import ERRORS
from .jsonout import to_json

_LIMIT_REASONS = frozenset({"hold-limit", "stall-limit", "model-limit"})
_TYPES = {401: "authentication_error", 403: "permission_error", 504: "timeout_error"}
# A busy session is free at the latest when its holder's limit passes; most turns end much sooner.
_RETRY_BUSY_MAX = 2.0
_RETRY_LATER = 5


class Code(NamedTuple):
    """``error.code`` of an answer: the status that it comes with, and what happened."""

    status: int
    meaning: str


# A test holds that these are all that the gateway says, and that it says each.
CODES: Mapping[str, Code] = {
    "invalid_request": Code(400, "the request cannot be meant; `param` names what is wrong"),
    "unsupported_parameter": Code(400, "a parameter of OpenAI's that this gateway does not have"),
    "invalid_session_key": Code(400, "the path names no session key; the message says why not"),
    "invalid_token": Code(401, "the bearer token is missing or wrong"),
    "origin_not_allowed": Code(403, "an `Origin` that is not among `allowed_origins`"),
    "unknown_url": Code(404, "there is no such path"),
    "model_not_found": Code(404, "`model` names no agent"),
    "session_not_found": Code(404, "there is no such session"),
    "entry_not_found": Code(404, "`after` names no entry of the session"),
    "method_not_allowed": Code(405, "the path has other methods; `Allow` names them"),
    "body_timeout": Code(408, "the body was not complete in time"),
    "conversation_locked": Code(409, "the session was busy for longer than the wait limit"),
    "turn_changed": Code(409, "another turn than the named one holds the session by now"),
    "cannot_be_fenced": Code(409, "a live program that is not Turnlock holds the session"),
    "body_too_large": Code(413, "the body has more bytes than `max_body_bytes`"),
    "unsupported_media_type": Code(415, "the body is not `application/json`"),
    "unknown_host": Code(421, "a `Host` that is none of the gateway's"),
    "headers_too_large": Code(431, "the headers have more than 16 KiB"),
    "client_closed_request": Code(499, "the client went away before it had its answer"),
    "internal_error": Code(500, "the gateway failed; its log says how"),
    "upstream_error": Code(502, "the model failed"),
    "operator": Code(503, "an operator took the session from the turn"),
    "superseded": Code(503, "another process took the session from the turn"),
    "cancelled": Code(503, "the turn was cancelled"),
    "storage_error": Code(503, "the storage failed, or does not answer"),
    "not_fenced": Code(503, "the turn could not be fenced yet; it is tried again"),
    "starting": Code(503, "the gateway starts: it cleans up first"),
    "shutting_down": Code(503, "the gateway stops, and takes in no new work"),
    "queue_full": Code(503, "`max_waiting` turns wait already"),
    "too_many_connections": Code(503, "as many clients are connected as descriptors allow"),
    "too_many_reads": Code(503, "too many reads of files are under way"),
    "too_many_listeners": Code(503, "too many clients listen to events"),
    "model_limit": Code(504, "the model gave no content in time: `first_token`, `idle`"),
    "turn_limit": Code(504, "the turn took longer than `limits.turn`"),
    "hold_limit": Code(504, "the turn held its session for longer than `limits.max_hold`"),
    "stall_limit": Code(504, "the turn made no progress in time"),
}


class Refusal(Exception):
    """An answer that is an error: ``code`` is one of `CODES`, which has its status.

    ``facts`` stand beside OpenAI's own fields.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = CODES[code].status
        self.code = code
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        self.facts = dict(facts or {})

    def body(self) -> bytes:
        """The error object as JSON on one line."""
        kind = _TYPES.get(self.status) or (
            "invalid_request_error" if self.status < 500 else "server_error"
        )
        said = {"message": self.message, "type": kind, "code": self.code, "param": self.param}
        return to_json({"error": {**said, **self.facts}}).encode()

    def response(self) -> Response:
        headers = {"cache-control": "no-store", **self.headers}
        return Response(self.body(), self.status, headers, "application/json")


class LimitPassed(Exception):
    """A call outside of any session passed a limit of the configuration."""

    def __init__(self, name: str, limit: float) -> None:
        super().__init__(f"the {name} limit of {limit:g} s passed")
        self.name = name
        self.limit = limit


class ClientLeft(Exception):
    """The client closed its connection before its answer was complete."""

    def __init__(self) -> None:
        super().__init__("the client went away")


class ShuttingDown(Exception):
    def __init__(self) -> None:
        super().__init__("the gateway is shutting down")


def bad_request(
    message: str, *, param: str | None = None, code: str = "invalid_request"
) -> Refusal:
    return Refusal(code, message, param=param)


def storage_error(message: str) -> Refusal:
    return Refusal("storage_error", message)


def shutting_down() -> Refusal:
    headers = {"retry-after": str(_RETRY_LATER), "connection": "close"}
    return Refusal("shutting_down", "the gateway is shutting down", headers=headers)


def too_many(code: str, text: str) -> Refusal:
    return Refusal(code, text, headers={"retry-after": str(_RETRY_LATER)})


class Explainer:
    """Makes the answer for what ended an exchange. Its texts hold no secret."""

    def __init__(self, limits: Limits, redacted: Callable[[str], str]) -> None:
        self._limits = limits
        self._redacted = redacted

    def refusal(self, error: BaseException, *, stored: bool, began: bool, turn: str) -> Refusal:
        """``stored``: the user's message is in the transcript, so sending it again would not help.

        ``began``: the model had given content.
        """
        made = self._explain(error, began)
        made.message = self._redacted(made.message)
        made.facts = {"turn": turn, **made.facts}
        if stored:
            made.headers["x-should-retry"] = "false"
        return made

    def _explain(self, error: BaseException, began: bool) -> Refusal:
        match error:
            case SessionBusy():
                return _busy(error)
            case LeaseRevoked():
                return self._revoked(error, began)
            case LimitPassed():
                facts = {"limit": error.limit}
                return Refusal(f"{error.name}_limit", str(error), facts=facts)
            case ModelError():
                return _model(error)
            case StoreError() | LockPathError() | TranscriptError():
                return storage_error(str(error))
            case ShuttingDown():
                return shutting_down()
            case ClientLeft():
                return Refusal("client_closed_request", str(error))
            case TurnlockError():
                return Refusal("internal_error", str(error))
        return Refusal("internal_error", "the gateway failed; its log says how")

    def _revoked(self, error: LeaseRevoked, began: bool) -> Refusal:
        facts = {"reason": error.reason, "session": error.session, "held": round(error.held, 3)}
        why = ERRORS.get(error.reason, "the session was taken from this turn")
        if error.reason not in _LIMIT_REASONS:
            known = error.reason if error.reason in CODES else "superseded"
            return Refusal(known, f"{why}: {error}", facts=facts)
        code, limit = self._limit_of(error.reason, began)
        facts["limit"] = limit
        return Refusal(code, f"{why}: {error}", facts=facts)

    def _limit_of(self, reason: str, began: bool) -> tuple[str, float | None]:
        limits = self._limits
        if reason == "model-limit":
            return "model_limit", limits.idle if began else limits.first_token
        if reason == "hold-limit" and limits.turn <= limits.max_hold:
            return "turn_limit", limits.turn
        return _code(reason), limits.max_hold if reason == "hold-limit" else None


def _busy(error: SessionBusy) -> Refusal:
    left = math.inf
    if error.age is not None and error.limit is not None:
        left = error.limit - error.age
    retry = math.ceil(min(max(left, 1.0), _RETRY_BUSY_MAX))
    facts = {
        "session": error.session,
        "turn": error.holder_turn,
        "age": _rounded(error.age),
        "limit": _rounded(error.limit),
        "waited": _rounded(error.waited),
    }
    headers = {"retry-after": str(retry)}
    return Refusal("conversation_locked", str(error), headers=headers, facts=facts)


def _model(error: ModelError) -> Refusal:
    facts = {
        "kind": error.kind,
        "upstream_status": error.status,
        "upstream_retry_after": error.retry_after,
    }
    return Refusal("upstream_error", str(error), facts=facts)


def _code(reason: str) -> str:
    return reason.replace("-", "_")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
