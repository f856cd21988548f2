"""``turnlock release``."""

from __future__ import annotations

import sys

import click

from ..backends import LockRecord
from ..backends.files.fileops import FileOps
from ..doctor.claims import read_claim
from ..doctor.examination import command_line
from ..errors import TurnlockError
from ..session import SessionKey, parse_key
from ..store import Store
from .exits import WrongInput
from .fate import FREE, Fate, fate_of
from .jsonout import say_json
from .lock_table import holder_text
from .options import common_options, existing_store, json_option, state_directory
from .sessions import require_session
from .terminal import say


class NotReleased(TurnlockError):
    """Somebody said no, or it was not the holder any more. Attributes: ``session``, ``why``."""

    def __init__(self, session: str, why: str) -> None:
        self.session = session
        self.why = why
        super().__init__(f"session {session!r} was not released: {why}")


@click.command()
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@common_options
@click.pass_context
def command(ctx: click.Context, key: str, yes: bool, as_json: bool) -> None:
    """Take session KEY from whoever holds it, and free it.

    The holder is fenced: whatever it writes from then on is refused. Its turn gets an error
    marker; nothing of the transcript is removed. Says what became of the holder.
    """
    session = parse_key(key)
    store = existing_store(ctx)
    root = state_directory(ctx)
    holder = find_lock(store, session)
    if holder is None:
        require_session(root, session)
        _report(FREE, session, as_json)
        return
    if not as_json:
        say(f"session {session} is held by {holder_text(holder)}")
    if not yes:
        _ask(session, root, as_json)
        _require_same(holder, find_lock(store, session), session)
    claim = read_claim(FileOps(), holder.path)
    released = store.revoke(str(session), "operator")
    fate = fate_of(holder, claim, store.statistics()) if released else FREE
    _report(fate, session, as_json)


def find_lock(store: Store, session: SessionKey) -> LockRecord | None:
    return next((lock for lock in store.locks() if lock.session == str(session)), None)


def _report(fate: Fate, session: SessionKey, as_json: bool) -> None:
    if as_json:
        say_json(fate.as_json(session), indent=2)
    for line in () if as_json else fate.lines(session):
        say(line)


def _ask(session: SessionKey, root: str, as_json: bool) -> None:
    if as_json or sys.stdin is None or not sys.stdin.isatty():
        raise WrongInput(
            f"session {str(session)!r} was not released: there is no terminal to ask on",
            hint=f"say that you mean it: {command_line(f'release {session} --yes', root)}",
        )
    if not click.confirm("Take the session from it?", err=True):
        raise NotReleased(str(session), "you said no")


def _require_same(shown: LockRecord, now: LockRecord | None, session: SessionKey) -> None:
    """The answer was about that holder, and nobody else."""
    if now is None or (now.pid, now.turn_id) != (shown.pid, shown.turn_id):
        who = f"held by {holder_text(now)}" if now is not None else "free"
        why = f"while you were asked its holder ended, and it is {who} now"
        raise NotReleased(str(session), why)
