"""What is made sure of a request before any SDK gets it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .protocol import Message


def sendable(messages: Sequence[Message]) -> list[Message]:
    """The messages, with U+FFFD for each half of a cut character.

    A lone surrogate has no UTF-8 form. Once in a transcript, it would fail every later turn.
    """
    text = json.dumps(list(messages), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        repaired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        made: list[Message] = json.loads(repaired)
        return made
    return list(messages)


def checked_key(api_key: str | None) -> str:
    """The key without white space around it, empty for none.

    Raises `ValueError` for one that no HTTP header can carry: the transport would refuse it in
    words that quote the header, and with it the key.
    """
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the api_key has characters that no HTTP header can carry")
    return key
