"""docs/benchmarks.md, from the results: what depends on a number is made of the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .measure import Measure
from .results import Column, Kind, Result, Row, Spread

# Stands for us beside the peers: it does more than their locks do.
_OURS = "turnlock turn"

_HEAD = """\
# Benchmarks

Written by `make bench`, numbers and all; the same numbers are in
[results.json](benchmarks/results.json). `make bench QUICK=1` is a rehearsal of a minute or two that
writes to `.bench/quick` instead. It needs Linux; node, for the peer that runs on
it; and PostgreSQL's server, for what is said of that.

What is compared was measured in the same run, in turns: a round of each, there and back again. A
lock is taken and released by processes of their own, which note the times themselves. A figure is
*the median (quartiles), p99* of all rounds. Every figure is of one machine: compare within a table,
not with the tables of another machine.

Of filelock's kinds all that are exclusive are here. Its asynchronous ones are the same locks in
threads of an executor, and one stands for them. Its read-write locks let several in at once.
"""


class Run(NamedTuple):
    """One run of all measures, as it is kept. ``warning`` is empty for an idle machine."""

    machine: dict[str, str]
    warning: str
    results: tuple[Result, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "warning": self.warning,
            "results": [result.as_json() for result in self.results],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Run:
        results = tuple(Result.from_json(result) for result in found["results"])
        return cls(found["machine"], found["warning"], results)


def page(run: Run, measures: Iterable[Measure]) -> str:
    by_name = {measure.name: measure for measure in measures}
    sections = [_HEAD, *_machine(run), *_verdict(run, by_name)]
    for result in run.results:
        sections += _section(result, by_name[result.measure])
    return "\n".join(sections)


def _machine(run: Run) -> Iterator[str]:
    if run.warning:
        yield f"> **Loaded:** {run.warning}. Ratios within a table hold better than the numbers.\n"
    yield table(("measured on", ""), run.machine.items())


def _verdict(run: Run, measures: Mapping[str, Measure]) -> Iterator[str]:
    """Beside the peers that can do the same: say who holds a lock, and free it when that dies."""
    rows = []
    for result in run.results:
        ours = next((row for row in result.rows if row.label == _OURS), None)
        for column in result.columns:
            peers = [row for row in _ranked(result, column) if _is_alike(row)]
            if ours is None or column.title not in ours.cells or not peers:
                continue
            best, mine = peers[0], ours.cells[column.title].median
            theirs = best.cells[column.title].median
            rows.append(
                (
                    f"{measures[result.measure].title}: {column.title}, {column.unit}",
                    number(mine),
                    f"{number(theirs)} ({best.label})",
                    _times(mine, theirs, column),
                )
            )
    if rows:
        yield "## Beside those that can do the same\n"
        yield (
            "A lock that names its holder tells who stands in the way; one that is freed when its"
            " holder dies needs\nnobody to clean up. These peers do both, and the best of them in"
            f" each figure stands beside *{_OURS}*, which also\nhas a watchdog, a fence and a"
            " transcript.\n"
        )
        yield table(("figure", _OURS, "best such peer", ""), rows)


def _section(result: Result, measure: Measure) -> Iterator[str]:
    yield f"## {measure.title}\n"
    yield f"{measure.what}\n"
    if not result.rows:
        yield _unmeasured(result)
        return
    yield f"![{measure.title}](benchmarks/{measure.name}.svg)\n"
    titles = [f"{column.title}, {column.unit}" for column in result.columns]
    first = result.columns[0]
    rows = [*_ranked(result, first)]
    rows += [row for row in result.rows if row not in rows]
    yield table(
        ("", *titles),
        ((_label(row), *(_cell(row, column) for column in result.columns)) for row in rows),
    )
    yield f"**How.** {measure.how}\n"
    yield f"**Floor.** {measure.floor}\n"
    yield f"**To read from it.** {measure.reading}\n"
    for column in result.columns:
        yield from _better_than_us(result, column)
    if result.notes:
        yield _unmeasured(result)


def _unmeasured(result: Result) -> str:
    return f"Not measured: {'; '.join(result.notes)}.\n"


def _better_than_us(result: Result, column: Column) -> Iterator[str]:
    """Where we lose: the peers that are ahead of us in a column, and what they do not do."""
    ranked = _ranked(result, column)
    ours = next((row for row in ranked if row.label == _OURS), None)
    ours = ours or next((row for row in ranked if row.kind is Kind.OURS), None)
    if ours is None:
        return
    ahead = [row for row in ranked[: ranked.index(ours)] if row.kind is Kind.PEER]
    if ahead:
        names = "; ".join(f"{row.label} ({_lacks(row)})" for row in ahead)
        yield f"Ahead of *{ours.label}* in *{column.title}*: {names}.\n"


def _lacks(row: Row) -> str:
    lacks = [] if row.names_holder else ["names no holder"]
    lacks += [] if row.freed_at_death else ["is not freed by a death"]
    return " and ".join(lacks) or "names its holder, and is freed when that dies"


def _is_alike(row: Row) -> bool:
    return row.kind is Kind.PEER and row.names_holder and row.freed_at_death


def _ranked(result: Result, column: Column) -> list[Row]:
    """The rows that have the column, best first."""
    rows = [row for row in result.rows if column.title in row.cells]
    rows.sort(
        key=lambda row: row.cells[column.title].median, reverse=column.less_is_better is False
    )
    return rows


def _times(mine: float, theirs: float, column: Column) -> str:
    better, worse = (mine, theirs) if column.less_is_better else (theirs, mine)
    if 0 in (better, worse):
        return "ahead" if worse else "behind" if better else "equal"
    ratio = worse / better
    return f"ahead, {ratio:.1f} times" if ratio >= 1 else f"behind, {1 / ratio:.1f} times"


def _label(row: Row) -> str:
    if row.kind is Kind.OURS:
        return f"**{row.label}**"
    return f"*{row.label}*" if row.kind is Kind.FLOOR else row.label


def _cell(row: Row, column: Column) -> str:
    spread = row.cells.get(column.title)
    return "" if spread is None else _shown(spread)


def _shown(spread: Spread) -> str:
    if spread.samples == 1:
        return number(spread.median)
    quartiles = f"{number(spread.quarter)} to {number(spread.three_quarters)}"
    return f"{number(spread.median)} ({quartiles}), {number(spread.p99)}"


def number(value: float) -> str:
    """Three digits; more says nothing here."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return (
        f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2g}"
        if abs(value) < 0.1
        else f"{value:.2f}"
    )


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---", *("--:" for _ in head[1:])), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
