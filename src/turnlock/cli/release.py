"""``turnlock release``."""

from __future__ import annotations

import sys
from typing import Any, Literal

import click

from ..backends import LockRecord
from ..backends.files import native
from ..backends.files.fileops import FileOps
from ..doctor.claims import read_claim
from ..doctor.examination import command_line
from ..doctor.findings import lock_as_json
from ..session import SessionKey, parse_key
from ..store import Store
from .exits import ExitCode, WrongInput
from .jsonout import say_json
from .lock_table import holder_text
from .options import common_options, existing_store, json_option, state_directory
from .sessions import require_session
from .terminal import paint, say

Marker = Literal["written", "owed"]


@click.command()
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@common_options
@click.pass_context
def command(ctx: click.Context, key: str, yes: bool, as_json: bool) -> int:
    """Take session KEY from whoever holds it, and free it.

    The holder is fenced: whatever it writes from then on is refused. Its turn gets an error
    marker; nothing of the transcript is removed. Says what became of the holder.
    """
    session = parse_key(key)
    store = existing_store(ctx)
    root = state_directory(ctx)
    holder = find_lock(store, session)
    if holder is None:
        require_session(root, session)
        _say_free(session, as_json)
        return ExitCode.OK
    if not as_json:
        say(f"session {session} is held by {holder_text(holder)}")
    if not yes:
        _ask(session, root, as_json)
        _require_same(holder, find_lock(store, session), session)
    claim = read_claim(FileOps(), holder.path)
    ours = claim is not None and claim.claim.is_ours
    released = store.revoke(str(session), "operator")
    result = _result(store, session, holder, released=released, ours=ours)
    if as_json:
        say_json(result, indent=2)
    else:
        for line in _result_lines(result):
            say(line)
    return ExitCode.OK


def find_lock(store: Store, session: SessionKey) -> LockRecord | None:
    return next((lock for lock in store.locks() if lock.session == str(session)), None)


def _ask(session: SessionKey, root: str, as_json: bool) -> None:
    if as_json or sys.stdin is None or not sys.stdin.isatty():
        raise WrongInput(
            f"session {str(session)!r} was not released: there is no terminal to ask on",
            hint=f"say that you mean it: {command_line(f'release {session} --yes', root)}",
        )
    click.confirm("Take the session from it?", abort=True, err=True)


def _require_same(shown: LockRecord, now: LockRecord | None, session: SessionKey) -> None:
    """The answer was about that holder, and nobody else."""
    if now is None or (now.pid, now.turn_id) != (shown.pid, shown.turn_id):
        who = f"held by {holder_text(now)}" if now is not None else "free"
        raise WrongInput(
            f"session {str(session)!r} was not released: while you were asked its holder ended,"
            f" and it is {who} now"
        )


def _say_free(session: SessionKey, as_json: bool) -> None:
    if as_json:
        say_json(
            {
                "session": str(session),
                "released": False,
                "holder": None,
                "fenced": None,
                "process": None,
                "marker": None,
            },
            indent=2,
        )
    else:
        say(f"session {session} is free: nobody holds it")


def _result(
    store: Store, session: SessionKey, holder: LockRecord, *, released: bool, ours: bool
) -> dict[str, Any]:
    """``process``: whether the holder's process still runs; ``fenced``: it can write no more."""
    counts = store.statistics()
    marker: Marker | None = "written" if counts.markers else None
    if counts.markers_owed:
        marker = "owed"
    runs = _process_status(holder)
    return {
        "session": str(session),
        "released": released,
        "holder": lock_as_json(holder),
        "fenced": ours or runs == "dead",
        "process": runs,
        "marker": marker,
    }


def _process_status(holder: LockRecord) -> str:
    if holder.pid is None or holder.pid_status == "unknown":
        return "unknown"
    if holder.pid_status != "alive":
        return "dead"
    return "alive" if native().processes.look_up(holder.pid).alive else "dead"


def _result_lines(result: dict[str, Any]) -> list[str]:
    session, pid = result["session"], result["holder"]["pid"]
    if not result["released"]:
        return [f"session {session} is free: its holder ended in this moment"]
    lines = [paint(f"released {session}", "good")]
    if result["process"] == "dead":
        lines.append(f"  its holder, process {pid}, was gone already")
    elif result["fenced"]:
        lines.append("  its holder is fenced: whatever it still writes is refused")
        if result["process"] == "alive":
            lines.append(
                f"  process {pid} still runs; what it waits for ends by itself, or: kill {pid}"
            )
    else:
        lines.append(
            f"  process {pid} is no holder of Turnlock's and cannot be fenced: it may go on"
        )
        lines.append(f"  writing the transcript. See what it is: ps -fp {pid}; end it: kill {pid}")
    if result["marker"] == "written":
        lines.append("  its error marker was written; the history is kept")
    elif result["marker"] == "owed":
        lines.append("  its error marker could not be written yet; the next turn writes it")
    else:
        lines.append("  it owed no error marker; the history is kept")
    return lines
