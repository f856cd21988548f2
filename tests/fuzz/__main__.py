"""``python -m tests.fuzz [--target NAME] [--seconds N] [--seed N] [--again FILE]``: atheris.

Each target runs in a process of its own, from its seeds and with its dictionary. What it learns
stays in ``.fuzz/corpus`` for the next run. Prints of each the executions, the seed and the
findings, and exits with 1 when there are any. ``--again`` runs one kept input without atheris.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .harness import Hung, Target, check
from .targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".fuzz"
_INPUT_BYTES_MAX = 16384
# libFuzzer's own time limit is off: it would end the run, and it counts by the clock.
_NO_TIMEOUT = "-timeout=100000"
# For the start of the process, and the input that it is at when the time is over.
_SLACK_SECONDS = 600
_SHOWN_BYTES = 160


class Run(NamedTuple):
    target: str
    executions: int
    findings: list[tuple[str, Path]]


def main() -> int:
    arguments = _parser().parse_args()
    names = [arguments.target] if arguments.target else list(TARGETS)
    if arguments.again is not None:
        return _again(TARGETS[names[0]], arguments.again.read_bytes())
    seed = random.SystemRandom().randrange(1, 2**31) if arguments.seed is None else arguments.seed
    runs = [_run(TARGETS[name], arguments.seconds, seed) for name in names]
    executions = sum(run.executions for run in runs)
    findings = sum(len(run.findings) for run in runs)
    print(f"{len(runs)} targets, {executions} executions, seed {seed}: {findings} findings")
    return 1 if findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=list(TARGETS), help="only this one")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--seed", type=int, help="of libFuzzer; drawn, and told, without it")
    parser.add_argument("--again", type=Path, help="run this input of --target, without atheris")
    return parser


def _again(target: Target, data: bytes) -> int:
    try:
        check(target, data, cpu=1.0)
    except (Exception, Hung):  # noqa: BLE001 - whatever it is, it is what was looked for
        traceback.print_exc()
        return 1
    print(f"{target.name}: nothing is found with these {len(data)} bytes")
    return 0


def _run(target: Target, seconds: int, seed: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="turnlock-fuzz-") as directory:
        found = Path(directory, "findings")
        executions = sum(
            _atheris(target, how, Path(directory), found, (seconds + 1) // 2, seed)
            for how in ("words", "libfuzzer")
        )
        run = Run(target.name, executions, _kept(target, found))
    print(f"{target.name}: {executions} executions, seed {seed}: {len(run.findings)} findings")
    for where, path in run.findings:
        shown = path.read_bytes()[:_SHOWN_BYTES]
        print(f"  {where}\n    {shown!r}")
        print(f"    again: python -m tests.fuzz --target {target.name} --again {path}", flush=True)
    sys.stdout.flush()
    return run


def _atheris(
    target: Target, how: str, directory: Path, found: Path, seconds: int, seed: int
) -> int:
    """How many executions it made."""
    corpus = KEPT / "corpus" / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    for data in target.seeds():
        (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    words = directory / "words"
    words.write_text(dictionary(target.words))
    command = [sys.executable, "-m", "tests.fuzz.instrumented", target.name, str(found), how]
    command += [f"-max_total_time={seconds}", f"-seed={seed}", f"-dict={words}", _NO_TIMEOUT]
    command += [f"-max_len={_INPUT_BYTES_MAX}", "-print_final_stats=1", "-rss_limit_mb=4096"]
    command += [f"-artifact_prefix={directory}/", str(corpus)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + _SLACK_SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    executions = re.findall(r"number_of_executed_units: +(\d+)", said)
    if not executions:
        raise SystemExit(f"{target.name}: atheris ended without a count:\n{said[-3000:]}")
    return int(executions[-1])


def dictionary(words: Sequence[bytes]) -> str:
    """The words in libFuzzer's form; the longest ones are for hypothesis."""
    shown = ("".join(f"\\x{byte:02x}" for byte in word) for word in words if 0 < len(word) <= 64)
    return "".join(f'"{word}"\n' for word in shown)


def _kept(target: Target, found: Path) -> list[tuple[str, Path]]:
    """The findings, moved to where they stay."""
    kept = KEPT / "findings" / target.name
    findings = []
    for told in sorted(found.glob("*.json")):
        kept.mkdir(parents=True, exist_ok=True)
        facts = json.loads(told.read_text())
        (kept / f"{told.stem}.txt").write_text(facts["how"])
        path = kept / f"{told.stem}.bin"
        path.write_bytes(told.with_suffix(".bin").read_bytes())
        findings.append((facts["where"], path))
    return findings


if __name__ == "__main__":
    sys.exit(main())
