"""The pictures: for each column of a result its rows as bars, quickest first.

The same numbers give the same bytes, so that a picture changes only when a figure does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .results import Column, Kind, Result, Row

_COLOURS = {Kind.OURS: "#1f6f5c", Kind.PEER: "#8a93a3", Kind.FLOOR: "#d8b365"}
_MEANINGS = {Kind.OURS: "turnlock", Kind.PEER: "peers", Kind.FLOOR: "floor"}
_ROW_INCHES = 0.28
_MARGIN_INCHES = 1.1
_COLUMN_INCHES = 3.6
_LABEL_INCHES = 2.6


def draw(result: Result, title: str, path: Path) -> None:
    """One picture of a result, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "turnlock", "svg.fonttype": "none", "font.size": 9, "axes.axisbelow": True}
    )
    from matplotlib import pyplot

    columns = result.columns
    size = (
        _LABEL_INCHES + _COLUMN_INCHES * len(columns),
        _MARGIN_INCHES + _ROW_INCHES * len(result.rows),
    )
    figure, axes = pyplot.subplots(
        1, len(columns), figsize=size, squeeze=False, layout="constrained"
    )
    for axis, column in zip(axes[0], columns, strict=True):
        _draw_column(axis, column, result.rows)
    figure.suptitle(title, fontweight="bold")
    kinds = [kind for kind in Kind if any(row.kind is kind for row in result.rows)]
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=_COLOURS[kind]) for kind in kinds]
    figure.legend(
        handles,
        [_MEANINGS[kind] for kind in kinds],
        loc="outside lower center",
        ncols=len(kinds),
        frameon=False,
    )
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    # The writer ends lines with blanks.
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n")


def _draw_column(axis: Any, column: Column, rows: tuple[Row, ...]) -> None:
    shown = [row for row in rows if column.title in row.cells]
    shown.sort(key=lambda row: row.cells[column.title].median)
    if column.less_is_better is False:
        shown.reverse()
    spreads = [row.cells[column.title] for row in shown]
    medians = [spread.median for spread in spreads]
    errors = [
        [spread.median - spread.quarter for spread in spreads],
        [spread.three_quarters - spread.median for spread in spreads],
    ]
    places = range(len(shown))
    axis.barh(
        places,
        medians,
        xerr=errors,
        color=[_COLOURS[row.kind] for row in shown],
        error_kw={"elinewidth": 0.8, "ecolor": "#444444"},
        height=0.7,
    )
    axis.set_yticks(places, [row.label for row in shown])
    axis.invert_yaxis()
    if max(medians) > 20 * min(medians) > 0:
        axis.set_xscale("log")
    axis.grid(axis="x", linewidth=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    better = "less is better" if column.less_is_better else "more is better"
    axis.set_xlabel(f"{column.unit}, median and quartiles; {better}")
    axis.set_title(column.title, fontsize=9)
