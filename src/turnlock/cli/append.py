"""``turnlock append``."""

from __future__ import annotations

import click

from ..errors import TranscriptError
from ..session import SessionKey, parse_key
from ..store import Store
from ..transcript.entries import Entry, epoch_of
from ..turns.sync import Turn
from .exits import WrongInput
from .input_lines import InputLines, parse_entry
from .jsonout import say_json
from .options import common_options, json_option, store_option, store_to_write, turn_options
from .revocation import told_of_revocation
from .signals import ending_signals_raise


@click.command()
@click.argument("key")
@turn_options
@json_option
@store_option
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    key: str,
    wait: float | None,
    max_hold: float,
    turn_id: str | None,
    as_json: bool,
) -> None:
    """Append entries to session KEY: JSON lines on stdin, all in one turn.

    For every entry one line {"id", "epoch"} is printed as soon as the entry is durable. An entry
    is an object with a "type", such as {"type": "message", "message": {"role": "user",
    "content": [{"type": "text", "text": "hello"}]}}. Its own "id" is kept, and an id that the
    session has already is acknowledged without being written again.

    A line that is no entry ends the turn with an error marker, and the command with exit code 2;
    what was acknowledged stays. The session is taken when the first line has come.

    --json: errors are JSON as well.
    """
    session = parse_key(key)
    lines = InputLines()
    with ending_signals_raise(), lines:
        first = lines.next()
        if first is None:
            return
        # Before the session is taken: a mistake in the first line leaves no trace.
        parse_entry(*first)
        store = store_to_write(ctx)
        with (
            store,
            told_of_revocation(store, lines.wake),
            store.turn(key, wait=wait, max_hold=max_hold, turn_id=turn_id) as turn,
        ):
            _append_all(Appender(store, session, turn), first, lines)


class Appender:
    """Appends entry by entry, and knows the epochs of those that were there already."""

    def __init__(self, store: Store, session: SessionKey, turn: Turn) -> None:
        self.turn = turn
        self._store = store
        self._key = str(session)
        self._known: dict[str, int | None] | None = None

    def append(self, number: int, entry: Entry) -> dict[str, object]:
        """Its acknowledgement. Raises `WrongInput` for what is no entry."""
        before = self._epochs() if "id" in entry else {}
        try:
            [identity] = self.turn.append(entry)
        except TranscriptError as error:
            if error.path != self._key:
                raise
            # About the entry, not about the file.
            raise WrongInput(error.why, line=number) from error
        if identity in before:
            return {"id": identity, "epoch": before[identity]}
        epoch = self.turn.epoch
        if self._known is not None:
            self._known[identity] = epoch
        return {"id": identity, "epoch": epoch}

    def _epochs(self) -> dict[str, int | None]:
        """The epochs of all entries by id. Read once: nobody else writes while we hold."""
        if self._known is None:
            self._known = {
                entry["id"]: epoch_of(entry)
                for entry in self._store.read(self._key)
                if isinstance(entry.get("id"), str)
            }
        return self._known


def _append_all(appender: Appender, first: tuple[int, bytes], lines: InputLines) -> None:
    line: tuple[int, bytes] | None = first
    while line is not None:
        say_json(appender.append(line[0], parse_entry(*line)))
        line = lines.next()
        if lines.woken:
            appender.turn.check()
