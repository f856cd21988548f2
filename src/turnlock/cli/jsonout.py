"""What programs see: JSON in ASCII, on stdout, errors too.

With ``--json`` stdout holds JSON and nothing else. A command that fails prints one line
``{"error": {"type", "message", "hint", …}}``, where the other fields are the facts of the error:
``session``, ``holder_pid``, ``holder_turn``, ``age``, ``limit``, ``waited`` of a busy session, for
example. Durations are seconds. An entry's number that no double can be, 1e999, is null, as in
JavaScript.
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import TurnlockError
from .terminal import say

# Facts that are JSON as they are; any other is told as text.
_PLAIN = (str, int, float, bool, dict, type(None))


def to_json(value: object, *, indent: int | None = None) -> str:
    """JSON without a byte that a terminal acts on."""
    try:
        text = json.dumps(value, allow_nan=False, indent=indent)
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        text = json.dumps(finite, indent=indent)
    return text.replace("\x7f", "\\u007f")


def say_json(value: object, *, indent: int | None = None) -> None:
    say(to_json(value, indent=indent))


def error_object(error: Exception) -> dict[str, Any]:
    """The facts of an error."""
    facts = vars(error) if isinstance(error, TurnlockError) else {}
    shown = {
        name: value if isinstance(value, _PLAIN) else str(value)
        for name, value in facts.items()
        if not name.startswith("_") and name != "hint"
    }
    hint = error.hint if isinstance(error, TurnlockError) else ""
    return {"type": type(error).__name__, "message": str(error), "hint": hint or None, **shown}
