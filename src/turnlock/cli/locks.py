"""``turnlock locks``."""

from __future__ import annotations

import click

from ..doctor.live import Gateway, gateway_of
from ..printable import printable
from .jsonout import say_json
from .knowledge import Knowledge, knowledge_of, locks_as_json, notes
from .lock_table import lock_lines
from .looking import looking
from .options import (
    common_options,
    existing_store,
    json_option,
    named_store,
    state_directory,
    store_option,
)
from .terminal import say
from .unlisted import unlisted


@click.command()
@json_option
@store_option
@common_options
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> int:
    """List every lock with its holder and the verdict on it. Changes nothing.

    With --json one object, {"locks": [...]}, with the fields of 'turnlock doctor --json'. Where a
    directory cannot be listed the exit code is 2, and "unreadable" has its "path" and "why".
    """
    with looking(ctx):
        with existing_store(ctx) as store:
            locks = store.locks()
        gateway: Gateway | None = None
        known: Knowledge = {}
        if named_store(ctx) is None:
            root = state_directory(ctx)
            gateway = gateway_of(root)
            known = knowledge_of(root, locks, gateway)
        left_out = unlisted(ctx)
    if as_json:
        say_json({"locks": locks_as_json(locks, known)} | left_out.facts, indent=2)
    elif not locks and not left_out.directories:
        say("no session is held")
    for line in () if as_json else lock_lines(locks, notes(known)):
        say(line)
    if gateway is not None and not gateway.answers:
        text = f"turnlock: the gateway here, {printable(gateway.description)}: {gateway.remedy}"
        say(text, to_stderr=True)
    return left_out.told()
