"""What ``turnlock import`` and ``turnlock export`` have in common: copying, and saying so."""

from __future__ import annotations

from collections.abc import Sequence

from ..copying import Copied, Result
from ..store import Store
from .exits import ExitCode
from .jsonout import say_json
from .terminal import columns, counted, printable, say

_MEANINGS = {
    Result.COPIED: "copied",
    Result.SAME: "is there already",
    Result.DIFFERS: "left alone: another session of that name is there",
    Result.BUSY: "left alone: somebody holds it",
    Result.UNFINISHED: "left alone: its last turn has no terminal entry; turnlock doctor --fix",
}
_DONE = (Result.COPIED, Result.SAME)


def copied(source: Store, target: Store, keys: Sequence[str]) -> list[Copied]:
    """What became of each: of all sessions, or of those that are named."""
    wanted = keys or [one.session for one in source.sessions()]
    return [target.copy_from(source, key) for key in wanted]


def report(done: Sequence[Copied], as_json: bool) -> int:
    """Say so; the exit code."""
    if as_json:
        shown = [one._asdict() | {"result": one.result.value} for one in done]
        say_json({"sessions": shown}, indent=2)
    else:
        for line in columns([_row(one) for one in done]) or ["no session"]:
            say(line)
    whole = all(one.result in _DONE and not one.left_out for one in done)
    return ExitCode.OK if whole else ExitCode.FAILED


def _row(one: Copied) -> tuple[str, str, str]:
    added = counted(one.lines, "line") if one.result is Result.COPIED else ""
    left_out = f", {counted(one.left_out, 'damaged line')} left out" if one.left_out else ""
    return printable(one.session), _MEANINGS[one.result], added + left_out
