"""The keys of ADK's sessions in a store."""

from __future__ import annotations

from collections.abc import Callable

from ...session import session_key

Key = Callable[[str, str, str], str]
"""The session key for ``app_name``, ``user_id``, ``session_id``."""


def default_key(app_name: str, user_id: str, session_id: str) -> str:
    """``<app>/<user>:<session>``, with what a key cannot have encoded (`turnlock.session_key`)."""
    return session_key(agent(app_name), f"{_quoted(user_id)}:{session_id}")


def app_state(app_name: str) -> str:
    return session_key(agent(app_name), "app-state")


def user_state(app_name: str, user_id: str) -> str:
    return session_key(agent(app_name), f"user-state/{_quoted(user_id)}")


def agent(app_name: str) -> str:
    """The app's name as an agent's."""
    return session_key("app", app_name).partition("/")[2]


def _quoted(user_id: str) -> str:
    """A user's name without the characters that part it from what follows."""
    return user_id.replace("%", "%25").replace("/", "%2F").replace(":", "%3A")
