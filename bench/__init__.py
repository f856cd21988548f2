"""The benchmarks: ``make bench`` measures, draws, and writes docs/benchmarks.md.

How it measures
---------------

*In the same run, in turns.* What is compared is measured in rounds, A B C, C B A, and so on, so
that a machine that gets slower gets slower for all of them. A figure is a median with its quartiles
and its 99th percentile, never a best.

*In processes of their own.* Every lock under test, ours, a peer's or a floor, is a *subject*, and
a *contender* is a process that takes and releases one when it is told to (``contender``). Times
are taken by the contender itself, from CLOCK_MONOTONIC, which all processes share, and are asked
for later, so that no report of one contender runs while another is being timed.

*Beside a floor.* The floor is the system calls that any such thing needs, in Python, without
anything around them.

Every measure is a file in ``measures``; what it says on the page stands there and has no numbers.
The numbers, and every sentence that depends on them, are written from ``results.json``.
"""
