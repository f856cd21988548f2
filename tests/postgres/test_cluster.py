"""Gateways under load that are killed, stopped and cut off; the oracle judges what they saw."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.helpers import Child, child, eventually
from tests.oracle import (
    Acked,
    Asked,
    Began,
    Died,
    Event,
    Granted,
    History,
    Left,
    Outcome,
    Revoked,
    Stopped,
    check,
    records,
)
from tests.postgres.fixtures import TestDatabase
from turnlock.store import Store

pytestmark = [pytest.mark.postgres, pytest.mark.processes]

# Longer by hand: TURNLOCK_CLUSTER_SECONDS=120 pytest tests/postgres/test_cluster.py
SECONDS = float(os.environ.get("TURNLOCK_CLUSTER_SECONDS", "6"))
SEED = int(os.environ.get("TURNLOCK_CLUSTER_SEED", "1"))
GATEWAYS = 3
LEASE = 2.0
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'turnlock'"

# Takes turns on a few sessions until it is told to stop, and says what it sees.
WORK = """
    import json, random, threading, time
    import turnlock
    from turnlock.backends.postgres import PostgresBackend
    from turnlock.store import Store

    def say(kind, *facts):
        print(json.dumps([kind, time.monotonic(), *facts]), flush=True)

    def work(store, session, turn_id):
        try:
            with store.turn(session, wait=30, turn_id=turn_id) as turn:
                say("granted", turn_id)
                for number in range(random.randrange(1, 4)):
                    identity = f"{turn_id}.{number}"
                    began = time.monotonic()
                    say("began", turn_id, [identity])
                    turn.append(turnlock.user("x") | {"id": identity})
                    say("acked", turn_id, [identity], began)
            return "ok"
        except turnlock.LeaseRevoked as error:
            say("revoked", turn_id, error.reason)
            return "revoked"
        except turnlock.SessionBusy:
            return "busy"
        except turnlock.TurnlockError as error:
            return "failed"

    name, leave = sys.argv[2], threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), leave.set()), daemon=True).start()
    with Store(PostgresBackend(sys.argv[1], lease_time=float(sys.argv[3])), location="db") as store:
        number = 0
        while not leave.is_set():
            number += 1
            turn_id, session = f"{name}-{number}", f"main/s{random.randrange(3)}"
            say("asked", turn_id, session, name)
            say("left", turn_id, work(store, session, turn_id))
"""


class Gateway:
    """A process, and a thread that reads what it says."""

    def __init__(self, process: Child, name: str) -> None:
        self.process = process
        self.name = name
        self.said: list[list[Any]] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.process.stdout is not None
        for line in iter(self.process.process.stdout.readline, b""):
            # The last one of a process that was killed may be cut short.
            if line.endswith(b"\n"):
                self.said.append(json.loads(line))

    def read_out(self) -> None:
        self._reading.join()


class Cluster:
    def __init__(self, postgres: TestDatabase, stack: ExitStack) -> None:
        self._postgres = postgres
        self._stack = stack
        self._random = random.Random(SEED)
        self.all: list[Gateway] = []
        self.events: list[Event] = []
        self.running = [self._start() for _ in range(GATEWAYS)]

    def _start(self) -> Gateway:
        name = f"g{len(self.all) + 1}"
        process = self._stack.enter_context(child(WORK, self._postgres.url, name, LEASE))
        self.all.append(Gateway(process, name))
        return self.all[-1]

    def misfortune(self) -> None:
        """Something befalls a gateway, or all of them."""
        number = self._random.randrange(len(self.running))
        victim = self.running[number]
        match self._random.choice(["kill", "stop", "cut"]):
            case "kill":
                victim.process.kill()
                self.events.append(Died(time.monotonic(), victim.name))
                self.running[number] = self._start()
            case "stop":
                stopped = time.monotonic()
                victim.process.stop()
                # Its lease runs out, or it does not.
                threading.Event().wait(LEASE * self._random.choice([0.3, 1.5]))
                self.events.append(Stopped(stopped, victim.name, time.monotonic()))
                victim.process.go_on()
            case "cut":
                self._postgres.execute(CUT)

    def end(self) -> None:
        for gateway in self.running:
            gateway.process.tell()
        for gateway in self.running:
            gateway.process.ended()
        for gateway in self.all:
            gateway.read_out()

    def history(self) -> History:
        seen = [event for gateway in self.all for event in map(_event, gateway.said)]
        history = History()
        for event in sorted([*seen, *self.events], key=lambda event: event.at):
            history.note(event)
        return history


def _event(said: list[Any]) -> Event:
    kind, at, turn_id, *facts = said
    match kind:
        case "asked":
            return Asked(at, turn_id, *facts)
        case "granted":
            return Granted(at, turn_id)
        case "began":
            return Began(at, turn_id, tuple(facts[0]))
        case "acked":
            return Acked(at, turn_id, tuple(facts[0]), facts[1])
        case "revoked":
            return Revoked(at, turn_id, facts[0])
        case "left":
            return Left(at, turn_id, Outcome(facts[0]))
    raise AssertionError(said)


@pytest.fixture
def cluster(postgres: TestDatabase) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(postgres, stack)


@pytest.mark.timeout(SECONDS * 2 + 120)
def test_whatever_befalls_its_gateways_a_cluster_keeps_its_promises(
    postgres: TestDatabase, cluster: Cluster
) -> None:
    eventually(lambda: all(one.said for one in cluster.running), patience=60)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        # Between two of them some turns go well.
        threading.Event().wait(0.2)
        cluster.misfortune()
    cluster.end()
    with Store(postgres.backend(), location="test") as store:
        # Who is left of the dead is found when its lease has run out.
        eventually(lambda: store.clean_stale() == [])
        found = {one.session: records(store.read(one.session)) for one in store.sessions()}
        epochs = postgres.rows("SELECT session_id, epoch FROM turnlock.entry"
                               " ORDER BY session_id, byte_offset")  # fmt: skip
    history = cluster.history()
    assert any(isinstance(event, Acked) for event in history.events)
    stopped = {event.process for event in cluster.events if isinstance(event, Stopped)}
    violations = [str(one) for one in check(history, found)]
    # To the others one that is stopped past its lease is dead.
    told = [one for one in violations if not (one.startswith("I9") and _of(one) in stopped)]
    assert told == []
    # The rows themselves: the fence only ever rose.
    assert epochs == sorted(epochs, key=lambda row: row)


def _of(violation: str) -> str:
    """The process of the turn that a violation is about."""
    return violation.split("turn ", 1)[1].split("-")[0]
