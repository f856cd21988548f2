"""Sessions in PostgreSQL, for any number of gateways on any number of hosts.

**The row.** A session is one row. It has the claim (who holds it, since when, until when), the size
of the transcript, and the row's epoch, which every take raises and nothing lowers. A lease *is*
that number: it holds the session for exactly as long as the row has it. (With it goes the gateway's
id, for a database that loses commits and so may give a number twice. The epoch of an entry counts
the turns that wrote; it is the transcript's, and the same in a file. The row's counts the takes.)

**The fence is in the statement.** An append is one statement: it changes the row where the epoch is
the lease's and the size is what the lease knows, and inserts its lines for the row that it has
changed. If there is none, nothing is inserted. PostgreSQL locks the row and looks once more at what
another transaction has made of it meanwhile, so check and write are one step to everybody else.
Nothing of a superseded holder reaches the transcript: not of a gateway that was stopped and goes
on, nor of one that a partition has cut off. Take, supersede, renew and release are one statement
each on the same row. There are no advisory locks: those belong to the server's session, and a
pooler gives that to two clients.

**One message, one transaction.** What is done is sent in one message, with its own time-outs, and
commits by itself (``database``). So a gateway that is stopped, wherever that is, has no transaction
open and no row locked, and nobody ever waits for it. This is also why it works behind a pooler in
transaction mode. Nothing of a gateway lives in the server's session, but for LISTEN, which has a
connection of its own and which nobody relies on (``notify``).

**An answer that is lost** is asked for again. An append that was done finds the size changed the
second time, does nothing, and finds its own line where it would have put it. So a lost connection
doubles nothing. Where that fails as well the outcome is unknown: the error says so, the next append
looks at the transcript's end first, and the same entry id is one entry.

**Time** is the database's, for every lease and limit; no clock of a gateway's host is compared with
it. A lease runs for some seconds (`LEASE_TIME`). It is renewed on evidence of progress only: the
watchdog asks for it once a second for turns that are within their hold limit, their stall limit and
the deadlines of their calls, and for no other; an append extends it as well. What ends, hangs over
a limit or is being revoked is renewed no more. The holder trusts its lease from the moment at which
it *began* the renewal, and for less than the database gives it (``lease``). When that time is over
the watchdog revokes the turn by itself: the holder stops before the session can be another's. Were
it too slow for that, there is still the fence.

**A gateway that dies** renews nothing. When its leases have run out, whoever wants a session takes
it, and any other gateway reclaims the rest; both by superseding, which one wins. The claim that is
put in place of another's names the turn that it took the session from, in the same statement, and
keeps what that claim owed itself. So the error marker is written once, by who has the session, and
before anyone else can have it; and if that one dies as well, the next one knows.

**Waiters** stand in one line for each session, across all gateways (``waiting``).

**The transcript** is one row a line, byte for byte, each with the offset that it would have in a
file (``rows``). Rows are inserted and read, and never changed.
"""

from .backend import LEASE_TIME, PostgresBackend
from .looking import INDEXES, Health
from .migrating import VERSION, migrate

__all__ = ["INDEXES", "LEASE_TIME", "VERSION", "Health", "PostgresBackend", "migrate"]
