"""What a measure gives: spreads in rows and columns, as JSON and back."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple, Self


class Kind(Enum):
    OURS = "ours"
    PEER = "peer"
    FLOOR = "floor"


class Spread(NamedTuple):
    """Of one figure, over so many ``samples``. A percentile of few samples is the nearest one."""

    samples: int
    low: float
    quarter: float
    median: float
    three_quarters: float
    p99: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        ordered = sorted(values)
        if not ordered:
            raise ValueError("a spread needs a sample")
        return cls(
            len(ordered),
            ordered[0],
            _percentile(ordered, 0.25),
            statistics.median(ordered),
            _percentile(ordered, 0.75),
            _percentile(ordered, 0.99),
            ordered[-1],
        )


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


class Column(NamedTuple):
    """``less_is_better`` is None for a figure that is neither."""

    title: str
    unit: str
    less_is_better: bool | None = True


class Row(NamedTuple):
    """One subject. ``cells`` by the title of their column; one that could not be had is missing.

    ``names_holder`` and ``freed_at_death`` say of a peer what its lock can do.
    """

    label: str
    kind: Kind
    cells: dict[str, Spread]
    names_holder: bool = False
    freed_at_death: bool = False


class Result(NamedTuple):
    """``notes`` are what could not be measured, and why."""

    measure: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "measure": self.measure,
            "columns": [column._asdict() for column in self.columns],
            "rows": [_row_as_json(row) for row in self.rows],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        return cls(
            found["measure"],
            tuple(Column(**column) for column in found["columns"]),
            tuple(_row_from_json(row) for row in found["rows"]),
            tuple(found["notes"]),
        )


def _row_as_json(row: Row) -> dict[str, Any]:
    cells = {
        title: {name: short(value) for name, value in spread._asdict().items()}
        for title, spread in row.cells.items()
    }
    return row._asdict() | {"kind": row.kind.value, "cells": cells}


def _row_from_json(found: Mapping[str, Any]) -> Row:
    cells = {title: Spread(**spread) for title, spread in found["cells"].items()}
    return Row(
        found["label"],
        Kind(found["kind"]),
        cells,
        found["names_holder"],
        found["freed_at_death"],
    )


def short(value: float) -> float:
    """Four digits: more is noise, and makes two runs hard to compare."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
