"""The command line: ``turnlock``, also ``python -m turnlock``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave the process with its exit code; see ``exits``."""
    from .frame import run

    sys.exit(run(sys.argv[1:]))
