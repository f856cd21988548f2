"""Sessions of a database: what ``sessions read`` and ``release`` do with ``--store``.

There are no files to name them by and no process of this host to ask, so a session is its key, and
all that is known of a holder is what the database says.
"""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from ..backends import LockRecord
from ..doctor.findings import lock_as_json
from ..printable import printable
from ..session import parse_key
from ..store import Store
from ..turns.revoking import COMMAND_PATIENCE
from .exits import WrongInput
from .fate import marker_of
from .holder import holder_text
from .lock_table import lock_lines
from .naming import NoSuchSession
from .terminal import paint, say


def require_session(store: Store, key: str) -> str:
    """The key of a session that is there. Raises `NoSuchSession`, `InvalidSessionKey`."""
    session = str(parse_key(key))
    if store.status(session).record is None:
        raise NoSuchSession(session, store.location, "turnlock sessions --store URL lists them")
    return session


def release_stored(store: Store, key: str, *, yes: bool, as_json: bool) -> dict[str, Any]:
    """Take a session from the holder that was shown, and from no other; what became of it."""
    session = require_session(store, key)
    held = store.status(session).lock
    if held is None:
        return _said(session, None, released=False)
    if not as_json:
        for line in lock_lines([held]):
            say(line)
    if not yes:
        _ask(session, held, as_json)
    settlement = store.supersede(session, turn_id=held.turn_id, patience=COMMAND_PATIENCE)
    if settlement is None:
        return _said(session, held, released=False)
    return _said(session, held, released=True, marker=marker_of(settlement))


def lines_of(fate: dict[str, Any]) -> list[str]:
    """The same for people."""
    title = printable(fate["session"])
    if fate["holder"] is None:
        return [f"session {title} is free: nobody holds it"]
    if not fate["released"]:
        return [f"session {title}: its holder has ended meanwhile; nothing was done"]
    marker = {
        "written": "its error marker was written; the history is kept",
        "owed": "its error marker could not be written yet: the next turn writes it",
        None: "it owed no error marker; the history is kept",
    }
    return [
        paint(f"released {title}", "good"),
        "  its holder is fenced: whatever it still writes is refused",
        f"  {marker[fate['marker']]}",
    ]


def _said(
    session: str, held: LockRecord | None, *, released: bool, marker: str | None = None
) -> dict[str, Any]:
    return {
        "session": session,
        "released": released,
        "holder": None if held is None else lock_as_json(held),
        "fenced": True if released else None,
        # It may be of any host.
        "process": None if held is None else "unknown",
        "marker": marker,
    }


def _ask(session: str, held: LockRecord, as_json: bool) -> None:
    if as_json or sys.stdin is None or not sys.stdin.isatty():
        raise WrongInput(
            f"session {session!r} was not released: there is no terminal to ask on, and it is held"
            f" by {holder_text(held)}",
            hint=f"say that you mean it: turnlock release {shlex.quote(session)} --yes --store URL",
        )
    if not click.confirm("Take the session from it?", err=True):
        raise WrongInput(f"session {session!r} was not released: you said no")
