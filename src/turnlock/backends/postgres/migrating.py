"""The tables and their versions.

A migration is a named SQL file, applied once, in order, each in a transaction of its own that also
says so in ``turnlock.migration``. Whoever migrates locks that table first, so of two only one does
it. Each version names the oldest version whose programs go on working with it (``works_with``): a
migration adds, and what it takes away it takes away in a later version. So gateways of the version
before go on while the tables change under them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import psycopg

from ...errors import StoreError
from .database import MIGRATE, Database, Row, as_store_error
from .sql import MIGRATIONS, without_comments

# version -> the oldest version of the tables that a program of that version needs.
WORKS_WITH = {1: 1}
VERSION = max(WORKS_WITH)

_IS_PREPARED = "SELECT to_regclass('turnlock.migration') IS NOT NULL"
_BEGIN = """
CREATE SCHEMA IF NOT EXISTS turnlock;
CREATE TABLE IF NOT EXISTS turnlock.migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    works_with integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
# Who takes longer for the lock than this holds up the gateways that wait behind it.
_SETTINGS = "SET LOCAL lock_timeout = '5s'; SET LOCAL search_path = pg_catalog"
_CREATE_ATTEMPTS = 3
_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


class Migration(NamedTuple):
    version: int
    name: str
    text: str


def migrations() -> list[Migration]:
    """All that there are, oldest first."""
    found = []
    for path in sorted(MIGRATIONS.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        assert match is not None, path
        text = without_comments(path.read_text("utf-8"))
        found.append(Migration(int(match[1]), match[2], text))
    return found


def migrate(url: str) -> list[Migration]:
    """Bring the tables to this program's version; what was applied, oldest first.

    Safe while gateways run, and when two do it at once. Raises `StoreError` when the database
    cannot be reached or changed, when its encoding is not UTF8, and when its tables are of a newer
    version.
    """
    database = Database(url)
    location = database.location
    with as_store_error(location, "migrate"), database.connect() as connection:
        _check_encoding(connection, location)
        _prepare(connection)
        applied = [one for one in migrations() if _apply(connection, one)]
        newest = _value(connection, "SELECT max(version) FROM turnlock.migration")
    if newest > VERSION:
        why = f"its tables are of version {newest}, and this program knows {VERSION}"
        raise StoreError(location, "migrate", why, "use the newer turnlock")
    return applied


def check_version(database: Database) -> None:
    """Raises `StoreError` unless this program works with the database's tables."""
    rows = database.run("open", "version", again=True)
    if not rows or rows[0].version < VERSION:
        found = rows[0].version if rows else "none"
        why = f"its tables are of version {found}, and this program needs {VERSION}"
        raise StoreError(database.location, "open", why, MIGRATE)
    if rows[0].works_with > VERSION:
        why = (
            f"its tables are of version {rows[0].version}, which needs programs of"
            f" {rows[0].works_with}; this one is of {VERSION}"
        )
        raise StoreError(database.location, "open", why, "use the newer turnlock")


def _value(connection: psycopg.Connection[Row], query: str) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def _check_encoding(connection: psycopg.Connection[Row], location: str) -> None:
    encoding = _value(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        why = f"its encoding is {encoding}; transcripts are UTF-8"
        raise StoreError(location, "migrate", why, "CREATE DATABASE … ENCODING 'UTF8'")


def _prepare(connection: psycopg.Connection[Row]) -> None:
    for attempt in range(_CREATE_ATTEMPTS):
        try:
            if not _value(connection, _IS_PREPARED):
                connection.execute(_BEGIN)
            return
        except psycopg.errors.UniqueViolation:
            # IF NOT EXISTS looks and then makes; somebody was quicker in between.
            if attempt == _CREATE_ATTEMPTS - 1:
                raise


def _apply(connection: psycopg.Connection[Row], one: Migration) -> bool:
    with connection.transaction():
        connection.execute(_SETTINGS)
        connection.execute("LOCK TABLE turnlock.migration IN SHARE ROW EXCLUSIVE MODE")
        done = "SELECT 1 FROM turnlock.migration WHERE version = %s"
        if connection.execute(done, (one.version,)).fetchone():
            return False
        connection.execute(one.text)
        connection.execute(
            "INSERT INTO turnlock.migration (version, name, works_with) VALUES (%s, %s, %s)",
            (one.version, one.name, WORKS_WITH[one.version]),
        )
    return True
