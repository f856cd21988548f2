"""Sweeps: a fault at every file call, and the verdict on what a successor finds.

A test of a fault is worth what its moment is worth, and nobody knows the bad moments beforehand. So
here a fault comes at every moment: before and after the n-th call on a file, for every n until a
run ends untouched. All calls on files go through `FileOps`, which makes them countable (`calls`);
`test_calls.py` compares that with what the kernel was asked for. Whether a fault came to its point
is asserted, not hoped: a process that was to be killed has to have died of that signal.

=======  ===========================================================================================
part     the fault
=======  ===========================================================================================
kill     SIGKILL; and once more at every call of the recovery from each distinct state that it left
stop     SIGSTOP; a successor has its turn meanwhile, or is told who has the guard; then SIGCONT
power    what was not synced is lost, each by itself, or torn; replayed from a trace (`disk`)
errno    one errno, a short write, or a write that fails after a part
chaos    random SIGKILL, SIGSTOP, SIGCONT, operators, doctor and clean-up among real processes
=======  ===========================================================================================

*Actors* (`actors`) are processes forked from a warm one, so that a point costs milliseconds. They
note what they see over a pipe. *Stories* (`stories`) are what is swept: a state directory as it was
left, and what a process does to it; `scenes` plays one with a fault. When all is over a successor
takes every session without waiting, doctor repairs and is through, and ``tests/oracle`` judges the
history and the transcripts. The histories of chaos are also checked for linearizability (`linear`).

``python -m tests.sweeps`` runs them (``make sweeps``); a few points of each are in ``make test``.
What it prints for a failure, ``--only STORY --at 'before call 12'`` has once more. `bites` has
the faults of our own code that each part finds (``pytest -m bites tests/sweeps``).
"""
