"""Taking secrets out of text that is about to be written or sent.

Configured secrets first, by value, as no pattern knows them all; then what looks like a credential.
A text that was cut on its way here may have been cut in the middle of a secret: its beginning, in
front of the sign of a cut, is taken out as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "[redacted]"
# What stands where text was left out.
CUT = "…"
# Shorter values are words, and hiding them would hide the error as well.
_SECRET_LENGTH_MIN = 6
_TEXT_MAX = 20_000

_PATTERNS = (
    r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}",
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{12,}",
    r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abposr]-|hf_|gsk_|AIza)[A-Za-z0-9_-]{12,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
    r"(?i)\b[a-z]+://[^/\s:@]{1,200}:[^/\s@]{1,200}@",
    r"(?i)(?:api[_-]?key|access[_-]?token|secret|password|authorization)"
    r"[\"']?\s*[:=]\s*[\"']?[^\s\"',;&]{6,}",
)
# Compiled at the first error, by re's own cache: most processes never get there.
_TAG = r"(?ai)<(?:(script|style)\b)?"
_ELEMENT_END = r"(?ai)</{name}\s*>"
_TAG_MAX = 2000


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without secrets, HTML tags and repeated white space.

    ``secrets`` are removed wherever they stand, and so are 6 or more characters that one begins
    with in front of a ``…``; values of fewer than 6 characters are not.
    """
    known = [one for one in secrets if len(one) >= _SECRET_LENGTH_MIN]
    if len(text) > _TEXT_MAX:
        text = text[:_TEXT_MAX] + CUT
    for secret in sorted(known, key=len, reverse=True):
        text = _without(text, secret)
    for pattern in _PATTERNS:
        text = re.sub(pattern, HIDDEN, text)
    if "<" in text:
        text = _without_tags(text)
    return " ".join(text.split())


def _without_tags(text: str) -> str:
    """The text with a space for each tag, and for each script and style with what it contains.

    Not by one pattern for all, which would look from each of many tags for an end that never comes.
    """
    kept: list[str] = []
    endless: set[str] = set()
    done = 0
    for tag in re.finditer(_TAG, text):
        if tag.start() < done:
            continue
        end = _end_of_element(text, tag, endless) or _end_of_tag(text, tag.start())
        if end:
            kept += text[done : tag.start()], " "
            done = end
    return "".join(kept) + text[done:]


def _end_of_element(text: str, tag: re.Match[str], endless: set[str]) -> int:
    name = (tag[1] or "").lower()
    if not name or name in endless:
        return 0
    found = re.compile(_ELEMENT_END.format(name=name)).search(text, tag.end())
    if found is None:
        endless.add(name)
        return 0
    return found.end()


def _end_of_tag(text: str, start: int) -> int:
    """The end of a tag whose inside is not too long to be one; else 0."""
    return text.find(">", start, start + _TAG_MAX + 2) + 1


def _without(text: str, secret: str) -> str:
    text = text.replace(secret, HIDDEN)
    if CUT in text:
        for length in range(len(secret) - 1, _SECRET_LENGTH_MIN - 1, -1):
            text = text.replace(secret[:length] + CUT, HIDDEN + CUT)
    return text
