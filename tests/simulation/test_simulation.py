"""The real queue, watchdog, turn and backend code under simulated schedules."""

from __future__ import annotations

import ast

import pytest

from tests.oracle import Left, Outcome

from .mutants import MUTANTS, Mutant, find
from .package import Copy, Edit, Pool, _Stepping, pool_of
from .plan import ClientPlan, Plan, ProcessPlan, Step, TurnPlan, draw
from .process import Fault
from .runs import digests, replay, run
from .scheduler import Delay
from .world import World

_SCHEDULES = 200
# What each of these needs is common: a few schedules show it. `make simulate MUTANTS=1` plants all.
_QUICKLY_FOUND = (
    "files: acknowledged before it is durable",
    "turns: a released lease is let go of in the queue only when nobody waits",
    "turns: the writer's appends are not one after the other",
    "turns: an append that comes while its turn ends is acknowledged and not written",
    "turns: the task's cancellation by a revocation is not taken back",
)
_SEEDS_TO_FIND = 600


@pytest.mark.timeout(300)
def test_no_schedule_breaks_an_invariant() -> None:
    broken = {
        one.seed: list(map(str, one.violations)) for one in run(range(_SCHEDULES)) if one.violations
    }
    assert not broken, f"replay with: make simulate SEED={next(iter(broken))}"


def test_a_seed_is_one_history_whatever_ran_before_it() -> None:
    seeds = range(5000, 5040)
    forwards = dict(digests(seeds))
    backwards = dict(digests(reversed(seeds)))
    assert forwards == backwards
    assert len(set(forwards.values())) > 30


def test_a_replay_tells_the_same_history() -> None:
    (result,) = run([7])
    again, trace = replay(7)
    assert again == result
    assert any("Granted" in line for line in trace)


def test_schedules_are_of_every_kind() -> None:
    plans = [draw(seed) for seed in range(400)]
    assert {plan.backend for plan in plans} == {"memory", "files", "portable"}
    assert any(plan.cuts_power for plan in plans)
    faults = {
        fault.kind for plan in plans for process in plan.processes for fault in process.faults
    }
    assert faults == {"kill", "stop", "fail", "short", "delay", "remove"}
    assert any(plan.delays for plan in plans)
    clients = [client for plan in plans for process in plan.processes for client in process.clients]
    assert {client.is_thread for client in clients} == {True, False}
    assert any(client.cancel_at is not None for client in clients)


def _one_turn(*steps: Step) -> Plan:
    turn = TurnPlan("main/a", 1.0, 60.0, None, steps, 0)
    client = ClientPlan(True, 0.0, (turn,), None, 0.0, None)
    process = ProcessPlan((client,), (), ())
    return Plan(1, "memory", 10, 0, (), (0.0, 0), ("main/a",), (process,), False)


def test_a_delay_leaves_whoever_runs_at_its_point_without_a_cpu() -> None:
    worlds = [
        World(_one_turn(Step("append", 1))._replace(delays=delays), pool_of(()))
        for delays in ((), (Delay(40, 2.5),))
    ]
    assert [world.run().violations for world in worlds] == [(), ()]
    at_once, delayed = ([event.at for event in world.history] for world in worlds)
    assert delayed[-1] - at_once[-1] > 2.0


def test_a_fault_strikes_at_the_call_that_it_names() -> None:
    plan = _one_turn(Step("append", 1))
    # The only one is that of the claim, at the turn's release.
    process = plan.processes[0]._replace(faults=(Fault(1, "kill", of="unlink"),))
    world = World(plan._replace(backend="files", processes=(process,)), pool_of(()))
    assert world.run().violations == ()
    first = [type(event).__name__ for event in world.history if "audit" not in str(event)]
    assert first == ["Asked", "Started", "Granted", "Began", "Acked", "Leaving", "Died"]


def test_a_third_party_may_remove_a_lock_in_the_middle_of_a_call() -> None:
    plan = _one_turn(Step("append", 1), Step("append", 1))
    # The first write is the claim's, the second the header's, the third the first entry's.
    process = plan.processes[0]._replace(faults=(Fault(3, "remove", 0.0, of="write"),))
    world = World(plan._replace(backend="files", processes=(process,)), pool_of(()))
    assert world.run().violations == ()
    (left,) = (event for event in world.history if isinstance(event, Left))
    assert left.outcome is Outcome.REVOKED


def test_there_is_a_point_before_every_statement_that_others_can_see() -> None:
    source = """
def f(self):
    "Text."
    found = None
    try:
        self.x = 1
        found = self.y
    finally:
        self.z()
    return found
"""
    stepped = ast.unparse(_Stepping().visit(ast.parse(source)))
    assert [line.strip() for line in stepped.splitlines() if "_step" not in line] == [
        "def f(self):",
        '"""Text."""',
        "found = None",
        "try:",
        "self.x = 1",
        "found = self.y",
        "finally:",
        "self.z()",
        "return found",
    ]
    assert stepped.count("_step()") == 3


def test_who_waits_for_what_is_said_at_once_when_nobody_can_go_on() -> None:
    lost = Edit(
        "turnlock.turns.turn",
        "            ids = self._writer.append(entries)\n",
        "            queues._lock.acquire()\n            ids = self._writer.append(entries)\n",
    )
    result = World(_one_turn(Step("append", 1)), Pool([lost])).run()
    (violation,) = result.violations
    assert violation.invariant == "I8"
    assert "p0/thread0 wants a lock" in violation.what


def test_an_error_that_nobody_expects_is_a_violation() -> None:
    broken = Edit(
        "turnlock.turns.turn",
        "            ids = self._writer.append(entries)\n",
        "            ids = self._writer.append(entries, None)\n",
    )
    result = World(_one_turn(Step("append", 1)), Pool([broken])).run()
    assert result.violations[0].invariant == "I11"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "mutant",
    [mutant for mutant in MUTANTS if mutant.name in _QUICKLY_FOUND],
    ids=lambda mutant: mutant.name,
)
def test_a_planted_race_is_found(mutant: Mutant) -> None:
    assert find(mutant, _SEEDS_TO_FIND), f"not within {_SEEDS_TO_FIND} schedules"


def test_every_mutant_still_fits_the_code() -> None:
    assert {mutant.name for mutant in MUTANTS} >= set(_QUICKLY_FOUND)
    for mutant in MUTANTS:
        Copy(mutant.edits)
