"""What the libraries that speak to model providers cost: size, packages, time to import.

    python scripts/provider_libraries.py [NAME ...]

Each is installed into a temporary directory of its own and imported in four fresh processes; the
least CPU time counts. The size is that of the directory with its byte code. Prints a table in
Markdown.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple


class Library(NamedTuple):
    """``requirement`` is what pip gets, ``module`` what a program would import of it."""

    requirement: str
    module: str


LIBRARIES = {
    "pydantic-ai": Library("pydantic-ai-slim[anthropic]", "pydantic_ai.models.anthropic"),
    "litellm": Library("litellm", "litellm"),
    "any-llm": Library("any-llm-sdk[anthropic]", "any_llm.providers.anthropic"),
    "langchain": Library("langchain-anthropic", "langchain_anthropic"),
    "instructor": Library("instructor[anthropic]", "instructor.core.client, anthropic"),
    "anthropic": Library("anthropic", "anthropic"),
    "google-genai": Library("google-genai", "google.genai"),
    "mistralai": Library("mistralai", "mistralai.client"),
    "ollama": Library("ollama", "ollama"),
    "openai": Library("openai", "openai"),
}
_ROUNDS = 4
_IMPORT = """
import time
before = time.process_time()
import {module}
print(time.process_time() - before)
"""


def main(names: list[str]) -> None:
    print("| library | version | packages | MB | import, ms of CPU |")
    print("| --- | --- | --: | --: | --: |")
    for name in names or LIBRARIES:
        print(row(LIBRARIES[name]), flush=True)


def row(library: Library) -> str:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder]
        subprocess.run([*pip, library.requirement], check=True, stderr=subprocess.DEVNULL)
        packages = sorted(place.glob("*.dist-info"))
        seconds = min(import_time(place, library.module) for _ in range(_ROUNDS))
        megabytes = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / 1e6
        version = version_of(place, library.requirement.partition("[")[0])
    shown = f"`{library.requirement}` | {version} | {len(packages)}"
    return f"| {shown} | {megabytes:.0f} | {seconds * 1000:.0f} |"


def version_of(place: Path, distribution: str) -> str:
    folder = distribution.replace("-", "_").lower()
    (found,) = place.glob(f"{folder}-*.dist-info")
    return found.name.removeprefix(f"{folder}-").removesuffix(".dist-info")


def import_time(place: Path, module: str) -> float:
    program = _IMPORT.format(module=module)
    environment = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main(sys.argv[1:])
