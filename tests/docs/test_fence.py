"""The fence of the page on side effects: what a later turn has touched, an earlier one cannot."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest

import turnlock
from tests.docs.pages import ROOT, blocks
from tests.helpers import PATIENCE
from tests.postgres.fixtures import TestDatabase

PAGE = ROOT / "docs/howto/fence-side-effects.md"
TABLE, FENCE = (block.text for block in blocks("sql", PAGE))


class Fenced:
    """An effect in a database, as the page has it: check and effect in one transaction."""

    def __init__(self, db: Any, fence: str) -> None:
        self._db = db
        self._fence = fence
        db.execute(TABLE)
        db.commit()

    def passes(self, session: str, epoch: int) -> bool:
        done = self._db.execute(self._fence, {"session": session, "epoch": int(epoch)})
        self._db.commit()
        return bool(done.rowcount)


def two_turns_on(store: turnlock.Store, fenced: Fenced) -> list[bool]:
    """Of a turn, of one that took its session, and of the first one once more."""
    passed = []
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a") as zombie:
        epoch = zombie.epoch
        passed.append(fenced.passes(zombie.session, epoch))
        store.revoke("main/a")
        with store.turn("main/a", wait=PATIENCE) as later:
            passed.append(fenced.passes(later.session, later.epoch))
        passed.append(fenced.passes(zombie.session, epoch))
        zombie.check()
    return passed


def test_sqlite_refuses_a_turn_once_a_later_one_was_there(state: Path) -> None:
    with turnlock.open_store(state) as store:
        db = sqlite3.connect(":memory:")
        assert two_turns_on(store, Fenced(db, FENCE)) == [True, True, False]
        db.close()


@pytest.mark.postgres
def test_postgresql_refuses_it_as_well(state: Path, postgres: TestDatabase) -> None:
    names = FENCE.replace(":session", "%(session)s").replace(":epoch", "%(epoch)s")
    with turnlock.open_store(state) as store, psycopg.connect(postgres.url) as db:
        assert two_turns_on(store, Fenced(db, names)) == [True, True, False]


def test_the_sql_in_the_python_of_the_page_is_that_of_the_page() -> None:
    (python,) = (block.text for block in blocks("python", PAGE) if "FENCE = " in block.text)
    assert " ".join(FENCE.split()) in " ".join(python.split())
    assert TABLE.strip() in python
