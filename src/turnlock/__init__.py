"""Turnlock keeps AI-agent sessions from wedging when a model call hangs.

::

    import turnlock

    store = turnlock.open_store("state")
    async with store.turn("main/alice") as turn:
        await turn.append(turnlock.user("hello"))
        async for delta in turn.watch(model(await turn.messages())):
            ...
        await turn.append(turnlock.assistant(reply))
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import (
        AlreadyHeld,
        ConfigError,
        GuardTimeout,
        InvalidSessionKey,
        LeaseRevoked,
        LimitsError,
        LockPathError,
        ModelError,
        SessionBusy,
        StoreError,
        TranscriptError,
        TurnlockError,
    )
    from .integrations.guarding import guard
    from .limits import Limits
    from .lock import SessionLock
    from .session import session_key
    from .store import Store, open_store
    from .transcript.entries import assistant, user
    from .turns.scope import current_turn

__version__ = "0.1.0"

__all__ = [
    "AlreadyHeld",
    "ConfigError",
    "GuardTimeout",
    "InvalidSessionKey",
    "LeaseRevoked",
    "Limits",
    "LimitsError",
    "LockPathError",
    "ModelError",
    "SessionBusy",
    "SessionLock",
    "Store",
    "StoreError",
    "TranscriptError",
    "TurnlockError",
    "__version__",
    "assistant",
    "current_turn",
    "guard",
    "open_store",
    "session_key",
    "user",
]

# Imported at first use: a service that only names turnlock at its start pays nothing for it.
_MODULES = {
    "Limits": "limits",
    "SessionLock": "lock",
    "Store": "store",
    "assistant": "transcript.entries",
    "current_turn": "turns.scope",
    "guard": "integrations.guarding",
    "open_store": "store",
    "session_key": "session",
    "user": "transcript.entries",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_MODULES.get(name, 'errors')}", __name__)
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
