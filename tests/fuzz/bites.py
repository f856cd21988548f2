"""Faults of our own code, and the target that has to find each."""

from __future__ import annotations

from tests.mutants import faults

_TESTS = ("test_seeds_keep_the_promises", "test_no_input_breaks_a_promise")

BITES = (
    ("payload", faults.ONLY_JSON_ERRORS),
    ("claim", faults.PID_ALONE),
    ("scribe", faults.LONG_CLAIMS),
    ("lines", faults.LINES_OF_JSON_ALONE),
    ("lines", faults.LINES_BY_PIECES),
    ("entries", faults.LINES_BROKEN),
    ("transcript", faults.HEALED_OF_OURS_ALONE),
    ("config", faults.TOML_ALONE),
    ("name", faults.KEYS_WITH_SLASHES),
    ("state", faults.FLOCK_UNASKED),
    ("state", faults.KEPT_NOTHING),
    ("state", faults.BLOCKING_OPEN),
    ("presence", faults.URLS_AS_TOLD),
    ("http", faults.DEEP_BODIES),
    ("socket", faults.PORTS_AS_TOLD),
    ("openai", faults.CHUNKS_OF_JSON_ALONE),
    ("ollama", faults.OBJECTS_OF_JSON_ALONE),
    ("command", faults.DEEP_LINES),
)


def tests_of(target: str) -> list[str]:
    """What ``make test`` gives a target, by node id."""
    return [f"tests/fuzz/test_fuzz.py::{test}[{target}]" for test in _TESTS]
