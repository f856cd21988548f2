"""Sessions as files on one host.

A lease is the inode of its claim
---------------------------------

The claim is the file ``<transcript>.lock``. A lease holds its session for exactly as long as the
lock path names the inode of its claim; there is no other state. Three things follow.

*It is born whole.* The claim is made as an unnamed file, flocked, written in full, and then linked
to its name. Nobody ever sees a claim that is empty, half written or not yet flocked. (Where a file
system has no unnamed files the same is done under a temporary name.)

*It dies with its process.* The holder keeps ``flock(LOCK_EX)`` on the claim, and the kernel drops
it when the process is gone, whichever way. So of our own claims nobody has to guess by pid: flock
held is live, flock free is dead, also between containers that share a directory and a kernel.

*It is taken by a rename.* Whoever takes the lock from a holder, dead or alive, makes a claim of its
own and renames it over the other's. At that instant the path names another inode, and the old
holder, stopped or hung or only slow, has lost. Nobody ever unlinks somebody else's claim by path.

A descriptor of the claim stays open as long as its lease object lives, revoked or not: a closed one
would let the inode number come back, and with it the lease from the dead.

The guard
---------

Check and write have to be one step, or a holder that is stopped between the two writes after it was
fenced. They are one to everybody who also takes the guard: ``flock`` on the transcript, held for
microseconds by appends (check that the path names my claim, write), by takers (read the end) and by
whoever supersedes (check that the path names the claim that I judged, rename). Durability is
outside, so a slow disk holds nobody up: what was written before the fence is the transcript's, and
is acknowledged after its own fsync.

The guard is no lock that a hang can keep: no code of a turn runs inside it. Only a process that is
*stopped* between its two calls keeps it, and then nothing is safe but to wait; after
``guard_timeout`` whoever needs it gets `GuardTimeout`, which names that process.

Where there is no transcript, the guard is the flock on its directory, and whoever makes the
transcript needs that too. A dead claim's own flock would not do: whoever supersedes a living
holder, or another program's lock, has none.

A take that lost its claim before it had begun has failed. It does not try again as the same turn:
whoever took the claim has written, or will write, that turn's error marker.

Order
-----

Always fence, then marker, then hand over. A marker first would leave a holder that writes on
behind its own marker, should the revoker die in between. Who dies after the rename leaves a dead
claim that says, under ``supersedes``, which markers are still owed.
"""

from .backend import FilesBackend
from .layout import OneFile, StateDirectory
from .platform import Platform, native, portable

__all__ = ["FilesBackend", "OneFile", "Platform", "StateDirectory", "native", "portable"]
