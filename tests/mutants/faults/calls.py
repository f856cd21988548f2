"""Faults of guarded calls: connections that are not ended, or not given back; limits; keys."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

_SOCKETS = "integrations/sockets.py"
_CONNECTIONS = "tests/integrations/test_connections.py"

SOCKET_NOT_SHUT_DOWN = Mutant(
    "the socket of a call that is ended stays open under the thread that waits",
    Edit(
        _SOCKETS,
        "                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)\n",
        "                pass\n",
    ),
    caught_by=f"{_CONNECTIONS}::test_a_thread_that_waits_over_tls_comes_back",
)
OPEN_BEFORE_UNSEEN = Mutant(
    "a connection that was open before the guard says to no call that it is used",
    Edit("integrations/transport.py", "        adopt(self._inner)\n", ""),
    caught_by="tests/integrations/test_guard.py::test_so_is_one_that_was_open_before_the_guard",
)
HANDSHAKE_NOT_ENDED = Mutant(
    "nothing stands for the connection while TLS is being agreed on",
    Edit(_SOCKETS, "            self._now_is(twin)\n", "            pass\n"),
    caught_by=f"{_CONNECTIONS}::test_a_thread_in_the_middle_of_the_handshake_comes_back",
)
HANDSHAKE_FORGOTTEN = Mutant(
    "a handshake that is cancelled leaves its socket behind",
    Edit(
        _SOCKETS,
        "            await self._stream.aclose()\n            raise\n",
        "            raise\n",
    ),
    caught_by="tests/integrations/test_kills.py"
    "::test_a_call_that_is_cancelled_at_any_step_leaves_nothing",
)
DEAD_CONNECTION_KEPT = Mutant(
    "a connection of HTTP/2 that was ended with a call is given to the next",
    Edit(
        "integrations/transport.py",
        "        return [one for one in used if is_over or not one.is_available()]\n",
        "        return []\n",
    ),
    caught_by=f"{_CONNECTIONS}::test_a_task_that_waits_over_http2_leaves_no_call_behind",
)
TWICE_THE_WHITE_SPACE = Mutant(
    "white space in a line may be taken by either of two parts of an expression",
    Edit("integrations/content.py", r"(?:\[\s*)?\{", r"\[?\s*\{"),
    caught_by="tests/integrations/test_content.py::test_no_line_takes_longer_than_its_length",
)
LIMIT_SHORT_OF_THE_MOMENT = Mutant(
    "what came unseen after a content is not allowed for",
    Edit("turns/calling.py", "None if idle is None else idle + self._pause", "idle"),
    caught_by="tests/turns/test_calling.py::test_the_limit_is_longer_by_what_was_not_looked_at",
)
RETRIES_IN_A_THREAD = Mutant(
    "an SDK's client asks the thread for the turn that it was itself told",
    Edit(
        "integrations/guarding.py",
        '(getattr(transport, "_turn", None) or current_turn())',
        "current_turn()",
    ),
    caught_by="tests/integrations/test_guard.py::test_nor_in_a_thread_that_was_told_its_turn",
)
ANSWER_IS_NO_PROGRESS = Mutant(
    "an answer in one piece is no progress of its turn",
    Edit("integrations/transport.py", "        if self._is_answer:\n", "        if False:\n"),
    caught_by="tests/integrations/test_guard.py"
    "::test_an_answer_in_one_piece_is_progress_of_its_turn",
)
KEY_OF_ANY_SESSION = Mutant(
    "two sessions have the same key for a tool call",
    Edit("turns/face.py", "[self.session, self.turn_id, call_id]", "[self.turn_id, call_id]"),
    caught_by="tests/turns/test_calling.py"
    "::test_the_key_of_a_call_is_the_same_in_its_turn_and_no_other",
)
