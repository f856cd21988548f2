"""``turnlock demo``."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..clock import SystemClock
from ..printable import printable
from ..store import Store
from .exits import WrongInput
from .log import log_errors_only
from .options import common_options, named_state_directory
from .reading import Reader
from .serving import extra_installed
from .signals import ENDING, ending_signals_raise
from .terminal import say

if TYPE_CHECKING:
    from ..demo import Stage

_EXTRA = "demo"


@click.command()
@click.option("--fast", is_flag=True, help="Shorter limits, and no time to read: about 10 seconds.")
@click.option("--plain", is_flag=True, help="Line by line, also on a terminal.")
@click.option("--no-color", is_flag=True, help="Without colours; so does NO_COLOR.")
@click.option("--keep", is_flag=True, help="Keep the files, and say where they are.")
@common_options
@click.pass_context
def command(ctx: click.Context, fast: bool, plain: bool, no_color: bool, keep: bool) -> None:
    """Watch a model call hang and a process die, and the sessions go on.

    In about 30 seconds: a model server that really hangs and processes that are really killed;
    the watchdog, start-up clean-up, doctor and error markers at work; and for contrast the same
    hang behind an ordinary lock file. No network, no key, no port of your choice.

    It plays in a temporary directory, whatever $TURNLOCK_STATE_DIR says; --state-dir names an empty
    directory to play in and to keep. Without a terminal, and with --plain, the same is told line
    by line.
    """
    with extra_installed(_EXTRA):
        import h11 as _  # noqa: F401 - now, and not in a process of the demo

        from ..demo import FAST, FULL, Cast, Setting, Texts, play
    log_errors_only()
    pace = FAST if fast else FULL
    texts = Texts(printable, _transcript if not (plain or no_color) else _plain_transcript)
    with ending_signals_raise(), _place(named_state_directory(ctx), keep=keep) as place:
        root, state, ends = place
        cast = ends.enter_context(Cast(root))
        stage = _stage(plain=plain, no_color=no_color)
        ends.callback(stage.close)
        # What ends is not disturbed by a second Ctrl-C.
        ends.callback(signal.pthread_sigmask, signal.SIG_BLOCK, ENDING)
        play(Setting(root, state, pace, texts, SystemClock()), cast, stage)


def _stage(*, plain: bool, no_color: bool) -> Stage:
    from ..demo import PlainStage

    plain_stage = PlainStage(lambda line: say(line))
    if plain or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return plain_stage
    try:
        from ..demo.screen import ScreenStage
    except ModuleNotFoundError as error:
        hint = f"pip install 'turnlock[{_EXTRA}]'"
        say(f"turnlock: line by line, as {error.name!r} is not installed: {hint}", to_stderr=True)
        return plain_stage
    return ScreenStage(no_color=no_color)


@contextmanager
def _place(named: str | None, *, keep: bool) -> Iterator[tuple[Path, Path, ExitStack]]:
    """A directory for the files of the contrast, the state directory, and what is done at the end.

    The last that is done is to let signals through again, whoever blocked them.
    """
    if named is not None:
        _make_ready(named)
    with ExitStack() as ends:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        ends.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        root = Path(tempfile.mkdtemp(prefix="turnlock-demo-"))
        state = root / "state" if named is None else Path(named)
        if keep:
            ends.callback(_say_kept, root, state)
        else:
            ends.callback(shutil.rmtree, root, ignore_errors=True)
            if named is not None:
                ends.callback(_say_kept, state, state)
        yield root, state, ends


def _make_ready(named: str) -> None:
    """Make the directory if it is missing. Raises `WrongInput` unless it can be played in.

    Before a process of the play tries, whose mistakes nobody would understand.
    """
    try:
        os.makedirs(named, mode=0o700, exist_ok=True)
        if not os.listdir(named):
            os.rmdir(tempfile.mkdtemp(dir=named))
            return
        why = "is not empty"
    except OSError as error:
        why = f"cannot be played in: {error.strerror or error}"
    raise WrongInput(f"{printable(named)} {why}", hint="name a new directory for the demo")


def _say_kept(kept: Path, state: Path) -> None:
    say(f"kept: {printable(kept)}")
    for command in ("sessions read main/alice", "doctor"):
        say(f"  turnlock {command} --state-dir {shlex.quote(printable(state))}")


def _transcript(store: Store, key: str) -> list[str]:
    reader = Reader(key)
    return [text for line in store.read_lines(key) for text in reader.lines(line)]


def _plain_transcript(store: Store, key: str) -> list[str]:
    return [click.unstyle(line) for line in _transcript(store, key)]
