"""Ask a gateway what its description allows, and what it does not: schemathesis, and a bound.

    python scripts/api_check.py [--examples N]

It starts a gateway with the practice model in a directory of its own, has schemathesis check that
every answer is as ``/openapi.json`` says, that what the description forbids is refused and what it
allows is not, and ends the gateway. With 750 examples an operation it makes more than 5,000
requests. Exit code 1 when anything was found, also in the gateway's own log.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Short limits: nobody is waited for.
CONFIG = """
[gateway]
port = 0
[limits]
wait = 0.2
first_token = 5
idle = 5
turn = 10
drain = 1
"""
# A stream of events does not end: its first one is looked at. And what a conversation may say next
# no schema can tell.
SETTINGS = """
[[operations]]
include-operation-id = "listenToEvents"
max-stream-events = 1
[[operations]]
include-operation-id = "createChatCompletion"
[operations.checks.positive_data_acceptance]
enabled = false
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the gateway against its description.")
    parser.add_argument(
        "--examples", type=int, default=750, help="requests an operation at most (750)"
    )
    parser.add_argument("--phases", default="coverage,fuzzing")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="api-check-") as directory:
        root = Path(directory)
        with gateway(root) as url:
            found = schemathesis(root, url, asked.examples, asked.phases, asked.seed)
        return int(bool(found) or complained(root / "log"))


@contextlib.contextmanager
def gateway(root: Path) -> Iterator[str]:
    """The url of a gateway that serves while the block runs."""
    (root / "turnlock.toml").write_text(CONFIG)
    program = [sys.executable, "-m", "turnlock", "gateway", "--state-dir", str(root / "state")]
    program += ["--config", str(root / "turnlock.toml")]
    with (
        (root / "log").open("wb") as log,
        subprocess.Popen(program, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.terminate()


def schemathesis(root: Path, url: str, examples: int, phases: str, seed: int | None) -> int:
    """Its exit code."""
    token = (root / "state" / "token").read_text().strip()
    (root / "schemathesis.toml").write_text(SETTINGS)
    program = [str(Path(sys.executable).parent / "schemathesis")]
    program += ["--config-file", str(root / "schemathesis.toml"), "run", f"{url}/openapi.json"]
    program += ["--header", f"Authorization: Bearer {token}", "--request-timeout", "20"]
    program += ["--max-examples", str(examples), "--phases", phases]
    program += ["--generation-database", "none", "--no-color"]
    program += [] if seed is None else ["--seed", str(seed)]
    return subprocess.run(program, cwd=root, check=False).returncode


def complained(log: Path) -> bool:
    """Whether the gateway logged an error of its own; prints what."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if " ERROR " in line or line.startswith("Traceback")]
    for line in errors[:20]:
        print(f"in the gateway's log: {line}")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
