"""What ``turnlock import`` and ``turnlock export`` have in common: copying, and saying so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..copying import Copied, Result
from ..printable import printable
from ..session import parse_key
from ..store import Store
from .each import Failed, each
from .exits import ExitCode
from .jsonout import say_json
from .terminal import columns, counted, say
from .unlisted import Unlisted

_MEANINGS = {
    Result.COPIED: "copied",
    Result.SAME: "is there already",
    Result.DIFFERS: "left alone: another session of that name is there",
    Result.BUSY: "left alone: somebody holds it",
    Result.UNFINISHED: "left alone: its last turn has no terminal entry; turnlock doctor --fix",
    Result.MISSING: "there is no such session",
}
_DONE = (Result.COPIED, Result.SAME)


def copied(source: Store, target: Store, keys: Sequence[str]) -> list[Copied | Failed]:
    """What became of each: of all sessions, or of those that are named."""
    named = [str(parse_key(key)) for key in keys]
    wanted = named or [one.session for one in source.sessions()]
    return each(wanted, lambda key: target.copy_from(source, key), stores=(source, target))


def report(done: Sequence[Copied | Failed], left_out: Unlisted, as_json: bool) -> int:
    """Say so; the exit code."""
    if as_json:
        say_json({"sessions": [_object(one) for one in done]} | left_out.facts, indent=2)
    else:
        for line in columns([_row(one) for one in done]) or ["no session"]:
            say(line)
    return left_out.told(ExitCode.OK if all(map(_is_whole, done)) else ExitCode.FAILED)


def _is_whole(one: Copied | Failed) -> bool:
    return isinstance(one, Copied) and one.result in _DONE and not one.left_out


def _object(one: Copied | Failed) -> dict[str, Any]:
    if isinstance(one, Failed):
        return {"session": one.session, "result": "failed", "why": one.why}
    return one._asdict() | {"result": one.result.value}


def _row(one: Copied | Failed) -> tuple[str, str, str]:
    if isinstance(one, Failed):
        return printable(one.session), f"not copied: {printable(one.why)}", ""
    added = counted(one.lines, "line") if one.result is Result.COPIED else ""
    left_out = f", {counted(one.left_out, 'damaged line')} left out" if one.left_out else ""
    return printable(one.session), _MEANINGS[one.result], added + left_out
