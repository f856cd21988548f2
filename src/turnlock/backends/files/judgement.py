"""The table of verdicts: what a claim and the evidence about it add up to.

Pure: the evidence is gathered elsewhere. The rule is to call a holder dead only on proof, because
an unknown holder that is left alone costs a wait, and a live one that is robbed costs a transcript.

Takers do not ask for the flock of what is not ours: it may be that of another taker which was
stopped with it, and the session would be blocked for ever. A holder whose claim was written over is
fenced by them as any that is superseded.

=====================================================  ==========================================
claim and evidence                                     verdict
=====================================================  ==========================================
ours, flock held                                       live; past its limit ``over-limit``
ours, flock free, same boot                            stale ``dead-pid``: the kernel dropped it
ours, flock free, same host, other boot                stale ``other-boot``
ours, flock free, other host and other boot            unknown: that kernel is not ours to ask
ours, version not 1                                    unknown: held, never stale
foreign, names another host or pid namespace           unknown
foreign, pid gone (or in state Z or X)                 stale ``dead-pid``; unknown if a process of
                                                       another pid namespace has that number
foreign, other boot; other start time                  stale ``other-boot``; ``recycled-pid``
foreign, pid alive, start time equal                   live at any age; past its limit
                                                       ``over-limit``
foreign, pid alive, no start time                      live up to max(stale after, its limit),
                                                       then stale ``too-old``
empty, no JSON object, no usable pid                   kept while younger than 30 s, then stale
                                                       ``unreadable``
foreign or unreadable, flock held, seen by doctor      never stale: unknown, ``flock-held``. It may
or clean-up                                            be a claim of ours that was written over
=====================================================  ==========================================
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from .claim import Claim
from .process import PidStatus, ProcessFacts

UNREADABLE_GRACE = 30.0


class State(Enum):
    LIVE = "live"
    STALE = "stale"
    YOUNG = "young"  # unreadable, but perhaps only half written
    UNKNOWN = "unknown"


class Here(NamedTuple):
    """This host, as far as claims name theirs."""

    host: str
    boot_id: str | None
    pid_namespace: int | None


class Evidence(NamedTuple):
    """``flock_held`` is None where it does not count; ``process`` None without a usable pid."""

    here: Here
    flock_held: bool | None
    age: float | None
    file_age: float
    process: ProcessFacts | None = None
    pid_elsewhere: bool = False


class Verdict(NamedTuple):
    state: State
    pid_status: PidStatus
    reasons: tuple[str, ...] = ()

    @property
    def over_limit(self) -> bool:
        return self.state is State.LIVE and "over-limit" in self.reasons


def judge(claim: Claim | None, evidence: Evidence, *, stale_after: float) -> Verdict:
    """The verdict on a lock file; ``claim`` is None when it holds no JSON object."""
    if claim is not None and claim.is_ours:
        return _judge_ours(claim, evidence)
    if claim is None or claim.pid is None:
        verdict = _judge_unreadable(evidence)
    else:
        verdict = _judge_foreign(claim, evidence, stale_after)
    if evidence.flock_held and verdict.state is not State.LIVE:
        return Verdict(State.UNKNOWN, PidStatus.UNKNOWN, ("flock-held",))
    return verdict


def _judge_unreadable(evidence: Evidence) -> Verdict:
    old = evidence.file_age > UNREADABLE_GRACE
    return Verdict(State.STALE if old else State.YOUNG, PidStatus.UNKNOWN, ("unreadable",))


def _judge_ours(claim: Claim, evidence: Evidence) -> Verdict:
    if not claim.is_known_version:
        return Verdict(State.UNKNOWN, PidStatus.UNKNOWN, ("unknown-version",))
    if evidence.flock_held:
        return Verdict(State.LIVE, PidStatus.ALIVE, _over_limit(claim, evidence))
    here = evidence.here
    if claim.boot_id == here.boot_id:
        return Verdict(State.STALE, PidStatus.DEAD, ("dead-pid",))
    if claim.host == here.host:
        return Verdict(State.STALE, PidStatus.DEAD, ("other-boot",))
    return Verdict(State.UNKNOWN, PidStatus.UNKNOWN, ("other-host",))


def _judge_foreign(claim: Claim, evidence: Evidence, stale_after: float) -> Verdict:
    here = evidence.here
    if claim.host not in (None, here.host):
        return Verdict(State.UNKNOWN, PidStatus.UNKNOWN, ("other-host",))
    if claim.pid_namespace not in (None, here.pid_namespace):
        return Verdict(State.UNKNOWN, PidStatus.UNKNOWN, ("other-namespace",))
    if claim.boot_id not in (None, here.boot_id):
        return Verdict(State.STALE, PidStatus.DEAD, ("other-boot",))
    process = evidence.process
    if process is None or not process.alive:
        if evidence.pid_elsewhere:
            return Verdict(State.UNKNOWN, PidStatus.UNKNOWN, ("other-namespace",))
        return Verdict(State.STALE, PidStatus.DEAD, ("dead-pid",))
    if claim.start_time is not None and process.start_time is not None:
        if claim.start_time != process.start_time:
            return Verdict(State.STALE, PidStatus.RECYCLED, ("recycled-pid",))
        return Verdict(State.LIVE, PidStatus.ALIVE, _over_limit(claim, evidence))
    age = evidence.file_age if evidence.age is None else evidence.age
    if age > max(stale_after, claim.max_hold or 0.0):
        return Verdict(State.STALE, PidStatus.ALIVE, ("too-old",))
    return Verdict(State.LIVE, PidStatus.ALIVE, _over_limit(claim, evidence))


def _over_limit(claim: Claim, evidence: Evidence) -> tuple[str, ...]:
    if claim.max_hold is None or evidence.age is None or evidence.age <= claim.max_hold:
        return ()
    return ("over-limit",)
