"""``turnlock release``."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing

import click

from ..doctor.examination import command_line
from ..doctor.findings import lock_as_json
from ..doctor.live import Gateway, GatewayUnreachable, Refused, gateway_of
from ..errors import TurnlockError
from ..session import parse_key
from ..turns.revoking import COMMAND_PATIENCE
from .exits import WrongInput
from .fate import FREE, UNSEEN, Fate, fate_by_gateway, fate_of, fate_of_moved
from .held import Held, Way, look_at, waiting_for
from .holder import holder_lines, holder_text
from .jsonout import say_json
from .knowledge import knowledge_of
from .looking import looking
from .naming import Target, resolve
from .options import (
    common_options,
    existing_store,
    is_state_directory_named,
    json_option,
    named_store,
    state_directory,
    store_option,
)
from .stored import lines_of, release_stored
from .terminal import paint, say

_NO_ROUTE = "unknown_url"


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
@store_option
@common_options
@click.pass_context
def command(ctx: click.Context, key: str, yes: bool, as_json: bool) -> None:
    """Take session KEY from whoever holds it, and free it.

    The holder is fenced: whatever it writes from then on is refused. Its turn gets an error
    marker; nothing of the transcript is removed. Says what became of the holder. What the gateway
    of the state directory holds is released by that gateway; when it does not answer, nothing is
    changed, and the exit code is 69.

    KEY may also be a file, FILE.jsonl or FILE.jsonl.lock, with or without its path; in a state
    directory of OpenClaw (2026.2 to 2026.7) also a session id or one of its session keys, such as
    agent:main:main. OpenClaw cannot be fenced: its lock is left alone until its limit has passed,
    and then moved aside, under a name that is printed. The transcript is not touched.

    Of a holder of ours that another host or container had, and that holds no lock here any more,
    nobody here can tell whether it lives: it is taken too, after a warning.

    With --store the session is one of a database, named by its key, and its holder may be of any
    host: it is fenced by the database.
    """
    if named_store(ctx) is not None:
        with looking(ctx), existing_store(ctx) as store:
            fate = release_stored(store, key, yes=yes, as_json=as_json)
        if as_json:
            say_json(fate, indent=2)
        for line in () if as_json else lines_of(fate):
            say(line)
        return
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
    root = held.target.root
    gateway = gateway_of(root) if root is not None else None
    if gateway is not None and not gateway.holds(held.record):
        gateway = None
    if not as_json:
        known = knowledge_of(root, [held.record], gateway) if root is not None else {}
        for line in holder_lines(held, waiting_for(held) | dict(known.get(held.record.path, {}))):
            say(line)
        for line in UNSEEN if held.judged.is_unseen else ():
            say(paint(line, "warning"))
    if gateway is not None and not gateway.takes_requests:
        raise GatewayUnreachable(held.target.key, gateway)
    way = held.way()
    if not yes:
        _ask(held, as_json)
        _require_same(held)
    if gateway is not None:
        return _by_gateway(held, gateway)
    return _moved(held) if way is Way.MOVE_ASIDE else _superseded(held)


def _by_gateway(held: Held, gateway: Gateway) -> Fate:
    """Its process holds the lock, so it gives it up itself: this turn, and no later one."""
    try:
        answer = gateway.release(parse_key(held.target.key), held.record.turn_id)
    except Refused as refused:
        if refused.code == _NO_ROUTE:
            # A gateway of an older release: it finds out by its fence, as a process of any kind.
            fate = _superseded(held)
            return fate_by_gateway(held, fate.as_json(held.target))
        if refused.code != "turn_changed":
            raise
        raise NotReleased(held.target.name, f"its turn ended meanwhile: {refused.why}") from None
    return fate_by_gateway(held, answer)


def _moved(held: Held) -> Fate:
    moved_to = held.move_aside()
    if moved_to is None:
        raise _changed_hands(held)
    return fate_of_moved(held, moved_to)


def _superseded(held: Held) -> Fate:
    with held.target.store(revokes_unseen=held.judged.is_unseen) as store:
        settlement = store.supersede(
            held.target.store_key, turn_id=held.record.turn_id, patience=COMMAND_PATIENCE
        )
    return _ended_meanwhile(held) if settlement is None else fate_of(held, settlement)


def _ended_meanwhile(held: Held) -> Fate:
    """The session is free. Raises `NotReleased` when another holder has it."""
    now = look_at(held.target)
    if now is None:
        return FREE
    with closing(now):
        raise _changed_hands(held, now)


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
    why = f"its holder ended meanwhile, and it is {who} now"
    return NotReleased(held.target.name, why)
