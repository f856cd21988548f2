"""Session keys: ``<agent>/<name>``, and how any other text becomes one.

A key names a file (``agents/<agent>/sessions/<name>.jsonl``), so it is hostile until it was
checked: no separator, no leading dot, nothing that a shell or a terminal would act on.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import InvalidSessionKey

PART_LENGTH_MAX = 128
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,127}", re.ASCII)
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@+-")
# A digest keeps two long texts apart that share their first characters.
_DIGEST_LENGTH = 32


class SessionKey(NamedTuple):
    """A checked session key. ``str()`` gives ``<agent>/<name>`` back."""

    agent: str
    name: str

    def __str__(self) -> str:
        return f"{self.agent}/{self.name}"


def parse_key(key: object) -> SessionKey:
    """Check a session key.

    Raises `InvalidSessionKey` unless ``key`` is text of the form ``<agent>/<name>``, each part
    ``[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,127}``.
    """
    if isinstance(key, SessionKey):
        key = str(key)
    if not isinstance(key, str):
        raise InvalidSessionKey(key, f"it is a {type(key).__name__}, not text")
    agent, slash, name = key.partition("/")
    if not slash:
        raise InvalidSessionKey(key, "it has no '/' between agent and name")
    for part, value in (("agent", agent), ("name", name)):
        if not _PART.fullmatch(value):
            raise InvalidSessionKey(key, _why_not(part, value))
    return SessionKey(agent, name)


def is_part(text: str) -> bool:
    """Whether the text can be the agent or the name of a session key."""
    return _PART.fullmatch(text) is not None


def session_key(agent: str, text: str) -> str:
    """A session key for any text: a chat id, an e-mail address, a URL.

    Text that can be a name stays as it is. In other text every byte that is not plain becomes
    ``=XX`` (hexadecimal, of its UTF-8 form), as in quoted-printable, so different texts get
    different keys. What would be longer than 128 characters is cut and ends in a SHA-256 digest.
    Raises `InvalidSessionKey` when ``agent`` is no agent name.
    """
    if not isinstance(agent, str) or not is_part(agent):
        raise InvalidSessionKey(agent, "the agent part has to be a plain name")
    if not isinstance(text, str):
        raise InvalidSessionKey(text, f"it is a {type(text).__name__}, not text")
    return f"{agent}/{_encode(text)}"


def _encode(text: str) -> str:
    # A text that already looks encoded is encoded again: "a=2F" and "a/" must not share a session.
    if is_part(text) and "=" not in text:
        return text
    raw = text.encode("utf-8", "surrogatepass")
    encoded = "".join(
        chr(byte) if chr(byte) in _PLAIN and (i or chr(byte).isalnum()) else f"={byte:02X}"
        for i, byte in enumerate(raw)
    )
    if not encoded or not encoded[0].isalnum():
        # "=." comes from no text, so "/a" and "x/a" stay apart.
        encoded = f"x=.{encoded}"
    if len(encoded) > PART_LENGTH_MAX:
        import hashlib

        digest = hashlib.sha256(raw).hexdigest()[:_DIGEST_LENGTH]
        encoded = f"{encoded[: PART_LENGTH_MAX - _DIGEST_LENGTH - 2]}=-{digest}"
    return encoded


def _why_not(part: str, value: str) -> str:
    if not value:
        return f"its {part} is empty"
    if len(value) > PART_LENGTH_MAX:
        return f"its {part} has {len(value)} characters and {PART_LENGTH_MAX} is the most"
    if not (value[0].isascii() and value[0].isalnum()):
        return f"its {part} starts with {value[0]!r}, not with a letter or a digit"
    bad = next(c for c in value if not (c.isascii() and (c.isalnum() or c in "._:@+=-")))
    return f"its {part} contains {bad!r}"
