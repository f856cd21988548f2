"""F. Damage to transcripts: what is on the disk. What passes through the gateway is beside it."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.cli import running
from tests.helpers import HOLD, LONG_PATIENCE, PATIENCE, child, eventually, kinds
from tests.mutants import faults
from tests.oracle import History, Violation, check, records
from tests.transcript.strict import judge
from turnlock.doctor.examine import examine
from turnlock.store import Store
from turnlock.transcript.entries import CUT_OFF, Entry, answered_call, message_of, tool_calls
from turnlock.transcript.history import messages
from turnlock.turns.sync import Turn

from .declaring import Bite, mode, needs
from .namespaces import MOUNTS, in_shell, unshared
from .programs import FORKING, FREE, KILLING, claim, transcript

SAYING = """
    import turnlock
    def said(role, *parts, **more):
        message = {"role": role, "content": list(parts), **more}
        return {"type": "message", "message": message}
    def text(of):
        return {"type": "text", "text": of}
    def call(identity, arguments=None):
        return {"type": "toolCall", "id": identity, "name": "look", "arguments": arguments or {}}
    def result(identity):
        return said("toolResult", text("seen"), toolCallId=identity, toolName="look")
"""


def read(state: Path, key: str = "main/a") -> list[Entry]:
    return list(turnlock.open_store(state).read(key))


def go_on(state: Path, text: str = "next") -> list[dict[str, Any]]:
    """The next message gets in; the history that its model would be sent."""
    with turnlock.open_store(state, durability="none").turn("main/a", wait=PATIENCE) as turn:
        turn.append(turnlock.user(text))
        history = turn.messages()
    judge(history)
    return history


def plain(path: Path) -> list[Entry]:
    """What a program reads that takes each line for itself and skips those that are no JSON."""
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def texts(state: Path, key: str = "main/a") -> list[str]:
    """What the messages of a session say."""
    said = (message_of(entry) for entry in read(state, key))
    return [message["content"][0]["text"] for message in said if message]


# Forks a process for each number of entries, which kills itself right behind that many.
KILLED_IN_TOOLS = """
    import os, signal
    STORY = [
        turnlock.user("do it"),
        said("assistant", text("I look"), call("a"), call("b")), result("a"), result("b"),
        said("assistant", call("c")), result("c"), turnlock.assistant("done"),
    ]
    turnlock.open_store(sys.argv[1])
    for number in range(len(STORY) + 1):
        pid = fork()
        if pid == 0:
            with turnlock.open_store(f"{sys.argv[1]}/{number}").turn("main/a") as turn:
                for entry in STORY[:number]:
                    turn.append(entry)
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        print(number, flush=True)
    print("all", flush=True)
"""


@mode(
    "F1",
    bites=(
        Bite(faults.CALLS_LEFT_OPEN, shows="on the disk: a call without result"),
        Bite(faults.OPEN_CALLS_SENT, shows="calls without result"),
    ),
)
def test_f1_killed_between_any_two_entries_the_history_is_accepted(state: Path) -> None:
    open_calls = 0
    with child(SAYING + FORKING + KILLED_IN_TOOLS, state) as process:
        while (number := process.line()) != "all":
            left = state / number
            judge(messages(read(left)))
            open_calls += len(without_result(left))
            go_on(left)
            assert not without_result(left), "on the disk: a call without result"
    assert open_calls == 4, "the kill came between calls and results"


def without_result(state: Path) -> set[str]:
    found = read(state)
    made = {call.id for entry in found for call in tool_calls(entry)}
    return made - {answered_call(entry) for entry in found}


HALF_STORED = """
    import os
    with turnlock.open_store(sys.argv[1]).turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("do it"))
        turn.append(said("assistant", call("half", '{"path": "/ho'), stopReason="aborted"))
        turn.append(said("assistant", call("")))
        turn.append(result("orphan"))
        os.kill(os.getpid(), 9)
"""


@mode(
    "F2",
    bites=(
        Bite(faults.HALF_CALLS_ANSWERED, shows="half"),
        Bite(faults.NAMELESS_ANSWERED, shows="''"),
        Bite(faults.HALF_CALLS_SENT, shows=r"\(2, True"),
    ),
)
def test_f2_half_a_call_gets_no_result_and_is_not_sent(state: Path) -> None:
    with child(SAYING + HALF_STORED, state) as process:
        process.ended()
    before = transcript(state).read_bytes()
    for number in range(2):
        history = go_on(state)
        sent = [call["id"] for one in history for call in one.get("tool_calls", ())]
        answered = [one for one in map(answered_call, read(state)) if one is not None]
        assert (len(sent), "half" in sent, answered) == (1, False, ["orphan"])
        assert history[-1 - number]["content"] == "next"
    assert transcript(state).read_bytes().startswith(before)


# Turns of three entries each; the parent stops one of them, frees the session, and wakes it.
MIXING = """
    import logging, os, random, signal, time, turnlock
    logging.disable()  # nobody reads what they say while they run
    state, workers, rounds, seed = sys.argv[1], *map(int, sys.argv[2:5])
    store = turnlock.open_store(state, durability="none")
    store.revoke("main/a")  # what that imports, imported once
    def work(number):
        for count in range(10**6):
            name = f"{number}-{count}"
            try:
                with store.turn("main/a", wait=60, turn_id=name) as turn:
                    for _ in range(3):
                        turn.append(turnlock.user(name))
            except turnlock.TurnlockError:
                pass  # revoked, or somebody was stopped in the guard
    pids = []
    for number in range(workers):
        pid = fork()
        if pid == 0:
            work(number)
        pids.append(pid)
    chance = random.Random(seed)
    revoked = 0
    for _ in range(rounds):
        time.sleep(chance.random() * 0.01)
        victim = chance.choice(pids)
        os.kill(victim, signal.SIGSTOP)
        try:
            revoked += store.revoke("main/a")
        except turnlock.TurnlockError:
            pass
        time.sleep(chance.random() * 0.01)
        os.kill(victim, signal.SIGCONT)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(revoked, flush=True)
"""


@mode("F3", bites=Bite(faults.NO_FENCE, shows="mixed"))
def test_f3_turns_of_processes_that_are_stopped_and_freed_never_mix(state: Path) -> None:
    with child(FORKING + MIXING, state, 3, 60, 3) as process:
        revoked = int(process.line(LONG_PATIENCE))
    assert revoked > 5
    go_on(state)
    found = read(state)
    names: dict[int, set[str]] = {}
    for entry in found:
        if message := message_of(entry):
            names.setdefault(entry["epoch"], set()).add(message["content"][0]["text"])
    mixed = [said for said in names.values() if len(said) != 1]
    assert not mixed, f"mixed: {mixed}"
    assert not out_of_order(found), f"mixed: {out_of_order(found)}"


def out_of_order(entries: list[Entry]) -> list[Violation]:
    """What shows in the transcript alone: turns that interleave, epochs, ids, ends."""
    return [one for one in check(History(), {"it": records(entries)}) if one.invariant != "I9"]


# Forks a process for each length, which kills itself when it has written that much of an entry.
TORN = """
    import os, signal, turnlock
    from turnlock.backends.files import FilesBackend, StateDirectory
    from turnlock.backends.files.fileops import FileOps
    from turnlock.store import Store
    class Tearing(FileOps):
        length = None
        def write(self, handle, data):
            if self.length is None:
                return super().write(handle, data)
            super().write(handle, data[:self.length])
            os.kill(os.getpid(), signal.SIGKILL)
    def story(state, length):
        files = Tearing()
        store = Store(FilesBackend(StateDirectory(state), files=files), location=state)
        with store.turn("main/a", turn_id="torn") as turn:
            turn.append(turnlock.user("acknowledged"))
            files.length = length
            turn.append(turnlock.user('cut "short": \u00e9 {}'))
    turnlock.open_store(sys.argv[1])
    for length in map(int, sys.argv[2:]):
        pid = fork()
        if pid == 0:
            story(f"{sys.argv[1]}/{length}", length)
        os.waitpid(pid, 0)
        print("torn", flush=True)
"""
LENGTHS = (1, *range(2, 260, 9))


@contextmanager
def torn(state: Path) -> Iterator[list[Path]]:
    """State directories whose transcripts end in the midst of an entry."""
    with child(FORKING + TORN, state, *LENGTHS) as process:
        for _ in LENGTHS:
            process.expect("torn")
        yield [state / str(length) for length in LENGTHS]


@mode("F4", bites=Bite(faults.ONE_BAD_LINE_ENDS_IT, shows="TranscriptError"))
def test_f4_killed_in_the_middle_of_a_write_the_session_is_there(state: Path) -> None:
    with torn(state) as left:
        for each in left:
            assert texts(each)[:1] == ["acknowledged"]
            history = [message["content"] for message in go_on(each)]
            assert (history[0], history[-1]) == ("acknowledged", "next")


@mode("F5", bites=Bite(faults.GLUED, shows="glued"))
def test_f5_the_next_entry_is_not_glued_to_the_one_that_was_cut_short(state: Path) -> None:
    with torn(state) as left:
        for each in left:
            cut = transcript(each).read_bytes()
            go_on(each)
            ids = [entry["id"] for entry in plain(transcript(each)) if entry["type"] != "session"]
            assert ids == [entry["id"] for entry in read(each)], "glued"
            assert transcript(each).read_bytes().startswith(cut)


HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda line: b"\xff" * len(line),
    "NULs": lambda line: b"\0" * len(line),
    "half": lambda line: line[: len(line) // 2],
    "none": lambda line: b"",
    "glued": lambda line: line[:-1] + b",",
    "another's": lambda line: b'{"type":"session","version":99}\n',
}


@pytest.mark.parametrize("damage", HEADERS.values(), ids=HEADERS)
@mode("F6", bites=Bite(faults.STARTS_ANEW, shows="wiped"))
def test_f6_a_damaged_first_line_costs_nothing_but_itself(
    state: Path, damage: Callable[[bytes], bytes]
) -> None:
    running.a_turn(state, text="before")
    path = transcript(state)
    header, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(damaged := damage(header + b"\n") + rest)
    assert texts(state) == ["before"]
    history = go_on(state)
    assert path.read_bytes().startswith(damaged), "wiped"
    assert [message["content"] for message in history] == ["before", "next"]
    found = {one.check for one in examine(str(state)).findings}
    assert found & {"header-damaged", "header-missing", "header-version"}


@mode(
    "F7",
    bites=(
        Bite(faults.SKIPPED_IN_SILENCE, shows="nobody is told"),
        Bite(faults.DOCTOR_SKIPS, shows="doctor"),
    ),
)
def test_f7_who_skips_bad_lines_says_how_many(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for text in "123":
        running.a_turn(state, text=text)
    path = transcript(state)
    lines = path.read_bytes().splitlines(keepends=True)
    for number, bad in ((2, b"\0" * 40), (5, b'{"type":"mess'), (8, b"<html>")):
        assert b'"message"' in lines[number]
        lines[number] = bad + b"\n"
    path.write_bytes(b"".join(lines))
    with caplog.at_level(logging.WARNING, "turnlock"):
        assert [message["content"] for message in go_on(state)] == ["next"]
    told = [one.getMessage() for one in caplog.records if "damaged" in one.getMessage()]
    assert len(told) == 1, "nobody is told"
    assert "main/a: 3 damaged lines were skipped" in told[0]
    assert "3 damaged lines skipped" in running.run(state, "sessions", "read", "main/a").err
    found = {one.check: one.message for one in examine(str(state)).findings}
    assert "3 lines" in found.get("damaged-lines", ""), "doctor"


# A save is what changes a transcript: an append, and a healed copy that takes its place.
KILLED_SAVING = """
    import shutil
    from turnlock.doctor.healing import Healer
    from turnlock.session import SessionKey
    before, root = sys.argv[1:3]
    def story(state, number):
        files = Killing()
        layout = StateDirectory(state)
        files.left = number
        store = Store(FilesBackend(layout, files=files), location=state)
        with store.turn("main/a", wait=0) as turn:
            for text in "12":
                print("acknowledged", *turn.append(turnlock.user(text)), flush=True)
        Healer(layout, SessionKey("main", "a"), files=files).heal(wait=0)
    turnlock.open_store(before)
    for number in range(1, 1000):
        shutil.copytree(before, f"{root}/{number}")
        pid = fork()
        if pid == 0:
            story(f"{root}/{number}", number)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print("over", number, flush=True)
        if status == 0:
            break
    print("all", flush=True)
"""


@mode(
    "F8",
    bites=(Bite(faults.REWRITES, shows="lost"), Bite(faults.HEALS_IN_PLACE, shows="lost")),
)
def test_f8_killed_at_any_step_of_a_save_no_entry_is_lost(state: Path, tmp_path: Path) -> None:
    running.a_turn(state, text="before")
    with transcript(state).open("ab") as file:
        file.write(b"what only a healed copy is without\n")
    before = [entry["id"] for entry in read(state)]
    acknowledged: list[str] = []
    killed = 0
    root = tmp_path / "killed"
    with child(FORKING + KILLING + KILLED_SAVING, state, root) as process:
        while (line := process.line()) != "all":
            word, *rest = line.split()
            if word == "acknowledged":
                acknowledged += rest
                continue
            found = [entry["id"] for entry in read(root / rest[0])]
            assert {*before, *acknowledged} <= set(found), "lost"
            acknowledged = []
            killed += 1
    assert killed > 40


FULL = """
    import os, turnlock
    state = sys.argv[1]
    with open(f"{state}/ballast", "wb") as file:
        file.write(b"x" * 200_000)
    store = turnlock.open_store(state)
    acknowledged = []
    try:
        for _ in range(1000):
            with store.turn("main/a", wait=0) as turn:
                acknowledged += turn.append(turnlock.user("x" * 50_000))
        print("never full", flush=True)
    except turnlock.TurnlockError as error:
        print(type(error).__name__, flush=True)
    def found():
        return {entry["id"] for entry in turnlock.open_store(state).read("main/a")}
    print("lost", len(set(acknowledged) - found()), "of many:", len(acknowledged) > 9, flush=True)
    os.unlink(f"{state}/ballast")
    with store.turn("main/a", wait=0) as turn:
        acknowledged += turn.append(turnlock.user("there is room again"))
    print("lost", len(set(acknowledged) - found()), flush=True)
"""


@needs("namespaces")
@mode("F8", bites=Bite(faults.ACKED_UNWRITTEN, shows="lost [1-9]|never full"))
def test_f8_a_full_disk_costs_nothing_that_was_stored(state: Path) -> None:
    state.mkdir()
    mount = in_shell(f'mount -t tmpfs -o size=1m none {state} && exec "$@"')
    with child(FULL, state, prefix=[*unshared(*MOUNTS), *mount]) as process:
        process.expect("StoreError")
        process.expect("lost 0 of many: True")
        process.expect("lost 0")


CUT_OFF_IN_A_TOOL = """
    import threading
    try:
        with turnlock.open_store(sys.argv[1]).turn("main/a", turn_id="T1") as turn:
            turn.append(turnlock.user("do it"))
            turn.append(said("assistant", call("a"), call("b")))
            turn.append(result("a"))
            turn.watch(threading.Event().wait, first=0.5, what="tool look")
    except turnlock.LeaseRevoked as error:
        print(error.reason, flush=True)
"""


@mode(
    "F10",
    bites=(
        Bite(faults.NOT_MARKED, shows="interrupted"),
        Bite(faults.CALLS_LEFT_OPEN, shows="no word of the other"),
    ),
)
def test_f10_what_a_deadline_cut_off_is_on_record_and_what_was_done(state: Path) -> None:
    with child(SAYING + CUT_OFF_IN_A_TOOL, state) as process:
        eventually(lambda: "a" in map(answered_call, read(state)))
        history = go_on(state)
        assert process.process.poll() is None, "it hangs still"
    marker = running.marker(state)
    facts = marker["turnId"], marker["reason"], marker["phase"]
    assert facts == ("T1", "model-limit", "tool look")
    assert marker["heldMs"] >= 500
    results = {m["tool_call_id"]: m["content"] for m in history if m["role"] == "tool"}
    assert results["a"] == "seen"
    assert results["b"] == CUT_OFF, "no word of the other"


@mode("F15", bites=Bite(faults.MARKED_BY_CONTEXT, shows="lost session 'main/b'"))
def test_f15_a_failure_inside_of_another_sessions_turn_is_noted_in_its_own(state: Path) -> None:
    store = turnlock.open_store(state)
    with store.turn("main/b") as outer:
        outer.append(turnlock.user("b"))
        with pytest.raises(ValueError), store.turn("main/a") as turn:
            turn.append(turnlock.user("a"))
            raise ValueError("of a")
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/c") as turn:
            turn.append(turnlock.user("c"))
            # By the same thread, which goes on in the name of b.
            store.revoke("main/c")
            turn.check()
        outer.append(turnlock.assistant("b went on"))
    assert kinds(store, "main/a")[-1] == "error", "the notice is not there"
    assert kinds(store, "main/c")[-1] == "operator"
    assert kinds(store, "main/b") == ["turn", "user:b", "assistant:b went on", "end"]


@mode("F19", bites=Bite(faults.OUTER_IS_CURRENT, shows="foreign rows"))
def test_f19_each_entry_is_in_the_file_of_its_session(state: Path) -> None:
    store = turnlock.open_store(state)

    def say(session: str) -> None:
        turnlock.current_turn().append(turnlock.user(session))

    def work(first: str, second: str) -> None:
        for _ in range(10):
            with store.turn(f"main/{first}", wait=PATIENCE):
                say(first)
                # The resume: another session in the midst of a turn, and back.
                with store.turn(f"main/{second}", wait=PATIENCE):
                    say(second)
                say(first)

    pairs = [("a", "b"), ("c", "d"), ("e", "f"), ("c", "f")]
    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session in "abcdef":
        assert set(texts(state, f"main/{session}")) == {session}, "foreign rows"
        parents = {entry["id"] for entry in read(state, f"main/{session}")} | {None}
        assert {entry["parentId"] for entry in read(state, f"main/{session}")} <= parents


@mode("F19", bites=Bite(faults.WHOEVER_IS_THERE, shows="acknowledged"))
def test_f19_a_turn_whose_file_was_exchanged_writes_into_neither(state: Path) -> None:
    running.a_turn(state, "main/b", text="b")
    with (
        pytest.raises(turnlock.TranscriptError, match="replaced"),
        turnlock.open_store(state).turn("main/a") as turn,
    ):
        turn.append(turnlock.user("a"))
        transcript(state, "b").replace(transcript(state, "a"))
        turn.append(turnlock.user("to whom?"))
        pytest.fail("acknowledged")
    assert texts(state) == ["b"]


A_TOOL = """
    import json
    line = {"type": "custom", "id": "foreign", "customType": "of-a-tool", "data": {}}
    with open(sys.argv[1], "a") as file:
        file.write(json.dumps(line) + "\\n")
    print("written", flush=True)
"""


@mode("F20", bites=Bite(faults.TAKEOVER, shows="LeaseRevoked"))
def test_f20_side_entries_during_the_models_call_cost_the_turn_nothing(state: Path) -> None:
    store = turnlock.open_store(state)
    path = transcript(state)

    def call() -> str:
        metadata = {"type": "custom", "customType": "metadata", "data": {"title": "new"}}
        thread = threading.Thread(target=turn.append, args=[metadata])
        thread.start()
        thread.join()
        with child(A_TOOL, path) as tool:
            tool.expect("written")
        os.utime(path, (0, 0))
        return "the reply"

    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        turn.append(turnlock.assistant(turn.watch(call, first=3 * PATIENCE)))
    found = [
        entry.get("customType") or message_of(entry)["content"][0]["text"] for entry in read(state)
    ]
    wanted = ["turnlock:turn", "1", "metadata", "of-a-tool", "the reply", "turnlock:end"]
    assert found == wanted


# All clocks of this host say the same for ever.
FROZEN = """
    import time
    time.time = lambda: 1_800_000_000.0
"""


@mode("F21", bites=Bite(faults.FENCED_BY_TIME, shows="appended"))
def test_f21_of_two_with_the_same_time_stamps_one_writes(state: Path) -> None:
    with child(FROZEN + HOLD, state, 300, "T1") as first:
        first.expect("holding")
        stamp = claim(state).stat().st_mtime_ns
        first.stop()
        with child(FROZEN + FREE, state) as third:
            third.expect("True")
        with child(FROZEN + HOLD, state, 300, "T2") as second:
            second.expect("holding")
            os.utime(claim(state), ns=(stamp, stamp))
            first.tell("from the loser")
            first.go_on()
            assert first.line().startswith("revoked")
            second.tell("from the winner")
            second.expect("appended")
            assert len({entry["timestamp"] for entry in read(state)}) == 1
    go_on(state)
    assert out_of_order(read(state)) == []
    assert texts(state) == ["from T1", "from T2", "from the winner", "next"]


def fail(store: Store, turn: Turn) -> None:
    raise ValueError("no")


def hang(turn: Turn) -> Callable[[], object]:
    return lambda: eventually(lambda: turn.revoked)


ENDS: dict[str, Callable[[Store, Turn], object]] = {
    "leaves": lambda store, turn: None,
    "writes": lambda store, turn: turn.append(turnlock.user("late")),
    "fails": fail,
    "is revoked": lambda store, turn: store.revoke("main/a"),
    "is overdue": lambda store, turn: turn.watch(hang(turn), first=0.3),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@mode("F22", bites=Bite(faults.REVIVED, shows="it is back"))
def test_f22_no_end_of_a_turn_brings_a_deleted_session_back(
    state: Path, end: Callable[[Store, Turn], object]
) -> None:
    store = turnlock.open_store(state)
    with (
        pytest.raises((turnlock.TurnlockError, ValueError)),
        store.turn("main/a") as turn,
    ):
        turn.append(turnlock.user("1"))
        transcript(state).unlink()
        end(store, turn)
    assert not transcript(state).exists(), "it is back"
    assert not claim(state).exists()
    go_on(state)
    assert kinds(store) == ["turn", "user:next", "end"]


# The arguments came as far as this, with what ends a line in them, when the stream was reset.
HALF_A_JSON_TEXT = """
    import os
    HALF = '{"command": "cat <<E\\n1\\r\\n2\\u2028\\ud83d'
    with turnlock.open_store(sys.argv[1]).turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("write it\\n{"))
        for more in ({}, {"stopReason": "aborted"}):
            turn.append(said("assistant", text(HALF), call(f"c{len(more)}", HALF), **more))
        os.kill(os.getpid(), 9)
"""


@mode("F24", bites=Bite(faults.SPLICED, shows="broken"))
def test_f24_half_a_json_text_breaks_no_line(state: Path) -> None:
    with child(SAYING + HALF_A_JSON_TEXT, state) as process:
        process.ended()
    path = transcript(state)
    for _ in range(2):
        lines = path.read_bytes().splitlines()
        assert len(plain(path)) == len(lines) == len(read(state)) + 1, "broken"
        history = go_on(state)
    assert [message["role"] for message in history].count("user") == 3
    # Who forks the session inherits a whole one.
    transcript(state, "b").write_bytes(path.read_bytes())
    with turnlock.open_store(state).turn("main/b") as turn:
        assert turn.messages() == history
