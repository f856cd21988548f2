"""What the failures of all providers have in common: their kinds, and how they are told.

==============  ==================================================================
kind            what happened
==============  ==================================================================
``request``     the messages cannot be put into the provider's form: nothing was sent
``connect``     there was no connection: nothing was asked
``status``      the endpoint answered with an error, as HTTP status or in the stream
``protocol``    it answered something that is no reply
``interrupted``  the answer ended before its end
==============  ==================================================================
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from ..clock import SystemClock
from ..redaction import CUT

# The transport has one class for a peer that left and for one that speaks no HTTP.
_PEER_LEFT = re.compile("disconnected|closed connection")
_CAUSES_MAX = 20
_DETAIL_MAX = 300
# Enough for any head of a page; the rest of a big one is not worth the time.
_RAW_MAX = 8192
_INVISIBLE = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def kind_of_transport(http: Any, error: BaseException) -> str:
    """The kind of a failure of ``http`` (httpx or httpx2), or of the system below it."""
    never_connected = (
        http.ConnectError,
        http.ConnectTimeout,
        http.ProxyError,
        http.UnsupportedProtocol,
    )
    if isinstance(error, never_connected):
        return "connect"
    if isinstance(error, http.DecodingError | http.TooManyRedirects):
        return "protocol"
    if isinstance(error, http.RemoteProtocolError) and not _PEER_LEFT.search(str(error)):
        return "protocol"
    return "interrupted"


def deepest(error: BaseException) -> BaseException:
    """Where the system's words are: the layers above say no more than "failed"."""
    for _ in range(_CAUSES_MAX):
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error


def plain(text: str) -> str:
    """One line of at most 300 printable characters, without HTML; ``…`` ends what was cut."""
    is_cut = len(text) > _RAW_MAX
    text = text[:_RAW_MAX]
    if "<" in text:
        text = html.unescape(_TAG.sub(" ", _INVISIBLE.sub(" ", text)))
    visible = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(visible.split())
    is_cut = is_cut or len(line) > _DETAIL_MAX
    return f"{line[: _DETAIL_MAX - 1]}{CUT}" if is_cut else line


def words(body: object) -> str:
    """What an error's body says, wherever the provider puts its words."""
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return str(body)
    for _ in range(3):
        if not isinstance(body, Mapping):
            break
        body = next((body[key] for key in ("error", "message", "detail") if body.get(key)), None)
    return body if isinstance(body, str) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from a Retry-After header (RFC 9110, 10.2.3), in either of its forms.

    A date is compared with the ``Date`` of the same answer, so that two clocks that differ do no
    harm; where there is none, with the clock of this host. A date that has passed is 0.
    """
    said = headers.get("retry-after", "")
    try:
        seconds = float(said)
    except ValueError:
        until = _date(said)
        if until is None:
            return None
        now = _date(headers.get("date", ""))
        return max(0.0, until - (SystemClock().wall() if now is None else now))
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _date(text: str) -> float | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    # A date of HTTP is in GMT also when it does not say so.
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
