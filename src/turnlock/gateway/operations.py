"""What the gateway can be asked: one table, of which the routes and their description are made.

A parameter of a query is checked by the same line that describes it. What a request's body and an
answer look like is in ``schemas``; which handler does the work is in ``app``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from ..session import PART_LENGTH_MAX
from .access import HEALTH
from .errors import Refusal, bad_request

Schema = Mapping[str, Any]

EVENTS = "text/event-stream"
# Of every operation: what is judged before it is looked at.
COMMON = (
    "invalid_request",
    "invalid_token",
    "origin_not_allowed",
    "method_not_allowed",
    "unknown_host",
    "headers_too_large",
    "internal_error",
    "starting",
    "too_many_connections",
)
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
# A part of a session key.
PART = f"[A-Za-z0-9][A-Za-z0-9._:@+=-]{{0,{PART_LENGTH_MAX - 1}}}"
KEY_LENGTH_MAX = 2 * PART_LENGTH_MAX + 1
_SHOWN_MAX = 100
_FIELDS_MAX = 20
# Lines of a page, unless the request says so.
PAGE = 100


class Parameter(NamedTuple):
    """One of a query. ``schema``: an integer or a number with bounds, or text with a length."""

    name: str
    schema: Schema
    meaning: str

    def value(self, text: str) -> Any:
        """Raises `Refusal` for what the schema does not allow."""
        kind = self.schema["type"]
        if kind == "string":
            if self.schema["minLength"] <= len(text) <= self.schema["maxLength"]:
                return text
            raise self._refusal(f"text of 1 to {self.schema['maxLength']} characters", text)
        number = _number(text, whole=kind == "integer")
        least, most = self.schema["minimum"], self.schema["maximum"]
        if number is None or not least <= number <= most:
            word = "a whole number" if kind == "integer" else "a number"
            raise self._refusal(f"{word} from {least} to {most}", text)
        return number

    def _refusal(self, wanted: str, text: str) -> Refusal:
        shown = f"{self.name!r} has to be {wanted}, not {text[:_SHOWN_MAX]!r}"
        return bad_request(shown, param=self.name)


class Operation(NamedTuple):
    """One method on one path. ``codes`` are those of its own; `COMMON` come with every one.

    ``answer``: the name of the schema of an answer with status 200, or its media type if that is
    not JSON. ``body``: the name of the request's schema, if it has a body.
    """

    name: str
    method: str
    path: str
    summary: str
    answer: str
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    body: str | None = None
    body_may_be_missing: bool = False
    codes: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it wants no token."""
        return self.path == HEALTH

    @property
    def streams(self) -> bool:
        """Whether its answer may be a stream of events."""
        return self.answer == EVENTS or self.body == "ChatRequest"

    @property
    def is_native(self) -> bool:
        """Whether unknown parameters are refused: clients of OpenAI's routes send any."""
        return not self.path.startswith(("/v1/", HEALTH))

    @property
    def route(self) -> str:
        """The path as the router has it: a model's name may have slashes."""
        return self.path.replace("{model}", "{model:path}")

    def asked(self, query: bytes) -> dict[str, Any]:
        """The parameters of a query. Raises `Refusal`."""
        try:
            pairs = parse_qsl(
                query.decode("latin-1"), keep_blank_values=True, max_num_fields=_FIELDS_MAX
            )
        except ValueError:
            raise bad_request(f"the query has more than {_FIELDS_MAX} parameters") from None
        known = {parameter.name: parameter for parameter in self.query}
        values: dict[str, Any] = {}
        for name, text in pairs:
            if name not in known:
                names = ", ".join(known) or "none"
                shown = f"there is no parameter {name[:_SHOWN_MAX]!r} here; there is: {names}"
                raise bad_request(shown, param=name[:_SHOWN_MAX])
            if name in values:
                raise bad_request(f"{name!r} is there twice", param=name)
            values[name] = known[name].value(text)
        return values


def _number(text: str, *, whole: bool) -> float | int | None:
    if not _NUMBER.fullmatch(text):
        return None
    if whole:
        return int(text) if text.isdigit() else None
    number = float(text)
    return number if math.isfinite(number) else None


def _limit() -> Parameter:
    schema = {"type": "integer", "minimum": 1, "maximum": 1000, "default": PAGE}
    return Parameter("limit", schema, "how many at most")


def _text(name: str, most: int, meaning: str) -> Parameter:
    return Parameter(name, {"type": "string", "minLength": 1, "maxLength": most}, meaning)


def _key(name: str, meaning: str) -> Parameter:
    """Checked by its handler, which says what is wrong with it."""
    made = _text(name, KEY_LENGTH_MAX, meaning)
    return made._replace(schema={**made.schema, "pattern": f"^{PART}/{PART}$"})


_WORDS: Schema = {"type": "string", "minLength": 1}
_IDEMPOTENCY = _text("Idempotency-Key", 255, "makes a request that is sent again the same one")
_SESSION = "/sessions/{agent}/{name}"
_BODY = ("body_timeout", "body_too_large", "unsupported_media_type")
# What may become of a turn on a session, with a model or without.
_TURN = (
    "conversation_locked",
    "client_closed_request",
    "operator",
    "superseded",
    "cancelled",
    "storage_error",
    "shutting_down",
    "queue_full",
    "turn_limit",
    "hold_limit",
)
_READING = ("storage_error", "too_many_reads")

OPERATIONS = (
    Operation("health", "GET", HEALTH, "Whether the gateway takes in new work", "Health"),
    Operation("describe", "GET", "/openapi.json", "What is here, for programs", "Document"),
    Operation("listModels", "GET", "/v1/models", "The agents, as models", "ModelList"),
    Operation(
        "getModel",
        "GET",
        "/v1/models/{model}",
        "One agent, as a model",
        "Model",
        codes=("model_not_found",),
    ),
    Operation(
        "createChatCompletion",
        "POST",
        "/v1/chat/completions",
        "A message to an agent, and its reply: one turn on a session, if one is named",
        "ChatCompletion",
        body="ChatRequest",
        headers=(
            Parameter("X-Turnlock-Session", _WORDS, "the session: its key, or any text as a name"),
            Parameter("x-openclaw-session-key", _WORDS, "the same, by OpenClaw's name for it"),
            _IDEMPOTENCY,
        ),
        codes=(
            "unsupported_parameter",
            "model_not_found",
            *_BODY,
            *_TURN,
            "upstream_error",
            "model_limit",
        ),
    ),
    Operation(
        "listSessions",
        "GET",
        "/sessions",
        "The sessions, page by page",
        "Sessions",
        query=(
            _key("after", "the session key behind which the page begins: the last `next`"),
            _limit(),
        ),
        codes=("invalid_session_key", *_READING),
    ),
    Operation(
        "getSession",
        "GET",
        _SESSION,
        "One session: its holder, who waits, its limits, its last turns",
        "Session",
        codes=("invalid_session_key", "session_not_found", *_READING),
    ),
    Operation(
        "readTranscript",
        "GET",
        f"{_SESSION}/transcript",
        "The entries of a session, page by page, oldest first",
        "Transcript",
        query=(
            _text("after", 200, "the id of the entry behind which the page begins, or a `next`"),
            _limit(),
        ),
        codes=("invalid_session_key", "session_not_found", "entry_not_found", *_READING),
    ),
    Operation(
        "releaseSession",
        "POST",
        f"{_SESSION}/release",
        "Take a session from one turn, and from no other; says what became of it",
        "Release",
        body="ReleaseRequest",
        body_may_be_missing=True,
        codes=(
            "invalid_session_key",
            *_BODY,
            "turn_changed",
            "cannot_be_fenced",
            "not_fenced",
            *_READING,
        ),
    ),
    Operation(
        "appendEntries",
        "POST",
        f"{_SESSION}/entries",
        "Append entries to a session, all in one turn and as one",
        "Appended",
        query=(
            Parameter(
                "wait",
                {"type": "number", "minimum": 0, "maximum": 3600},
                "seconds to wait for a busy session; `limits.wait` unless given",
            ),
        ),
        headers=(_IDEMPOTENCY,),
        body="AppendRequest",
        codes=("invalid_session_key", *_BODY, *_TURN),
    ),
    Operation(
        "listLocks",
        "GET",
        "/locks",
        "Every lock, with what only the gateway knows of those that it holds",
        "Locks",
        codes=_READING,
    ),
    Operation(
        "getStatistics",
        "GET",
        "/statistics",
        "Counters of the store and of the gateway, and how old what hangs is",
        "Statistics",
    ),
    Operation(
        "listenToEvents",
        "GET",
        "/events",
        "What happens, as it happens, as server-sent events",
        EVENTS,
        query=(_key("session", "only what concerns this session key"),),
        headers=(_text("Last-Event-ID", 255, "the id of the last event that was seen"),),
        codes=("invalid_session_key", "too_many_listeners"),
    ),
)
