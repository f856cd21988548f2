"""``doctor --store``: what it finds in a database, what it repairs; else it changes nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

import turnlock
from tests.cli.running import Done
from tests.conformance.test_backend import KEY, append, line, request, taken
from tests.helpers import kinds
from tests.postgres.fixtures import TestDatabase
from turnlock.backends.postgres import PostgresBackend
from turnlock.cli import frame
from turnlock.doctor import database as examining
from turnlock.doctor.database import examine_database
from turnlock.store import Store
from turnlock.testing import ManualClock

pytestmark = pytest.mark.postgres


@pytest.fixture
def doctor(
    postgres: TestDatabase, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    def run(*arguments: str) -> Done:
        code = frame.run(["doctor", *arguments, "--store", postgres.url])
        return Done(code, *capsys.readouterr())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnlock.cli.frame.log_errors_only", lambda: None)
        yield run


def found(postgres: TestDatabase, *, fix: bool = False, deep: bool = False) -> list[str]:
    backend = postgres.backend()
    with Store(backend, location="database") as store:
        report = examine_database(backend, store, fix=fix, deep=deep)
    # The tests' own server does not wait for its disk.
    return [one.check for one in report.findings if one.check != "database-not-durable"]


def expire(postgres: TestDatabase) -> None:
    postgres.execute("UPDATE turnlock.session SET lease_until = turnlock.clock()")


def test_a_database_in_order_has_no_findings(postgres: TestDatabase) -> None:
    with Store(postgres.backend(), location="test") as store, store.turn("main/a") as turn:
        turn.append(turnlock.user("x"))
        assert found(postgres, deep=True) == []


def test_a_lease_that_ran_out_is_found_and_reclaimed(
    postgres: TestDatabase, doctor: Callable[..., Done]
) -> None:
    taken(postgres.backend(), "T1")
    expire(postgres)
    before = postgres.rows("SELECT * FROM turnlock.session")
    done = doctor("--json")
    assert done.code == 1
    (lock,) = done.object["locks"]
    assert (lock["turn_id"], lock["stale"], lock["reasons"]) == ("T1", True, ["lease-expired"])
    assert postgres.rows("SELECT * FROM turnlock.session") == before
    fixed = doctor("--fix", "--json").object
    assert (fixed["summary"]["stale"], fixed["summary"]["removed"]) == (1, 1)
    with Store(postgres.backend(), location="test") as store:
        assert kinds(store) == ["turn", "interrupted"]


def test_each_lease_is_told_with_its_epoch_and_the_tables_with_their_version(
    postgres: TestDatabase, doctor: Callable[..., Done]
) -> None:
    first = taken(postgres.backend(), "T1")
    postgres.backend().release(first)
    taken(postgres.backend(lease_time=3600.0), "T2")
    told = doctor("--json").object
    (lock,) = told["locks"]
    assert (lock["turn_id"], lock["epoch"], lock["host"]) == ("T2", 2, socket.gethostname())
    assert 0 < lock["lease_seconds_left"] <= 3600
    assert told["database"]["schema_version"] == told["database"]["program_version"]
    assert abs(told["database"]["clock_seconds_ahead"]) < 60
    shown = doctor().out
    assert "epoch 2" in shown
    assert "tables    version" in shown
    # A lease that ran out for good has none left.
    postgres.execute("UPDATE turnlock.session SET lease_until = '-infinity'")
    (lock,) = doctor("--json").object["locks"]
    assert lock["lease_seconds_left"] == 0


def test_a_turn_over_its_limit_is_a_warning_and_left_alone(
    postgres: TestDatabase, doctor: Callable[..., Done]
) -> None:
    backend = postgres.backend(lease_time=3600.0)
    lease = backend.take(KEY, request("T1", max_hold=10.0))
    postgres.move_clock(11.0)
    assert found(postgres, fix=True) == ["over-limit", "database-clock"]
    assert backend.holds(lease)  # type: ignore[arg-type]
    assert "turnlock release main/a" in doctor().out


def test_a_turn_that_nobody_ended_is_found_deep_and_marked(postgres: TestDatabase) -> None:
    backend = postgres.backend()
    lease = taken(backend)
    append(backend, lease, line("1"))
    backend.release(lease)
    assert found(postgres) == []
    assert found(postgres, deep=True) == ["unfinished-turn"]
    assert found(postgres, deep=True, fix=True) == ["unfinished-turn"]
    assert found(postgres, deep=True) == []


def test_rows_that_somebody_took_away_are_found(postgres: TestDatabase) -> None:
    backend = postgres.backend()
    lease = taken(backend)
    append(backend, lease, line("1"), line("2"))
    backend.release(lease)
    postgres.execute("DELETE FROM turnlock.entry WHERE id = '2'")
    assert "database-torn" in found(postgres, deep=True)


def test_clocks_that_differ_are_told(postgres: TestDatabase) -> None:
    backend = postgres.backend()
    clock = ManualClock()
    with Store(backend, location="database") as store:
        clock.jump_wall(backend.health().now - clock.wall() + 3600)
        report = examine_database(backend, store, fix=False, deep=False, clock=clock)
    (told,) = [one for one in report.findings if one.check == "database-clock"]
    assert "ahead" in told.message
    assert "60 min" in told.message or "59 min" in told.message


def test_an_index_that_is_gone_is_found(postgres: TestDatabase) -> None:
    postgres.execute("DROP INDEX turnlock.session_held")
    try:
        assert found(postgres) == ["database-indexes"]
    finally:
        postgres.execute("CREATE INDEX session_held ON turnlock.session (id) WHERE held")


def test_an_old_transaction_is_found(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "_TRANSACTION_OLD", 0.0)
    with psycopg.connect(postgres.url) as other:
        other.execute("SELECT 1")
        assert found(postgres) == ["database-old-transaction"]


def test_a_server_that_does_not_wait_for_its_disk_is_told(doctor: Callable[..., Done]) -> None:
    done = doctor()
    assert done.code == 1
    assert "database-not-durable" in done.out


def test_dead_rows_are_told() -> None:
    from turnlock.backends.postgres import INDEXES, Health

    health = Health(0.0, 1, INDEXES, 60_000, 10_000, None, True)
    assert [one.check for one in examining._of_health(health, "db", 0.0)] == ["database-bloat"]
    assert list(examining._of_health(health._replace(live_rows=20_000), "db", 0.0)) == []


def test_what_cannot_be_reached_is_no_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnlock.backends.postgres import database

    monkeypatch.setattr(database, "_POOL_PATIENCE", 0.5)
    assert frame.run(["doctor", "--store", f"postgresql:///x?host={tmp_path}"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_backend_that_was_closed_can_be_looked_at(postgres: TestDatabase) -> None:
    backend: PostgresBackend = postgres.backend()
    backend.close()
    assert backend.health().indexes > 0
