"""The statements, one in a file of its own, and what every one of them is run with."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
MIGRATIONS = _HERE / "migrations"
# Of several statements, in which their names stand in braces.
_PARTS = ("claim", "owed")

# In front of every statement, in the same message and so in the same transaction: behind a pooler a
# setting of the session would be another client's. The database's own defaults may be anything.
SETTINGS = (
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"
    # What is not named with its schema is PostgreSQL's own, whatever others have put in theirs.
    "SET LOCAL search_path = pg_catalog;"
    "SET LOCAL lock_timeout = {lock};"
    "SET LOCAL statement_timeout = {statement};"
    "SET LOCAL idle_in_transaction_session_timeout = {statement};"
    "SET LOCAL synchronous_commit = {commit};\n"
)


@cache
def statement(name: str) -> str:
    """The statement of ``sql/NAME.sql``, without the lines that are comments."""
    text = without_comments((_HERE / f"{name}.sql").read_text("utf-8"))
    for part in _PARTS:
        if f"{{{part}}}" in text:
            text = text.replace(f"{{{part}}}", statement(part))
    return text


def without_comments(text: str) -> str:
    kept = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(kept).strip()


def settings(*, lock: float, statement: float, durable: bool) -> str:
    """Bounds in seconds; ``durable``: what is acknowledged survives the server's power loss."""
    return SETTINGS.format(
        lock=round(lock * 1000),
        statement=round(statement * 1000),
        commit="on" if durable else "off",
    )
