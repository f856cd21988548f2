"""One schedule: a kernel, its processes, what their clients saw, and the verdict on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

from tests.oracle import (
    Died,
    Event,
    History,
    PowerCut,
    Record,
    Stopped,
    Tampered,
    Violation,
    check,
    held_too_long,
    records,
    unchanged,
    unmarked,
)

from .clients import Host
from .kernel import Kernel
from .loop import SimulatedLoop
from .package import Copy, Pool
from .plan import Plan, ProcessPlan
from .process import Process
from .scheduler import Actor, Scheduler, Stuck

# Virtual seconds within which everybody has to be through.
_HORIZON = 300.0
_REBOOT = 60.0
# The watchdog acts within milliseconds; its worker may meet a guard that is held.
_WATCHDOG_SLACK = 1.5
_AUDIT_WAIT = 30.0
# The new transcript, and the directories from the sessions' up to the root.
_SYNCS_OF_A_TAKE = 6


class Result(NamedTuple):
    seed: int
    violations: tuple[Violation, ...]
    steps: int
    turns: int
    acked: int


class World:
    def __init__(self, plan: Plan, pool: Pool, *, trace: list[str] | None = None) -> None:
        self.plan = plan
        self.trace = trace
        self.random = Random(plan.seed * 7 + 1)
        self.history = History()
        self.violations: list[Violation] = []
        self.scheduler = Scheduler(
            Random(plan.seed * 7 + 2),
            rarity=plan.rarity,
            stalls=plan.stalls,
            delays=plan.delays,
        )
        self.kernel = Kernel(lambda: 1_800_000_000.0 + self.scheduler.now)
        self.processes: list[Process] = []
        self.loops: list[SimulatedLoop] = []
        self.transcripts: dict[str, Sequence[Record]] = {}
        self._pool = pool
        self._stamps = 0
        self._memory: Any = None

    def run(self) -> Result:
        try:
            self._play()
            self._audit()
            self.violations += filter(self._counts, check(self.history, self.transcripts))
            if not (self.plan.cuts_power or self.plan.fails):
                self.violations += unmarked(self.history, self.transcripts)
            if not (self.plan.disk[0] or self.plan.longest_delay):
                self.violations += held_too_long(self.history, slack=_WATCHDOG_SLACK)
        except Stuck as stuck:
            self.violations.append(Violation("I8", str(stuck)))
        finally:
            self._end()
        return self._result()

    # What happens

    def _play(self) -> None:
        hosts = [Host(self, self._new_process(), plan) for plan in self.plan.processes]
        for host, plan in zip(hosts, self.plan.processes, strict=True):
            host.process.faults = {(one.of, one.call): one for one in plan.faults}
            host.start()
        self._run_all()
        self.scheduler.delays.clear()
        if self.plan.cuts_power:
            self._cut_power()
        for host in hosts:
            if not host.process.dead:
                host.process.faults.clear()
                self.scheduler.start(host.process, "closer", host.store.close, daemon=False)
        self._run_all()

    def _audit(self) -> None:
        """A process that comes later: cleans up, takes each session once, reads, cleans again."""
        is_one = self.plan.backend == "memory"
        process = self.processes[0] if is_one else self._new_process()
        host = Host(self, process, ProcessPlan((), (), ()))
        self.scheduler.start(process, "auditor", lambda: self._audited(host), daemon=False)
        self._run_all()

    def _audited(self, host: Host) -> None:
        # The kernel drops the locks of who died last, and who stood still goes on; who was
        # cancelled as it took a session gives it back when the disk has answered.
        host.time.sleep(1.0 + self.plan.longest_delay + _SYNCS_OF_A_TAKE * self.plan.disk[0])
        host.store.clean_stale()
        sessions = [record.session for record in host.store.sessions()]
        for number, session in enumerate(sessions):
            turn_id = f"audit{number}"
            with host.store.turn(session, wait=_AUDIT_WAIT, turn_id=turn_id):
                host.read(session, turn_id)
        left = [record.path for record in host.store.locks()]
        if left:
            self.violations.append(Violation("I9", f"locks are left: {left}"))
        before = self._content()
        host.store.clean_stale()
        for session in sessions:
            host.store.revoke(session)
        self.violations += unchanged(before, self._content())
        for session in sessions:
            self.transcripts[session] = records(host.store.read(session))

    def _content(self) -> dict[str, bytes]:
        return {
            path: bytes(inode.data)
            for path, inode in self.kernel.names.items()
            if not inode.is_directory
        }

    def _run_all(self) -> None:
        self.scheduler.run(horizon=self.scheduler.now + _HORIZON)

    def _cut_power(self) -> None:
        self.say("the power is cut")
        self.note(PowerCut(self.stamp()))
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.descriptors.clear()
        self.kernel.cut_power(self.random)
        # The host comes up again. A claim that was torn is called stale by its age.
        self.scheduler.now += _REBOOT

    def _counts(self, violation: Violation) -> bool:
        if violation.invariant == "I9":
            # Where a disk fails, that a turn was interrupted may be all that is left to be known.
            return not self.plan.fails
        # A reader may have seen what was not durable yet, and is gone with the power.
        return not (self.plan.cuts_power and violation.invariant == "I5")

    def _new_process(self) -> Process:
        number = len(self.processes)
        process = Process(self, number, self._pool.copy(number))
        self.processes.append(process)
        return process

    def _end(self) -> None:
        for process in self.processes:
            process.dead = True
        for actor in self.scheduler.actors:
            self.scheduler.end(actor)
        for loop in self.loops:
            loop.end()

    def _result(self) -> Result:
        kinds = [type(event).__name__ for event in self.history]
        return Result(
            self.plan.seed,
            tuple(self.violations),
            self.scheduler.steps,
            kinds.count("Granted"),
            kinds.count("Acked"),
        )

    def digest(self) -> str:
        """Of all that was seen and of how long it took: the same for the same seed."""
        seen = [repr(event) for event in self.history]
        seen += [f"{session}: {list(found)!r}" for session, found in self.transcripts.items()]
        seen += [f"{self.scheduler.steps} {self.scheduler.now!r}"]
        return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16]

    # For processes and clients

    def open_store(self, process: Process) -> Any:
        """A store as ``open_store`` makes it, on what this world has for a system."""
        load = process.copy.load
        clock = load("turnlock.clock").SystemClock()
        if self.plan.backend == "memory":
            if self._memory is None:
                self._memory = load("turnlock.backends.memory").MemoryBackend(
                    clock=clock, pid=process.pid
                )
            backend = self._memory
        else:
            backend = self._files_backend(process.copy, clock)
        return load("turnlock.store").Store(backend, location="/state", clock=clock)

    def _files_backend(self, copy: Copy, clock: Any) -> Any:
        files = copy.load("turnlock.backends.files")
        waker = copy.load("turnlock.backends.files.waker")
        native = self.plan.backend == "files"
        return files.FilesBackend(
            files.StateDirectory("/state"),
            clock=clock,
            platform=files.Platform(
                unnamed_files=native,
                waker=waker.InotifyWaker() if native else waker.PollingWaker(),
                processes=_Processes(self, copy),
            ),
        )

    def stamp(self) -> float:
        """The time, and later than every other stamp."""
        self._stamps += 1
        return self.scheduler.now + self._stamps * 1e-9

    def note(self, event: Event) -> None:
        self.history.note(event)
        if self.trace is not None:
            self.say(str(event))

    def say(self, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.scheduler.now - 1000:8.3f}  {what}")

    def random_bytes(self, size: int) -> bytes:
        return self.random.getrandbits(size * 8).to_bytes(size, "big")

    def disk_delay(self) -> float:
        most, share = self.plan.disk
        if share and self.random.random() * 100 < share:
            return self.random.random() * most
        return 0.0

    def crashed(self, actor: Actor, error: BaseException) -> None:
        if isinstance(error, Stuck):
            raise error
        where = _where(error)
        self.say(f"{actor} crashed: {error!r} at {where}")
        self.violations.append(
            Violation("I11", f"{actor}: {type(error).__name__}: {error} {where}")
        )

    def allow(self, error: BaseException, errors: Any) -> None:
        """Pass an error of ours that this plan's faults account for; raise any other."""
        self.say(f"error: {error}")
        plan = self.plan
        slow = plan.stops or plan.longest_delay > 0 or plan.disk[0] > 0
        if isinstance(error, errors.GuardTimeout) and slow:
            return
        if plan.fails and isinstance(error, errors.StoreError | errors.TranscriptError):
            return
        if plan.removes and isinstance(error, errors.LockPathError):
            return
        raise error

    def died(self, process: Process) -> None:
        self.note(Died(self.stamp(), process.name))

    def stopped(self, process: Process, seconds: float) -> None:
        self.note(Stopped(self.stamp(), process.name, self.scheduler.now + seconds))

    def remove_locks(self) -> None:
        for session in self.plan.sessions:
            self.remove_lock(session)

    def remove_lock(self, session: str) -> None:
        self.note(Tampered(self.stamp(), session))
        agent, _, name = session.partition("/")
        path = f"/state/agents/{agent}/sessions/{name}.jsonl.lock"
        if path in self.kernel.names:
            self.kernel.unlink(path)

    def is_alive(self, pid: int) -> bool:
        return any(one.pid == pid and not one.dead for one in self.processes)

    def locks_table(self) -> str:
        """/proc/locks."""
        rows = [
            f"FLOCK  ADVISORY  WRITE {pid} 08:02:{inode} 0 EOF"
            for inode, pid in self.kernel.flock_holders().items()
        ]
        rows += [
            f"OFDLCK ADVISORY  READ -1 08:02:{inode} {offset} {offset}"
            for inode, offset in self.kernel.locked_bytes()
        ]
        return "".join(f"{number}: {row}\n" for number, row in enumerate(rows, 1))

    def status_of(self, pid: int) -> str:
        """/proc/PID/status."""
        stopped = any(one.pid == pid and one.stopped for one in self.processes)
        return f"Name:\tpython\nState:\t{'T (stopped)' if stopped else 'S (sleeping)'}\n"


class _Processes:
    """What /proc says: `turnlock.backends.files.process.Processes`."""

    host = "simulated"
    pid_namespace = 1

    def __init__(self, world: World, copy: Copy) -> None:
        self._world = world
        self._facts = copy.load("turnlock.backends.files.process").ProcessFacts

    @property
    def boot_id(self) -> str:
        return self._world.kernel.boot

    def look_up(self, pid: int) -> Any:
        return self._facts(alive=self._world.is_alive(pid), start_time=pid)

    def is_pid_elsewhere(self, pid: int, claim: object) -> bool:
        return False

    def look_elsewhere(self, claims: object) -> None:
        pass


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    where = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        where = f"{code.co_filename.rpartition('/turnlock/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"({where})"
