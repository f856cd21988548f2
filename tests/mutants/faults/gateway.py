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
        "        entries = await on_worker(lambda: list(store.read(key)))\n",
        "",
    ),
    Edit(
        "gateway/answering.py",
        "    async with block as turn:\n",
        "    entries = await on_worker(lambda: list(store.read(key)))\n"
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
