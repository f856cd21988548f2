"""Faults of what outlives a process or a power cut: order, durability, what is owed."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant, appended

FSYNC_DROPPED = Mutant(
    "an append is acknowledged before it is durable",
    Edit(
        "backends/files/backend.py",
        "            if self._durable:\n"
        "                self._make_durable(lease, lease.transcript)\n",
        "",
    ),
)
DIRECTORY_NOT_SYNCED = Mutant(
    "the name of a transcript is not made durable",
    Edit(
        "backends/files/backend.py",
        "                self._transcripts.make_name_durable(place)\n",
        "                pass\n",
    ),
)
OWED_DROPPED = Mutant(
    "what a dead claim owed itself is dropped",
    Edit(
        "backends/files/claims.py",
        "        owed = (*claim.owed, Superseded(turn_id, claim.pid, reason, judged.age))\n",
        "        owed = (Superseded(turn_id, claim.pid, reason, judged.age),)\n",
    ),
)
SHORT_WRITES = Mutant(
    "a short write is not continued",
    Edit(
        "backends/files/fileops.py",
        "    if written < len(data):\n",
        "    if False:\n",
    ),
)
MARKER_FIRST = Mutant(
    "an operator writes the error marker before the fence is up",
    appended(
        "store.py",
        """
        def _marker_first(self, key, reason="operator", *, turn_id=Whose.ANYONES):
            from .backends.files.fileops import write_all
            from .transcript.entries import Failure, marker, new_id
            from .turns.writer import _line

            backend, wall = self._backend, self._runtime.clock.wall()
            place = backend.layout.place(parse_key(key))
            transcripts = backend._transcripts
            handle = transcripts.open(place)
            tail = transcripts.tail(handle, transcripts.size(handle), turns=1) if handle else Tail()
            turn = tail.open_turn
            if turn is not None:
                failure = Failure(turn.turn_id or "", reason, reason)
                entry = {"id": new_id()} | marker(failure, session_id=None, wall=wall)
                line = _line(entry, tail.last_id, turn.epoch, wall)
                with transcripts.guard(place, handle):
                    write_all(backend._files, handle, line)
            return _fence_first(self, key, reason, turn_id=turn_id)

        _fence_first, Store.revoke = Store.revoke, _marker_first
        """,
    ),
)
