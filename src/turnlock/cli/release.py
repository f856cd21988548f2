"""``turnlock release``."""

from __future__ import annotations

import shlex
import sys

import click

from ..doctor.examination import command_line
from ..doctor.findings import lock_as_json
from ..errors import TurnlockError
from .exits import WrongInput
from .fate import FREE, Fate, fate_of, fate_of_moved
from .held import Held, Way, look_at
from .holder import holder_lines, holder_text
from .jsonout import say_json
from .looking import looking
from .naming import Target, resolve
from .options import common_options, is_state_directory_named, json_option, state_directory
from .terminal import say


class NotReleased(TurnlockError):
    """Somebody said no, or it was not the holder any more. Attributes: ``session``, ``why``."""

    def __init__(self, session: str, why: str) -> None:
        self.session = session
        self.why = why
        super().__init__(f"session {session!r} was not released: {why}")


class NotAsked(WrongInput):
    """There is nobody to ask. Attributes: ``session``, ``holder``: the lock as doctor has it."""

    def __init__(self, held: Held, command: str) -> None:
        self.session = held.target.key
        self.holder = lock_as_json(held.record)
        super().__init__(
            f"session {held.target.name!r} was not released: there is no terminal to ask on",
            hint=f"say that you mean it: {command}",
        )


@click.command()
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@common_options
@click.pass_context
def command(ctx: click.Context, key: str, yes: bool, as_json: bool) -> None:
    """Take session KEY from whoever holds it, and free it.

    The holder is fenced: whatever it writes from then on is refused. Its turn gets an error
    marker; nothing of the transcript is removed. Says what became of the holder.

    KEY may also be a file, FILE.jsonl or FILE.jsonl.lock, with or without its path; in a state
    directory of OpenClaw (2026.2 to 2026.7) also a session id or one of its session keys, such as
    agent:main:main. OpenClaw cannot be fenced: its lock is left alone until its limit has passed,
    and then moved aside, under a name that is printed. The transcript is not touched.
    """
    with looking(ctx):
        target = resolve(key, state_directory(ctx), named=is_state_directory_named(ctx))
    held = look_at(target)
    if held is None:
        _report(FREE, target, as_json)
        return
    try:
        _report(_released(held, yes, as_json), target, as_json)
    finally:
        held.close()


def _released(held: Held, yes: bool, as_json: bool) -> Fate:
    """What became of it, once it was shown, asked about, and done."""
    for line in () if as_json else holder_lines(held):
        say(line)
    way = held.way()
    if not yes:
        _ask(held, as_json)
        _require_same(held)
    if way is Way.MOVE_ASIDE:
        moved_to = held.move_aside()
        if moved_to is None:
            raise _changed_hands(held)
        return fate_of_moved(held, moved_to)
    return _superseded(held)


def _superseded(held: Held) -> Fate:
    with held.target.store() as store:
        released = store.revoke(held.target.store_key, "operator")
        return fate_of(held, store.statistics()) if released else FREE


def _report(fate: Fate, target: Target, as_json: bool) -> None:
    if as_json:
        say_json(fate.as_json(target), indent=2)
    for line in () if as_json else fate.lines(target):
        say(line)


def _ask(held: Held, as_json: bool) -> None:
    if as_json or sys.stdin is None or not sys.stdin.isatty():
        raise NotAsked(held, _with_yes(held.target))
    if not click.confirm("Take the session from it?", err=True):
        raise NotReleased(held.target.name, "you said no")


def _with_yes(target: Target) -> str:
    line = f"release {shlex.quote(target.name)} --yes"
    return command_line(line, target.root) if target.root else f"turnlock {line}"


def _require_same(held: Held) -> None:
    """The answer was about that lock, and no other."""
    now = look_at(held.target)
    try:
        if not held.is_same(now):
            raise _changed_hands(held, now)
    finally:
        if now is not None:
            now.close()


def _changed_hands(held: Held, now: Held | None = None) -> NotReleased:
    who = f"held by {holder_text(now.record)}" if now is not None else "free"
    why = f"while you were asked its holder ended, and it is {who} now"
    return NotReleased(held.target.name, why)
