"""Faults of the gateway."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant, appended

from .lock import LOCKS_NOTHING

BUSY_IS_UPSTREAM = Mutant(
    "a busy session is reported as a model's failure",
    Edit(
        "gateway/errors.py",
        "                return _busy(error)\n",
        '                return Refusal("upstream_error", str(error))\n',
    ),
)
ANSWERS_WITH_ITS_TASK = Mutant(
    "a client has its answer when the task of its turn ends, and not before",
    Edit(
        "gateway/exchange.py",
        "        self.fail(self._cause or _as_error(event))\n",
        "        pass\n",
    ),
)
NEVER_TOLD = Mutant(
    "who waits for a reply is not told that it failed",
    Edit(
        "gateway/exchange.py",
        "        else:\n            self.fail(error)\n        if error is not None and",
        "        if error is not None and",
    ),
)
CANCELLED_WHILE_STORING = Mutant(
    "a client that leaves cancels also what is being stored",
    Edit("gateway/exchange.py", " or self.phase is Phase.FINISHING:\n", ":\n"),
)
FEW_LOOKUPS = Mutant(
    "names are looked up in the interpreter's default pool",
    Edit(
        "gateway/process.py",
        "    loop.set_default_executor(ThreadPoolExecutor(_LOOKUPS))\n",
        "",
    ),
)

# Start, and who owns the directory

CLEANS_NOTHING = Mutant(
    "the start cleans nothing up",
    Edit(
        "gateway/server.py",
        "        cleaned = store.clean_stale()\n",
        "        cleaned = store.locks()\n",
    ),
)
RECLAIMS_BY_DIRECTORY = Mutant(
    "who starts makes a directory, and removes it once it owns",
    appended(
        "gateway/owning.py",
        """
        _own = own

        def own(state_dir, *, files=None, clock=None):
            reclaiming = os.path.join(state_dir, "gateway.reclaim")
            try:
                os.mkdir(reclaiming)
            except FileExistsError:
                nobody = Gateway(state_dir, None, "", Condition.UNNAMED, None)
                raise AlreadyServed(state_dir, nobody) from None
            try:
                return _own(state_dir, files=files, clock=clock)
            finally:
                os.rmdir(reclaiming)
        """,
    ),
)
CLEANS_BEFORE_IT_OWNS = Mutant(
    "the start cleans up before it asks who owns the directory",
    Edit("cli/gateway.py", "    refuse_second(root, _ASK)\n", ""),
    Edit(
        "gateway/server.py",
        "    make_directory(state_dir)\n",
        "    make_directory(state_dir)\n    _clean_up(store)\n",
    ),
)
STOPPED_UNSEEN = Mutant(
    "a gateway that is stopped is not told from one whose loop is blocked",
    Edit(
        "doctor/live.py", '    elif state is not None and state[:1] in "Tt":\n', "    elif False:\n"
    ),
)
RESUMES = Mutant(
    "the start asks again what was not answered",
    Edit(
        "gateway/server.py",
        "        door.open(create_app(gateway, token=token))\n",
        "        door.open(create_app(gateway, token=token))\n        _resume(gateway)\n",
    ),
    appended(
        "gateway/server.py",
        """
        def _resume(gateway):
            from ..session import parse_key
            from .answering import SessionWork, answer_in_session
            from .chat import NewInSession
            from .conversation import Repetition
            from .service import Where

            limits, clock = gateway.config.limits, gateway.clock
            for record in gateway.store.sessions():
                said = [e["message"] for e in gateway.store.read(record.session) if "message" in e]
                if not said or said[-1]["role"] != "user":
                    continue
                key = parse_key(record.session)
                new = NewInSession((), (said[-1]["content"][0]["text"],), None)
                agent = gateway.agents[key.agent]
                work = SessionWork(key, agent, new, Repetition(), ())
                gateway.begin_turn(
                    Where(key, Repetition()),
                    lambda exchange, work=work: answer_in_session(
                        work, exchange, gateway.store, limits, clock
                    ),
                    agent.model,
                )
        """,
    ),
)

# Turns and the end

ASKED_AGAIN = Mutant(
    "a message that is sent again is asked again",
    Edit("gateway/conversation.py", "    if not asked:\n", "    if True:\n"),
)
WAITS_FOR_EVER = Mutant(
    "a message waits for its session without a limit",
    Edit("gateway/answering.py", "wait=limits.wait, max_hold=hold", "wait=None, max_hold=hold"),
)
TWO_GET_IN = Mutant(
    "a busy session lets the next one in",
    *LOCKS_NOTHING.edits,
    Edit(
        "turns/queue.py",
        "        if self._queues.get(ticket.identity):\n            return False\n",
        "",
    ),
)
DRAINS_WITHOUT_LIMIT = Mutant(
    "the drain waits for whatever runs",
    Edit(
        "gateway/service.py", "self.exchanges.ended(drain - settle)", "self.exchanges.ended(3600)"
    ),
)
MESSAGE_LAST = Mutant(
    "the user's message is stored with the reply",
    Edit(
        "gateway/answering.py",
        "        exchange.question = question = await _store(turn, planned, exchange)\n",
        "",
    ),
    Edit(
        "gateway/answering.py",
        "        exchange.phase = Phase.FINISHING\n",
        "        exchange.question = question = await _store(turn, planned, exchange)\n"
        "        exchange.phase = Phase.FINISHING\n",
    ),
)
DELIVERED_FIRST = Mutant(
    "a reply is delivered before it is stored",
    Edit(
        "gateway/answering.py",
        "        exchange.phase = Phase.FINISHING\n",
        "        exchange.phase = Phase.FINISHING\n        exchange._end(_reply(text, finished))\n",
    ),
)
UNTIED = Mutant(
    "a reply does not say what it answers",
    Edit(
        "gateway/answering.py",
        '        await turn.append({"id": reply_id(question), **_entry(text, finished, model)})\n',
        "        await turn.append(_entry(text, finished, model))\n",
    ),
)
EMPTY_STORED = Mutant(
    "an empty reply is a reply",
    Edit("gateway/answering.py", "    if not text.strip():\n", "    if False:\n"),
)
STALE_VIEW = Mutant(
    "the history is read before the session is had",
    Edit(
        "gateway/answering.py",
        "        planned = await on_worker(lambda: _planned(work, store, clock, lost))\n",
        "",
    ),
    Edit(
        "gateway/answering.py",
        "    async with block as turn:\n",
        "    lost = tuple(work.lost)\n"
        "    planned = await on_worker(lambda: _planned(work, store, clock, lost))\n"
        "    async with block as turn:\n",
    ),
)
RETRIES_UNKNOWN = Mutant(
    "the SDK's retries are new messages",
    Edit("gateway/conversation.py", "    elif repeated.retries > 0:\n", "    elif False:\n"),
)
NO_TURN_LIMIT = Mutant(
    "a turn of the gateway has no limit of its own",
    Edit(
        "gateway/answering.py",
        "    hold = min(limits.turn, limits.max_hold)\n",
        "    hold = 1e6\n",
    ),
)
BODY_UNLIMITED = Mutant(
    "a client may take as long as it likes to send its request",
    Edit(
        "gateway/body.py",
        "        async with asyncio.timeout(patience):\n",
        "        async with asyncio.timeout(None):\n",
    ),
)
_WATCHED = "first=limits.first_token, idle=limits.idle)"
FIRST_UNLIMITED = Mutant(
    "a model may take as long as it likes to its first word",
    Edit("gateway/answering.py", _WATCHED, "first=1e6, idle=limits.idle)"),
)
IDLE_UNLIMITED = Mutant(
    "a model that has begun may take as long as it likes",
    Edit("gateway/answering.py", _WATCHED, "first=limits.first_token, idle=1e6)"),
)
ONE_LIMIT_FOR_ALL = Mutant(
    "the limit between two words is that of the first word too",
    Edit("gateway/answering.py", _WATCHED, "first=limits.idle, idle=limits.idle)"),
)
ALONE_UNLIMITED = Mutant(
    "a call without a session has no limits",
    Edit(
        "gateway/answering.py",
        "            self._exchange.cut(self._passed)\n",
        "            pass\n",
    ),
)
LATE_IS_OVER = Mutant(
    "a timer that fires late ends its call like any other",
    Edit(
        "gateway/answering.py",
        "        if late > GAP:\n",
        "        if False:\n",
    ),
)
LATE_AGAIN_AND_AGAIN = Mutant(
    "a timer that is late is given a tick on top each time",
    Edit(
        "gateway/answering.py",
        "            self._on_top = 0.0\n",
        "",
    ),
)
ERROR_IS_REPLY = Mutant(
    "what a model's failure says is stored as its reply",
    Edit(
        "gateway/answering.py",
        "            text, finished = await _collect(items, exchange, model, turn.progress)\n",
        "            try:\n"
        "                text, finished = await _collect(items, exchange, model, turn.progress)\n"
        "            except ModelError as error:\n"
        '                text, finished = str(error), Finished("stop", None, model.model)\n',
    ),
)
ERROR_UNSAID = Mutant(
    "a stream whose turn failed just ends",
    Edit(
        "gateway/sse.py", "            return event(outcome.body())\n", '            return b""\n'
    ),
)
CLIENT_STAYS = Mutant(
    "a turn goes on when its client has left",
    Edit("gateway/exchange.py", "        self.cancel(ClientLeft())\n", ""),
)
TWO_GATEWAYS = Mutant(
    "a second gateway starts on one state directory",
    Edit(
        "gateway/owning.py",
        "    except BlockingIOError:\n        return False\n    except OSError as error:\n        # With",
        "    except BlockingIOError:\n        return True\n    except OSError as error:\n        # With",
    ),
    caught_by="tests/gateway/test_gateway_owning.py::test_the_second_is_refused_and_changes_nothing",
)
LOCKED_OUT_BY_A_LOOK = Mutant(
    "a gateway does not wait for who looks for a moment",
    Edit("gateway/owning.py", "        if clock.monotonic() >= deadline:\n", "        if True:\n"),
    caught_by="tests/gateway/test_gateway_owning.py::test_who_only_looks_is_waited_out",
)
NO_CLEAN_UP = Mutant(
    "a gateway starts without cleaning up",
    Edit("gateway/server.py", "        cleaned = store.clean_stale()\n", "        cleaned = []\n"),
    caught_by="tests/gateway/test_gateway_stopping.py::test_a_killed_gateway_leaves_a_turn_that_the_next_one_marks_once",
)
CLEAN_UP_STOPS_START = Mutant(
    "a clean-up that fails stops the start",
    Edit(
        "gateway/server.py",
        '        logger.warning("the start-up clean-up failed: %s", error)\n        return\n',
        "        raise\n",
    ),
    caught_by="tests/gateway/test_gateway_starting.py::test_a_clean_up_that_fails_stops_no_start",
)
SERVES_TOO_EARLY = Mutant(
    "a gateway announces itself before it has cleaned up",
    Edit(
        "gateway/server.py",
        "        await web.start()\n",
        "        await web.start()\n        announce(url_of(listener))\n",
    ),
    caught_by="tests/gateway/test_gateway_starting.py::test_while_it_cleans_up_it_says_that_it_starts_and_lets_nobody_in",
)
OPEN_WHILE_STOPPING = Mutant(
    "a gateway that stops takes in new work",
    Edit(
        "gateway/service.py",
        "        if self.is_stopping:\n            raise",
        "        if False:\n            raise",
    ),
    caught_by="tests/gateway/test_gateway_stopping.py::test_turns_that_can_end_do_and_new_requests_are_refused",
)
WAITERS_KEPT = Mutant(
    "who waits for a session is not told that the gateway stops",
    Edit(
        "gateway/service.py",
        "        self.exchanges.cancel(ShuttingDown, only=Phase.WAITING)\n",
        "",
    ),
    caught_by="tests/gateway/test_gateway_stopping.py::test_of_many_queued_streams_each_is_told_at_once_and_stored_nothing",
)
DRAINS_FOR_EVER = Mutant(
    "a drain waits for turns that do not end",
    Edit(
        "gateway/service.py",
        "self.exchanges.ended(drain - settle)):\n            self.exchanges.cancel(ShuttingDown)\n",
        "self.exchanges.ended(drain - settle)):\n",
    ),
    caught_by="tests/gateway/test_gateway_stopping.py::test_sigterm_ends_a_hung_turn_in_time_with_its_marker",
)
DRAINS_NOT_AT_ALL = Mutant(
    "a gateway that stops cancels its turns at once",
    Edit(
        "gateway/service.py",
        "        if not await _unless(hasten, self.exchanges.ended(drain - settle)):\n",
        "        if True:\n",
    ),
    caught_by="tests/gateway/test_gateway_stopping.py::test_turns_that_can_end_do_and_new_requests_are_refused",
)
STORE_LEFT_OPEN = Mutant(
    "a gateway that ends leaves the turns that ignore their cancellation",
    Edit(
        "gateway/service.py",
        "        closed = on_worker(self.store.close)\n",
        "        closed = on_worker(lambda: None)\n",
    ),
    caught_by="tests/gateway/test_gateway_stopping.py::test_code_that_ignores_its_cancellation_does_not_hold_up_the_end",
)
SECOND_SIGNAL_UNHEARD = Mutant(
    "a second signal does not hasten the end",
    Edit(
        "gateway/server.py",
        "        (self.hastened if self.wished.is_set() else self.wished).set()\n",
        "        self.wished.set()\n",
    ),
    caught_by="tests/gateway/test_gateway_stopping.py::test_a_second_signal_hastens_it",
)
PRESENCE_STAYS = Mutant(
    "a gateway that ends leaves its file",
    Edit("gateway/state.py", "        _remove_own(path)\n", "        pass\n"),
    caught_by="tests/gateway/test_gateway_stopping.py::test_where_it_listens_is_in_the_state_directory",
)
PRESENCE_OF_ANOTHER = Mutant(
    "a gateway that ends removes its successor's file",
    Edit(
        "gateway/state.py",
        '        if isinstance(found, dict) and found.get("pid") == os.getpid():\n',
        "        if isinstance(found, dict):\n",
    ),
    caught_by="tests/gateway/test_gateway_state.py::test_another_gateways_presence_is_not_removed",
)
TOKEN_OPEN = Mutant(
    "a token that was open to others stays so",
    Edit("gateway/state.py", "            os.fchmod(descriptor, 0o600)\n", "            pass\n"),
    caught_by="tests/gateway/test_gateway_state.py::test_a_token_that_others_could_read_is_closed_to_them",
)
RELOAD_HALF = Mutant(
    "a configuration that cannot be used ends reloading",
    Edit(
        "gateway/reloading.py",
        '                logger.error("the configuration was not reloaded, the old one stays: %s",'
        " error)\n",
        "                raise\n",
    ),
    caught_by="tests/gateway/test_gateway_reload.py::test_a_configuration_that_cannot_be_used_changes_nothing",
)
NO_TOKEN = Mutant(
    "no token is needed",
    Edit("gateway/access.py", "        if not self._has_token(scope):\n", "        if False:\n"),
    caught_by="tests/gateway/test_gateway_security.py::test_every_route_but_health_wants_the_token",
)
ANY_HOST = Mutant(
    "any Host is answered",
    Edit("gateway/access.py", "        if not self._is_own_host(scope):\n", "        if False:\n"),
    caught_by="tests/gateway/test_gateway_security.py::test_the_host_is_one_of_ours",
)
ANY_ORIGIN = Mutant(
    "any Origin is answered",
    Edit(
        "gateway/access.py",
        '        if any(origin not in self._origins for origin in _values(scope, b"origin")):\n',
        "        if False:\n",
    ),
    caught_by="tests/gateway/test_gateway_security.py::test_an_origin_has_to_be_allowed",
)
SMUGGLED = Mutant(
    "a request may have two lengths",
    Edit(
        "gateway/access.py",
        '        if _values(scope, b"transfer-encoding") and _values(scope, b"content-length"):\n',
        "        if False:\n",
    ),
    caught_by="tests/gateway/test_gateway_security.py::test_what_is_no_http_is_cut",
)
HEADS_OF_ANY_SIZE = Mutant(
    "headers may have any size",
    Edit("gateway/access.py", "HEAD_BYTES_MAX = 16 * 1024\n", "HEAD_BYTES_MAX = 1 << 40\n"),
    caught_by="tests/gateway/test_gateway_security.py::test_what_is_no_http_is_cut",
)
BODIES_OF_ANY_SIZE = Mutant(
    "a body may have any size",
    Edit(
        "gateway/body.py", "                if len(data) > limit:\n", "                if False:\n"
    ),
    caught_by="tests/gateway/test_gateway_security.py::test_a_big_body_is_refused_however_it_says_its_size",
)
BODIES_OF_ANY_TIME = Mutant(
    "a body may take any time",
    Edit(
        "gateway/body.py",
        "        async with asyncio.timeout(patience):\n",
        "        async with asyncio.timeout(None):\n",
    ),
    caught_by="tests/gateway/test_gateway_security.py::test_slow_clients_are_cut",
)
HEADS_OF_ANY_TIME = Mutant(
    "the head of a request may take any time",
    Edit(
        "gateway/connection.py",
        "        if self._deadline is None:\n            assert",
        "        if False:\n            assert",
    ),
    caught_by="tests/gateway/test_gateway_security.py::test_slow_clients_are_cut",
)
SECRETS_TO_CLIENTS = Mutant(
    "a client gets the secrets of an error",
    Edit(
        "gateway/errors.py",
        "        made.message = self._redacted(made.message)\n",
        "",
    ),
    caught_by="tests/gateway/test_gateway_failures.py::test_an_upstream_status_is_told_and_a_key_is_not",
)
ANSWERED_TOO_EARLY = Mutant(
    "a client has its answer before its turn has ended",
    Edit(
        "gateway/answering.py",
        '        await turn.append({"id": reply_id(question), **_entry(text, finished, model)})\n',
        '        await turn.append({"id": reply_id(question), **_entry(text, finished, model)})\n'
        "        exchange._end(_reply(text, finished))\n",
    ),
    caught_by="tests/gateway/test_gateway_last_byte.py::test_nothing_is_left_to_do_when_an_answer_ends",
)
CLIENT_LEFT_UNSEEN = Mutant(
    "a turn that is streamed goes on when its client has left",
    Edit(
        "gateway/sse.py",
        "    await until_gone(receive)\n    exchange.client_left()\n",
        "    await until_gone(receive)\n",
    ),
    caught_by="tests/gateway/test_gateway_leaving.py::test_a_turn_whose_client_leaves_is_cancelled",
)
CANCELS_THE_FINISHED = Mutant(
    "a complete reply is thrown away when its client leaves",
    Edit(
        "gateway/exchange.py",
        " or self._task is None or self.phase is Phase.FINISHING:\n",
        " or self._task is None:\n",
    ),
    caught_by="tests/gateway/test_gateway_last_byte.py::test_a_complete_reply_is_stored_whoever_leaves",
)
REVOKED_UNANSWERED = Mutant(
    "the client of a revoked turn waits for the turn's code",
    Edit(
        "gateway/exchange.py",
        "        if isinstance(event, TurnRevoked):\n            call_on_loop",
        "        if False:\n            call_on_loop",
    ),
    caught_by="tests/gateway/test_gateway_failures.py::test_code_that_ignores_its_cancellation_holds_up_nobody",
)
RETRY_AFTER_STORED = Mutant(
    "a client is not told that its message is stored",
    Edit("gateway/errors.py", "        if stored:\n", "        if False:\n"),
    caught_by="tests/gateway/test_gateway_failures.py::test_a_failed_turn_is_an_error_and_the_next_one_a_reply",
)
STORED_TOO_EARLY = Mutant(
    "a message counts as stored when its append failed",
    Edit(
        "gateway/answering.py",
        "        exchange.stored = False\n        raise\n",
        "        raise\n",
    ),
    caught_by="tests/gateway/test_gateway_last_byte.py::test_a_message_that_could_not_be_stored_may_be_sent_again",
)
NO_RETRY_AFTER = Mutant(
    "a busy session does not say when to come again",
    Edit("gateway/errors.py", '    headers = {"retry-after": str(retry)}\n', "    headers = {}\n"),
    caught_by="tests/gateway/test_gateway_waiting.py::test_a_busy_session_is_said_to_be_busy_with_its_holder",
)
LIMITS_ARE_MODELS_FAULT = Mutant(
    "a turn that passed a limit is reported as a model's failure",
    Edit(
        "gateway/errors.py",
        "            case LeaseRevoked():\n                return self._revoked(error, began)\n",
        '            case LeaseRevoked():\n                return Refusal("upstream_error", "")\n',
    ),
    caught_by="tests/gateway/test_gateway_failures.py::test_a_failed_turn_is_an_error_and_the_next_one_a_reply",
)
FIRST_TOKEN_UNWATCHED = Mutant(
    "the first token of a turn has no limit",
    Edit(
        "gateway/answering.py",
        "first=limits.first_token, idle=limits.idle)\n        async with",
        "first=3600.0, idle=limits.idle)\n        async with",
    ),
    caught_by="tests/gateway/test_gateway_failures.py::test_a_failed_turn_is_an_error_and_the_next_one_a_reply",
)
IDLE_UNWATCHED = Mutant(
    "the pauses of a model have no limit",
    Edit(
        "gateway/answering.py",
        "first=limits.first_token, idle=limits.idle)\n        async with",
        "first=limits.first_token, idle=3600.0)\n        async with",
    ),
    caught_by="tests/gateway/test_gateway_failures.py::test_a_failed_turn_is_an_error_and_the_next_one_a_reply",
)
TURN_UNWATCHED = Mutant(
    "the turn limit of the configuration is not used",
    Edit(
        "gateway/answering.py",
        "    hold = min(limits.turn, limits.max_hold)\n    block",
        "    hold = limits.max_hold\n    block",
    ),
    caught_by="tests/gateway/test_gateway_failures.py::test_content_without_end_meets_the_turn_limit",
)
PARTIAL_IS_WHOLE = Mutant(
    "a reply that was cut off is stored as whole",
    Edit(
        "gateway/answering.py",
        "    if finished is None:\n        raise",
        "    if finished is None and not pieces:\n        raise",
    ),
    Edit(
        "gateway/answering.py",
        "    finished: Finished | None = None\n    async for",
        '    finished: Finished | None = Finished("stop", None, "")\n    async for',
    ),
    caught_by="tests/gateway/test_gateway_failures.py::test_a_reply_without_an_end_is_none",
)
QUESTION_TWICE = Mutant(
    "a message that is sent again is stored twice",
    Edit(
        "gateway/conversation.py",
        "    if not asked:\n        return Plan",
        "    if True:\n        return Plan",
    ),
    caught_by="tests/gateway/test_gateway_repeating.py::TestPlan::test_a_repetition_of_an_unanswered_message_is_asked_and_not_stored",
)
ANSWERED_ANEW = Mutant(
    "a model is asked again what it has answered",
    Edit(
        "gateway/conversation.py",
        "    if answer is not None:\n        return Plan",
        "    if False:\n        return Plan",
    ),
    caught_by="tests/gateway/test_gateway_repeating.py::TestPlan::test_a_repetition_of_an_answered_message_gets_its_answer",
)
YES_IS_YES = Mutant(
    "equal words are a repetition at any time",
    Edit(
        "gateway/conversation.py",
        "    return is_news and _age(answer, now) <= ANSWERED_WINDOW\n",
        "    return True\n",
    ),
    caught_by="tests/gateway/test_gateway_repeating.py::TestPlan::test_an_answer_from_long_ago_is_not_given_again",
)
NO_QUEUE_LIMIT = Mutant(
    "any number of turns may wait",
    Edit(
        "gateway/service.py",
        "        if self.exchanges.waiting >= most:\n",
        "        if False:\n",
    ),
    caught_by="tests/gateway/test_gateway_waiting.py::test_only_so_many_wait",
)
DONE_AFTER_ERROR = Mutant(
    "a stream that failed ends like one that did not",
    Edit(
        "gateway/sse.py",
        "            return event(outcome.body())\n",
        '            return event(outcome.body()) + b"data: [DONE]\\n\\n"\n',
    ),
    caught_by="tests/gateway/test_gateway_stopping.py::test_a_stream_is_told_of_the_end",
)
SILENT_STREAM = Mutant(
    "a silent stream sends nothing",
    Edit(
        "gateway/sse.py",
        "            await _body(send, self._paper.piece(piece) if piece else KEEPALIVE)\n",
        "            if piece:\n                await _body(send, self._paper.piece(piece))\n",
    ),
    caught_by="tests/gateway/test_gateway_failures.py::test_a_stream_says_nothing_before_it_knows_and_then_keeps_alive",
)
WHOLE_HISTORY_STORED = Mutant(
    "what a client repeats of the history is stored again",
    Edit(
        "gateway/chat.py",
        "        new = [said for said in self.messages[last + 1 :] if",
        "        new = [said for said in self.messages if said.role != 'assistant' and",
    ),
    caught_by="tests/gateway/test_gateway_replies.py::test_the_transcript_is_the_history_and_the_rest_of_a_request_is_not",
)
TOO_MANY_READS = Mutant(
    "a frozen disk uses up all threads",
    Edit("gateway/reading.py", "        if self._under_way >= _MOST:\n", "        if False:\n"),
    caught_by="tests/gateway/test_gateway_reading.py::test_reads_that_hang_do_not_use_up_all_threads",
)
READS_FOR_EVER = Mutant(
    "a request waits for a frozen disk",
    Edit(
        "gateway/reading.py",
        "            async with asyncio.timeout(self._patience):\n",
        "            async with asyncio.timeout(None):\n",
    ),
    caught_by="tests/gateway/test_gateway_reading.py::test_a_read_that_hangs_is_answered_in_its_place",
)
EVENTS_LOST = Mutant(
    "a listener that was too slow is not told so",
    Edit(
        "gateway/broadcast.py",
        "            if missed > len(self._ring):\n                return None\n",
        "            missed = min(missed, len(self._ring))\n",
    ),
    caught_by="tests/gateway/test_native_events.py::test_who_falls_behind_the_ring_is_dropped_with_the_reason",
)
ANY_TURN_RELEASED = Mutant(
    "a release takes the session from whatever turn holds it",
    Edit(
        "gateway/native/release.py",
        "        return store.revoke(session, wish.reason, turn_id=wish.turn_id)\n",
        "        return store.revoke(session, wish.reason)\n",
    ),
    caught_by="tests/gateway/test_native_locks.py::test_what_another_process_holds_is_taken_from_that_turn_only",
)
