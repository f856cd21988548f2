"""Every failure as one answer in OpenAI's form.

=======================  ======  =========================================================
what happened            status  ``error.code``
=======================  ======  =========================================================
the session is busy      409     ``conversation_locked``
a limit ended the turn   504     ``model_limit``, ``turn_limit``, ``hold_limit`` …
the model failed         502     ``upstream_error``
somebody took the turn   503     ``operator``, ``superseded``, ``cancelled``
the storage failed       503     ``storage_error``
the gateway stops        503     ``shutting_down``
too many wait            503     ``queue_full``
=======================  ======  =========================================================
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

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

_LIMIT_REASONS = frozenset({"hold-limit", "stall-limit", "model-limit"})
_TYPES = {401: "authentication_error", 403: "permission_error", 504: "timeout_error"}
# A busy session is free at the latest when its holder's limit passes; most turns end much sooner.
_RETRY_BUSY_MAX = 2.0
_RETRY_LATER = 5


class Refusal(Exception):
    """An answer that is an error. ``facts`` stand beside OpenAI's own fields."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
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
        return json.dumps({"error": {**said, **self.facts}}, separators=(",", ":")).encode()

    def response(self) -> Response:
        return Response(self.body(), self.status, self.headers, "application/json")


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
    return Refusal(400, code, message, param=param)


def shutting_down() -> Refusal:
    headers = {"retry-after": str(_RETRY_LATER), "connection": "close"}
    return Refusal(503, "shutting_down", "the gateway is shutting down", headers=headers)


def queue_full(most: int) -> Refusal:
    return Refusal(
        503,
        "queue_full",
        f"{most} turns wait for their sessions already",
        headers={"retry-after": str(_RETRY_LATER)},
    )


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
                return Refusal(504, f"{error.name}_limit", str(error), facts=facts)
            case ModelError():
                return _model(error)
            case StoreError() | LockPathError() | TranscriptError():
                return Refusal(503, "storage_error", str(error))
            case ShuttingDown():
                return shutting_down()
            case ClientLeft():
                return Refusal(499, "client_closed_request", str(error))
            case TurnlockError():
                return Refusal(500, "internal_error", str(error))
        return Refusal(500, "internal_error", "the gateway failed; its log says how")

    def _revoked(self, error: LeaseRevoked, began: bool) -> Refusal:
        facts = {"reason": error.reason, "session": error.session, "held": round(error.held, 3)}
        why = ERRORS.get(error.reason, "the session was taken from this turn")
        if error.reason not in _LIMIT_REASONS:
            return Refusal(503, _code(error.reason), f"{why}: {error}", facts=facts)
        code, limit = self._limit_of(error.reason, began)
        facts["limit"] = limit
        return Refusal(504, code, f"{why}: {error}", facts=facts)

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
    return Refusal(409, "conversation_locked", str(error), headers=headers, facts=facts)


def _model(error: ModelError) -> Refusal:
    facts = {
        "kind": error.kind,
        "upstream_status": error.status,
        "upstream_retry_after": error.retry_after,
    }
    return Refusal(502, "upstream_error", str(error), facts=facts)


def _code(reason: str) -> str:
    return reason.replace("-", "_")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
