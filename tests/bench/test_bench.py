"""The benchmarks run, at sizes that measure nothing, and the page is what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench.contenders import missing
from bench.database import ABSENT, unmeasured
from bench.measure import TINY, Bench, Measure, a_directory
from bench.measures import MEASURES
from bench.page import Run, page
from bench.results import Column, Kind, Result, Row, Spread
from bench.subjects.peers import PEERS

DOCS = Path(__file__).parent.parent.parent / "docs"


def needing_postgres(measure: Measure) -> Any:
    needs = measure.name.startswith("postgres")
    return pytest.param(measure, marks=[pytest.mark.postgres] if needs else [], id=measure.name)


@pytest.mark.processes
@pytest.mark.parametrize("measure", [needing_postgres(one) for one in MEASURES])
def test_every_measure_runs(measure: Measure) -> None:
    """Every column has a figure of ours, and the result is the same after a time as JSON."""
    with a_directory() as directory:
        result = measure.run(Bench(TINY, directory, peers=False))
    if ABSENT in result.notes:
        pytest.skip(ABSENT)
    for column in result.columns:
        assert any(row.kind is Kind.OURS and column.title in row.cells for row in result.rows)
    kept = Result.from_json(json.loads(json.dumps(result.as_json())))
    assert [row.label for row in kept.rows] == [row.label for row in result.rows]
    assert page(Run({}, "", (kept,)), MEASURES) == page(Run({}, "", (kept,)), MEASURES)


def test_a_peer_that_is_not_there_is_left_out_with_a_reason(tmp_path: Path) -> None:
    absent = PEERS[0]._replace(module="no_such_module", package="no-such-package")
    why = missing(absent)
    assert why is not None
    assert "no-such-package is not installed" in why
    assert Bench(TINY, str(tmp_path)).those_here([absent]) == ([], [why])


def test_a_measure_that_cannot_be_made_here_says_so_and_shows_nothing() -> None:
    text = page(Run({}, "", (unmeasured("postgres-turn"),)), MEASURES)
    assert f"Not measured: {ABSENT}." in text
    assert "postgres-turn.svg" not in text


def spread(value: float) -> Spread:
    return Spread.of([value])


def result(mine: float, theirs: float, *, less_is_better: bool = True) -> Result:
    """A figure of ours beside one of a peer that can do the same."""
    return Result(
        "cycle",
        (Column("it", "µs", less_is_better),),
        (
            Row("turnlock turn", Kind.OURS, {"it": spread(mine)}),
            Row(
                "a peer", Kind.PEER, {"it": spread(theirs)}, names_holder=True, freed_at_death=True
            ),
        ),
    )


@pytest.mark.parametrize(
    ("mine", "theirs", "less_is_better", "said"),
    [
        (10.0, 30.0, True, "ahead, 3.0 times"),
        (30.0, 10.0, True, "behind, 3.0 times"),
        (30.0, 10.0, False, "ahead, 3.0 times"),
        (0.0, 10.0, True, "ahead"),
        (0.0, 0.0, True, "equal"),
    ],
)
def test_the_page_says_where_we_are_behind(
    mine: float, theirs: float, less_is_better: bool, said: str
) -> None:
    """What depends on a number is made of the numbers, also when it does not flatter."""
    text = page(Run({}, "", (result(mine, theirs, less_is_better=less_is_better),)), MEASURES)
    assert f"| {said} |" in text
    assert ("Ahead of *turnlock turn* in *it*: a peer" in text) == said.startswith("behind")


def test_a_loaded_machine_is_said_on_the_page() -> None:
    assert "> **Loaded:** it was" in page(Run({}, "it was", ()), MEASURES)
    assert "Loaded" not in page(Run({}, "", ()), MEASURES)


def test_a_spread_is_of_the_samples() -> None:
    found = Spread.of(float(one) for one in range(1, 101))
    assert found == Spread(100, 1.0, 26.0, 50.5, 75.0, 99.0, 100.0)


def test_the_page_is_that_of_its_numbers() -> None:
    """Nobody edited docs/benchmarks.md, and no text changed without it: make bench writes it."""
    kept = Run.from_json(json.loads((DOCS / "benchmarks/results.json").read_text()))
    assert (DOCS / "benchmarks.md").read_text() == page(kept, MEASURES), (
        "write it anew: .bench/venv/bin/python -m bench --page"
    )


def test_the_page_has_every_measure() -> None:
    kept = Run.from_json(json.loads((DOCS / "benchmarks/results.json").read_text()))
    assert [one.measure for one in kept.results] == [measure.name for measure in MEASURES]


def test_pictures_of_the_same_numbers_are_the_same(tmp_path: Path) -> None:
    """Needs what draws them, which is in the environment of make bench alone."""
    pytest.importorskip("matplotlib")
    from bench.plots import draw

    for name in ("one.svg", "other.svg"):
        draw(result(1.0, 2.0), "title", tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
