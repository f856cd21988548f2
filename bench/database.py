"""PostgreSQL for one measure: a durable server of its own, and a turn's messages without Turnlock.

The floor of everything that a database does for us is the same text, sent by a bare connection of
the same client library. So the messages of a turn are recorded, and sent again, with the numbers
that the rows have by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import namedtuple_row
from tests.postgres.server import programs, running

import turnlock
from turnlock.backends.postgres import PostgresBackend, migrate
from turnlock.backends.postgres.database import Database
from turnlock.backends.postgres.sql import SETTINGS
from turnlock.store import Store

from .results import Result
from .subjects.ours import TEXT

ABSENT = "PostgreSQL: its server's programs are not installed here"
_NAME = "turnlock"
# As a server in service is set; the tests' own waits for no disk.
_DURABLE = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
}
_numbers = count()


def unmeasured(measure: str) -> Result:
    """What a measure says where there is no server."""
    return Result(measure, (), (), (ABSENT,))


@contextmanager
def database(directory: str) -> Iterator[str]:
    """The URL of a database with the tables, on a server that keeps its files in the directory."""
    found = programs()
    assert found is not None
    with running(found, inside=directory, settings=_DURABLE) as server:
        url = server.make_database(_NAME)
        migrate(url)
        yield url


class Message(NamedTuple):
    """One transaction: its text, and the values in it."""

    names: tuple[str, ...]
    text: str
    values: dict[str, Any]


class Recorder(Database):
    """Notes every message that it sends."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.said: list[Message] = []

    def run_each(
        self, operation: str, *names: str, again: bool = False, bulk: int = 0, **values: Any
    ) -> list[list[Any]]:
        self.said.append(Message(names, self.message(*names, bulk=bulk), values))
        return super().run_each(operation, *names, again=again, bulk=bulk, **values)


class TurnMessages(NamedTuple):
    """Of a turn with one append: what it sends for each of its steps."""

    take: Message
    append: Message
    end: Message
    release: Message


def recorded(url: str) -> TurnMessages:
    """The messages of a turn on a session that is there."""
    recorder = Recorder(url)
    with Store(PostgresBackend(url, database=recorder), location="recorded") as store:
        for _ in range(2):
            recorder.said.clear()
            with store.turn("main/recorded") as turn:
                turn.append(turnlock.user(TEXT))
        return TurnMessages(*(one for one in recorder.said if one.names != ("renew",)))


class BareTurns:
    """Turns on a session of its own, each step one message on one connection."""

    def __init__(self, url: str, messages: TurnMessages) -> None:
        self._messages = messages
        self.connection = psycopg.connect(
            url,
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=psycopg.ClientCursor,
            row_factory=namedtuple_row,
        )
        # A session is made by whoever writes it first; how is no part of this.
        self._name = f"bare-{next(_numbers)}"
        with turnlock.open_store(url) as store, store.turn(f"main/{self._name}") as turn:
            turn.append(turnlock.user(TEXT))

    def take(self) -> None:
        row = self._send(self._messages.take, name=self._name)[0]
        self._fence = {"session_id": row.id, "epoch": row.epoch}
        self._size = row.size

    def append(self) -> None:
        self._write(self._messages.append)

    def end(self) -> None:
        self._write(self._messages.end)

    def give_back(self) -> None:
        assert self._send(self._messages.release, **self._fence)

    def release(self) -> None:
        """With the terminal entry before it."""
        self.end()
        self.give_back()

    def once(self) -> None:
        self.take()
        self.append()
        self.release()

    def close(self) -> None:
        self.connection.close()

    def _write(self, message: Message) -> None:
        moved = self._size - message.values["size"]
        offsets = [offset + moved for offset in message.values["offsets"]]
        assert self._send(message, **self._fence, size=self._size, offsets=offsets)
        self._size += message.values["bytes"]

    def _send(self, message: Message, **values: Any) -> list[Any]:
        cursor = self.connection.execute(message.text, message.values | values)
        # The settings in front give nothing.
        for _ in range(SETTINGS.count(";")):
            cursor.nextset()
        return cursor.fetchall()
