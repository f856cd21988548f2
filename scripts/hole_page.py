"""Writes docs/frameworks.md: what a framework does to a session, and what it does with Turnlock.

hole_page.py [NAME …]

Each folder of examples that has a without.py and a with_turnlock.py is a section. Both are run, in
the framework's own environment (`make frameworks` makes it) where the folder is a framework's, and
their texts and transcripts stand side by side. Without names all of them are run whose environment
is there; of the others the page keeps what it has.
"""

from __future__ import annotations

import argparse
import ast
import html
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs/frameworks.md"
BEFORE, AFTER = "without.py", "with_turnlock.py"
# Others are called as their folder.
_TITLES = {"openai_loop": "A loop of one's own over OpenAI's client"}
_OWN_ENVIRONMENT = "requirements/frameworks/{}-oldest.txt"
_SECONDS = 120
_HEAD = """\
# The hole, and the cure

What happens to a session when two messages come at the same time, or a model hangs. Each section
runs a short program twice: as one writes it with the framework alone, and with the lines that make
it Turnlock's. The transcripts are what the programs printed, against the
[practice model](reference/practice-model.md). Written by `make hole`; run one yourself with
`python examples/openai_loop/without.py`.
"""


class Example(NamedTuple):
    """A folder of examples; ``name`` is the framework's, or its own."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name.replace("_", "-")

    @property
    def title(self) -> str:
        return _TITLES.get(self.folder.name, self.name)

    @property
    def python(self) -> Path:
        """The interpreter that has what the example needs; it may not be there."""
        if (ROOT / _OWN_ENVIRONMENT.format(self.name)).exists():
            return ROOT / f".frameworks/{self.name}-newest/bin/python"
        return Path(sys.executable)


def examples() -> list[Example]:
    return [Example(path.parent) for path in sorted(EXAMPLES.glob(f"*/{BEFORE}"))]


def printed(example: Example, file: str) -> str:
    """What the program prints. Raises `subprocess.SubprocessError` when it fails or hangs."""
    done = subprocess.run(
        [example.python, "-W", "ignore", example.folder / file],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=True,
    )
    # An empty line would end the table.
    return "\n".join(line for line in done.stdout.splitlines() if line.strip())


def said_by(path: Path) -> str:
    """The docstring of a program as one paragraph."""
    return " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())


def section(example: Example) -> str:
    cells = [
        (file, said_by(example.folder / file), printed(example, file)) for file in (BEFORE, AFTER)
    ]
    folder = example.folder.relative_to(ROOT)
    lines = [f"## {example.title}", ""]
    for file, text, _ in cells:
        lines += [f"[{file}](../{folder}/{file}): {text}", ""]
    howto = PAGE.parent / f"howto/{example.name}.md"
    if howto.exists():
        lines += [f"How to use it: [{example.name}](howto/{howto.name}).", ""]
    lines += ["<table><tr><th>without</th><th>with Turnlock</th></tr><tr>"]
    lines += [f"<td><pre>\n{html.escape(text, quote=False)}\n</pre></td>" for _, _, text in cells]
    return "\n".join([*lines, "</tr></table>", ""])


def sections(page: str) -> dict[str, str]:
    """The sections of a page by their titles."""
    parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].removeprefix("## "): part for part in parts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", choices=[*(one.name for one in examples()), []])
    names = parser.parse_args().name
    kept = sections(PAGE.read_text()) if PAGE.exists() else {}
    parts = [_HEAD]
    for example in examples():
        wanted = example.name in names if names else example.python.exists()
        print(f"{example.name}: {'run' if wanted else 'kept as it is'}", file=sys.stderr)
        part = section(example) if wanted else kept.get(example.title)
        parts += [] if part is None else [part.rstrip("\n") + "\n"]
    PAGE.write_text("\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
