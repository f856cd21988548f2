"""The log: in order and complete for who reads it, and nothing waits for who does not."""

from __future__ import annotations

import io
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnlock.gateway.log import Log

from ..helpers import PATIENCE, Child, child
from .raw import chat, get, post
from .serving import PROCESS, Served, config_file, run


class Pipe(io.StringIO):
    """A stream that takes nothing until it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.is_read = threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.is_read.wait(PATIENCE)
        return super().write(text)

    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


class TestLog:
    @pytest.fixture
    def pipe(self) -> Iterator[Pipe]:
        pipe = Pipe()
        yield pipe
        pipe.is_read.set()

    @pytest.fixture
    def logger(self) -> Iterator[logging.Logger]:
        logger = logging.Logger("of this test")
        yield logger
        for log in logger.handlers:
            log.close()

    def test_what_many_threads_log_is_written_whole_each_ones_in_order(
        self, pipe: Pipe, logger: logging.Logger
    ) -> None:
        pipe.is_read.set()
        log = Log(pipe)
        logger.addHandler(log)
        barrier = threading.Barrier(4)

        def speak(name: int) -> None:
            barrier.wait(PATIENCE)
            for number in range(500):
                logger.error("%d %d", name, number)

        threads = [threading.Thread(target=speak, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert log.written(PATIENCE)
        said = [line.split() for line in pipe.lines()]
        for name in range(4):
            assert [n for who, n in said if who == str(name)] == [str(n) for n in range(500)]

    def test_what_is_lost_is_counted_in_its_place(self, pipe: Pipe, logger: logging.Logger) -> None:
        log = Log(pipe, most=2)
        logger.addHandler(log)
        logger.error("taken")
        assert pipe.asked.wait(PATIENCE)
        for number in range(5):
            logger.error("%d", number)
        assert not log.written(0)
        pipe.is_read.set()
        assert log.written(PATIENCE)
        logger.error("after")
        assert log.written(PATIENCE)
        lost = "3 lines of this log are lost: nobody read it"
        assert pipe.lines() == ["taken", "0", "1", lost, "after"]

    def test_a_line_that_cannot_be_made_is_told_in_the_log(
        self, pipe: Pipe, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pipe.is_read.set()
        log = Log(pipe)
        logger.addHandler(log)
        logger.error("%d", "no number")
        assert log.written(PATIENCE)
        assert "TypeError" in pipe.lines()[-1]
        assert capsys.readouterr().err == ""

    def test_a_reader_that_is_gone_ends_nothing(self, logger: logging.Logger) -> None:
        class Closed(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        for stream in (Closed(), None):
            log = Log(stream)
            logger.addHandler(log)
            logger.error("to nobody")
            assert log.written(PATIENCE)


STUCK = """
    import logging
    from turnlock.gateway import process
    process._log_to_stderr()
    # More than a pipe takes whose reader does not read.
    logging.getLogger("turnlock").error("x" * 1_000_000)
"""


def test_a_log_that_nobody_reads_holds_up_no_start_no_request_and_no_end(tmp_path: Path) -> None:
    async def test(gateway: Served) -> None:
        for number in range(3):
            refused = await post(gateway, chat("/500", user=f"s{number}"))
            assert refused.status == 502
        assert (await get(gateway, "/healthz")).status == 200

    with child(STUCK + PROCESS, tmp_path / "state", config_file(tmp_path)) as started:
        run(test(Served(started.line(), tmp_path / "state")))
        started.process.send_signal(signal.SIGTERM)
        assert started.ended() == 0
        # It was stuck indeed: the pipe has the beginning of one line, and of no other.
        said = errors(started)
        assert said.rstrip("x").endswith("turnlock: ")
        assert "\n" not in said


SAYS = """
    import logging
    from turnlock.gateway import process
    process._log_to_stderr()
    name = "odd\\x1b[31m\\n2026 FORGED"
    logging.getLogger("turnlock").warning("%s is stale", name)
    try:
        raise LookupError(name)
    except LookupError:
        logging.getLogger("turnlock").exception("failed")
"""


def test_a_name_that_is_logged_steers_no_terminal_and_begins_no_line() -> None:
    with child(SAYS) as started:
        said = errors(started)
        assert started.ended() == 0
        assert "\x1b" not in said
        assert said.count(r"odd\x1b[31m") == 2
        assert sum(not line.startswith("  ") for line in said.splitlines()) == 2


ENDINGS = {
    "by itself": "",
    "with an error": "raise LookupError('the error')",
    "with a thread left": "threading.Thread(target=time.sleep, args=(60,)).start()",
}
MANY = """
    import logging, threading, time
    from turnlock.gateway import process
    process._log_to_stderr()
    async def main():
        for number in range(3000):
            logging.getLogger("turnlock").info("line %d", number)
        {end}
    process._run_to_the_end(main())
"""


@pytest.mark.parametrize("how", ENDINGS)
def test_the_log_is_complete_when_the_process_ends(tmp_path: Path, how: str) -> None:
    with child(MANY.format(end=ENDINGS[how])) as started:
        said = errors(started).splitlines()
        assert started.ended() == (1 if "error" in how else 0)
        numbers = [line.rpartition("line ")[2] for line in said[:3000]]
        assert numbers == [str(number) for number in range(3000)]
        assert said[3000:] == [] if how != "with an error" else "LookupError" in said[-1]


def errors(started: Child) -> str:
    """All that it writes to stderr, until it has ended."""
    assert started.process.stderr is not None
    return started.process.stderr.read().decode()
