"""The recording in the README: what the demo shows, small enough for a page."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
RECORDING = ROOT / "docs" / "demo.svg"
SVG = "{http://www.w3.org/2000/svg}"


def test_the_recording_is_a_small_picture_of_the_whole_demo() -> None:
    assert RECORDING.stat().st_size < 300_000
    drawing = ElementTree.parse(RECORDING).getroot()
    rows = ["".join(row.itertext()) for row in drawing.findall(f"{SVG}defs/{SVG}g")]
    told = "\n".join(rows)
    for moment in ("revokes it in", "fenced the holder", "write is refused", "dead-pid", "healthy"):
        assert moment in told, moment
    # Every row that a picture uses is there, and every picture has its moment.
    used = {use.get("href", "")[1:] for use in drawing.iter(f"{SVG}use")}
    assert used <= {row.get("id") for row in drawing.findall(f"{SVG}defs/{SVG}g")}
    style = drawing.findtext(f"{SVG}style") or ""
    pictures = drawing.findall(f"{SVG}svg/{SVG}g/{SVG}g")
    assert len(re.findall(r"%\{transform", style)) == len(pictures)
    assert "prefers-reduced-motion" in style


def test_the_readme_shows_the_recording() -> None:
    assert "(docs/demo.svg)" in (ROOT / "README.md").read_text()
