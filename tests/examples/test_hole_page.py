"""The loop of one's own loses a turn without Turnlock and keeps it with it; the page says so."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT
from tests.helpers import load

hole_page = load(ROOT / "scripts/hole_page.py")
LOOP = hole_page.Example(hole_page.EXAMPLES / "openai_loop")
PAGE = hole_page.PAGE.read_text()


def lost(text: str) -> list[str]:
    """Of what was said, what the printed transcript does not have."""
    said = ("/slow 4 write the report", "book a table", "/hang up on me")
    return [one for one in said if f"user: {one}" not in text]


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_the_loop_does_what_the_page_says() -> None:
    # At once: it is their waits that take long.
    with ThreadPoolExecutor() as pool:
        files = (hole_page.BEFORE, hole_page.AFTER)
        before, after = pool.map(lambda file: hole_page.printed(LOOP, file), files)
    assert (lost(before), lost(after)) == (["book a table", "/hang up on me"], [])
    for text in (before, after):
        assert all(line in PAGE for line in text.splitlines())


@pytest.mark.parametrize("example", hole_page.examples(), ids=lambda example: example.name)
def test_the_page_has_a_section_of_every_example(example: Any) -> None:
    """With the text of both programs as it is now, and both transcripts: make hole writes it."""
    section = hole_page.sections(PAGE)[example.title]
    for file in (hole_page.BEFORE, hole_page.AFTER):
        assert hole_page.said_by(example.folder / file) in section
        assert (hole_page.PAGE.parent / f"../examples/{example.folder.name}/{file}").exists()
    assert section.count("<pre>") == 2


def test_the_page_has_no_other_section() -> None:
    titles = [example.title for example in hole_page.examples()]
    assert list(hole_page.sections(PAGE)) == titles


def test_a_program_that_fails_is_not_written_down_as_if_it_had_not(tmp_path: Path) -> None:
    (tmp_path / "without.py").write_text("raise SystemExit('it broke')")
    with pytest.raises(subprocess.CalledProcessError):
        hole_page.printed(hole_page.Example(tmp_path), "without.py")
