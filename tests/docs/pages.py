"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import turnlock

ROOT = Path(turnlock.__file__).parent.parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str, page: Path | None = None) -> list[Block]:
    """Every block in that language, of all pages or of one."""
    return [
        Block(one, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for one in (PAGES if page is None else (page,))
        for text in [one.read_text()]
        for found in _BLOCK.finditer(text)
        if found[1] == language
    ]
