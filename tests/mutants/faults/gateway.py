"""Faults of the gateway."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

BUSY_IS_UPSTREAM = Mutant(
    "a busy session is reported as a model's failure",
    Edit(
        "gateway/errors.py",
        "                return _busy(error)\n",
        '                return Refusal(502, "upstream_error", str(error))\n',
    ),
)

# One gateway, its start and its end

TWO_GATEWAYS = Mutant(
    "a second gateway starts on one state directory",
    Edit(
        "gateway/owning.py",
        "    except BlockingIOError:\n        return False\n    except OSError as error:\n        # With",
        "    except BlockingIOError:\n        return True\n    except OSError as error:\n        # With",
    ),
)
LOCKED_OUT_BY_A_LOOK = Mutant(
    "a gateway does not wait for who looks for a moment",
    Edit("gateway/owning.py", "        if clock.monotonic() >= deadline:\n", "        if True:\n"),
)
NO_CLEAN_UP = Mutant(
    "a gateway starts without cleaning up",
    Edit("gateway/server.py", "        cleaned = store.clean_stale()\n", "        cleaned = []\n"),
)
CLEAN_UP_STOPS_START = Mutant(
    "a clean-up that fails stops the start",
    Edit(
        "gateway/server.py",
        '        logger.warning("the start-up clean-up failed: %s", error)\n        return\n',
        "        raise\n",
    ),
)
SERVES_TOO_EARLY = Mutant(
    "a gateway announces itself before it has cleaned up",
    Edit(
        "gateway/server.py",
        "        await web.start()\n",
        "        await web.start()\n        announce(url_of(listener))\n",
    ),
)
OPEN_WHILE_STOPPING = Mutant(
    "a gateway that stops takes in new work",
    Edit(
        "gateway/service.py",
        "        if self.is_stopping:\n            raise",
        "        if False:\n            raise",
    ),
)
WAITERS_KEPT = Mutant(
    "who waits for a session is not told that the gateway stops",
    Edit(
        "gateway/service.py",
        "        self.exchanges.cancel(ShuttingDown, only=Phase.WAITING)\n",
        "",
    ),
)
DRAINS_FOR_EVER = Mutant(
    "a drain waits for turns that do not end",
    Edit(
        "gateway/service.py",
        "self.exchanges.ended(drain - settle)):\n            self.exchanges.cancel(ShuttingDown)\n",
        "self.exchanges.ended(drain - settle)):\n",
    ),
)
DRAINS_NOT_AT_ALL = Mutant(
    "a gateway that stops cancels its turns at once",
    Edit(
        "gateway/service.py",
        "        if not await _unless(hasten, self.exchanges.ended(drain - settle)):\n",
        "        if True:\n",
    ),
)
STORE_LEFT_OPEN = Mutant(
    "a gateway that ends leaves the turns that ignore their cancellation",
    Edit(
        "gateway/service.py",
        "        closed = on_worker(self.store.close)\n",
        "        closed = on_worker(lambda: None)\n",
    ),
)
SECOND_SIGNAL_UNHEARD = Mutant(
    "a second signal does not hasten the end",
    Edit(
        "gateway/server.py",
        "        (self.hastened if self.wished.is_set() else self.wished).set()\n",
        "        self.wished.set()\n",
    ),
)
BLOCKED_LOOP_STAYS = Mutant(
    "a gateway whose loop is blocked does not end",
    Edit(
        "gateway/attendant.py",
        "        elif now - self._asked >= _DEAF:\n",
        "        elif False:\n",
    ),
)
PRESENCE_STAYS = Mutant(
    "a gateway that ends leaves its file",
    Edit("gateway/state.py", "        _remove_own(path)\n", "        pass\n"),
)
PRESENCE_OF_ANOTHER = Mutant(
    "a gateway that ends removes its successor's file",
    Edit(
        "gateway/state.py",
        '        if isinstance(found, dict) and found.get("pid") == os.getpid():\n',
        "        if isinstance(found, dict):\n",
    ),
)
TOKEN_OPEN = Mutant(
    "a token that was open to others stays so",
    Edit("gateway/state.py", "            os.fchmod(descriptor, 0o600)\n", "            pass\n"),
)
RELOAD_HALF = Mutant(
    "a configuration that cannot be used ends reloading",
    Edit(
        "gateway/reloading.py",
        '                logger.error("the configuration was not reloaded, the old one stays: %s",'
        " error)\n",
        "                raise\n",
    ),
)

# Who may ask

NO_TOKEN = Mutant(
    "no token is needed",
    Edit("gateway/access.py", "        if not self._has_token(scope):\n", "        if False:\n"),
)
ANY_HOST = Mutant(
    "any Host is answered",
    Edit("gateway/access.py", "        if not self._is_own_host(scope):\n", "        if False:\n"),
)
ANY_ORIGIN = Mutant(
    "any Origin is answered",
    Edit(
        "gateway/access.py",
        '        if any(origin not in self._origins for origin in _values(scope, b"origin")):\n',
        "        if False:\n",
    ),
)
SMUGGLED = Mutant(
    "a request may have two lengths",
    Edit(
        "gateway/access.py",
        '        if _values(scope, b"transfer-encoding") and _values(scope, b"content-length"):\n',
        "        if False:\n",
    ),
)
HEADS_OF_ANY_SIZE = Mutant(
    "headers may have any size",
    Edit("gateway/access.py", "HEAD_BYTES_MAX = 16 * 1024\n", "HEAD_BYTES_MAX = 1 << 40\n"),
)
BODIES_OF_ANY_SIZE = Mutant(
    "a body may have any size",
    Edit(
        "gateway/body.py", "                if len(data) > limit:\n", "                if False:\n"
    ),
)
BODIES_OF_ANY_TIME = Mutant(
    "a body may take any time",
    Edit(
        "gateway/body.py",
        "        async with asyncio.timeout(patience):\n",
        "        async with asyncio.timeout(None):\n",
    ),
)
HEADS_OF_ANY_TIME = Mutant(
    "the head of a request may take any time",
    Edit(
        "gateway/connection.py",
        "        if self._deadline is None:\n            assert",
        "        if False:\n            assert",
    ),
)
SECRETS_TO_CLIENTS = Mutant(
    "a client gets the secrets of an error",
    Edit(
        "gateway/errors.py",
        "        made.message = self._redacted(made.message)\n",
        "",
    ),
)

# Exchanges

ANSWERED_TOO_EARLY = Mutant(
    "a client has its answer before its turn has ended",
    Edit(
        "gateway/answering.py",
        '        await turn.append({"id": reply_id(question), **_entry(text, finished, model)})\n',
        '        await turn.append({"id": reply_id(question), **_entry(text, finished, model)})\n'
        "        exchange._end(_reply(text, finished))\n",
    ),
)
CLIENT_LEFT_UNSEEN = Mutant(
    "a turn goes on when its client has left",
    Edit(
        "gateway/sse.py",
        "        pass\n    exchange.client_left()\n",
        "        pass\n",
    ),
)
CANCELS_THE_FINISHED = Mutant(
    "a complete reply is thrown away when its client leaves",
    Edit(
        "gateway/exchange.py",
        " or self._task is None or self.phase is Phase.FINISHING:\n",
        " or self._task is None:\n",
    ),
)
REVOKED_UNANSWERED = Mutant(
    "the client of a revoked turn waits for the turn's code",
    Edit(
        "gateway/exchange.py",
        "        if isinstance(event, TurnRevoked):\n            call_on_loop",
        "        if False:\n            call_on_loop",
    ),
)
RETRY_AFTER_STORED = Mutant(
    "a client is not told that its message is stored",
    Edit("gateway/errors.py", "        if stored:\n", "        if False:\n"),
)
STORED_TOO_EARLY = Mutant(
    "a message counts as stored when its append failed",
    Edit(
        "gateway/answering.py",
        "        exchange.stored = False\n        raise\n",
        "        raise\n",
    ),
)
NO_RETRY_AFTER = Mutant(
    "a busy session does not say when to come again",
    Edit("gateway/errors.py", '    headers = {"retry-after": str(retry)}\n', "    headers = {}\n"),
)
LIMITS_ARE_MODELS_FAULT = Mutant(
    "a turn that passed a limit is reported as a model's failure",
    Edit(
        "gateway/errors.py",
        "            case LeaseRevoked():\n                return self._revoked(error, began)\n",
        '            case LeaseRevoked():\n                return Refusal("upstream_error", "")\n',
    ),
)
FIRST_TOKEN_UNWATCHED = Mutant(
    "the first token of a turn has no limit",
    Edit(
        "gateway/answering.py",
        "first=limits.first_token, idle=limits.idle)\n        async with",
        "first=1e9, idle=limits.idle)\n        async with",
    ),
)
IDLE_UNWATCHED = Mutant(
    "the pauses of a model have no limit",
    Edit(
        "gateway/answering.py",
        "first=limits.first_token, idle=limits.idle)\n        async with",
        "first=limits.first_token, idle=1e9)\n        async with",
    ),
)
TURN_UNWATCHED = Mutant(
    "the turn limit of the configuration is not used",
    Edit(
        "gateway/answering.py",
        "    hold = min(limits.turn, limits.max_hold)\n    block",
        "    hold = limits.max_hold\n    block",
    ),
)
ALONE_UNWATCHED = Mutant(
    "a call without a session has no limits",
    Edit(
        "gateway/answering.py",
        "        return asyncio.get_running_loop().call_later(limit, self._exchange.cut, passed)\n",
        "        return asyncio.get_running_loop().call_later(1e6, self._exchange.cut, passed)\n",
    ),
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
)
QUESTION_TWICE = Mutant(
    "a message that is sent again is stored twice",
    Edit(
        "gateway/conversation.py",
        "    if not asked:\n        return Plan",
        "    if True:\n        return Plan",
    ),
)
ANSWERED_ANEW = Mutant(
    "a model is asked again what it has answered",
    Edit(
        "gateway/conversation.py",
        "    if answer is not None:\n        return Plan",
        "    if False:\n        return Plan",
    ),
)
YES_IS_YES = Mutant(
    "equal words are a repetition at any time",
    Edit(
        "gateway/conversation.py",
        "    return is_news and _age(answer, now) <= ANSWERED_WINDOW\n",
        "    return True\n",
    ),
)
NO_QUEUE_LIMIT = Mutant(
    "any number of turns may wait",
    Edit(
        "gateway/service.py",
        "        if self.exchanges.waiting >= most:\n",
        "        if False:\n",
    ),
)
DONE_AFTER_ERROR = Mutant(
    "a stream that failed ends like one that did not",
    Edit(
        "gateway/sse.py",
        "            return event(outcome.body())\n",
        '            return event(outcome.body()) + b"data: [DONE]\\n\\n"\n',
    ),
)
SILENT_STREAM = Mutant(
    "a silent stream sends nothing",
    Edit(
        "gateway/sse.py",
        "            await _body(send, self._paper.piece(piece) if piece else KEEPALIVE)\n",
        "            if piece:\n                await _body(send, self._paper.piece(piece))\n",
    ),
)
WHOLE_HISTORY_STORED = Mutant(
    "what a client repeats of the history is stored again",
    Edit(
        "gateway/chat.py",
        "        new = [said for said in self.messages[last + 1 :] if",
        "        new = [said for said in self.messages if said.role != 'assistant' and",
    ),
)
TOO_MANY_READS = Mutant(
    "a frozen disk uses up all threads",
    Edit("gateway/reading.py", "        if self._under_way >= _MOST:\n", "        if False:\n"),
)
READS_FOR_EVER = Mutant(
    "a request waits for a frozen disk",
    Edit(
        "gateway/reading.py",
        "            async with asyncio.timeout(self._patience):\n",
        "            async with asyncio.timeout(None):\n",
    ),
)
EVENTS_LOST = Mutant(
    "a listener that was too slow is not told so",
    Edit(
        "gateway/broadcast.py",
        "            if missed > len(self._ring):\n                return None\n",
        "            missed = min(missed, len(self._ring))\n",
    ),
)
ANY_TURN_RELEASED = Mutant(
    "a release takes the session from whatever turn holds it",
    Edit(
        "gateway/native/release.py",
        "        return store.revoke(session, wish.reason, turn_id=wish.turn_id)\n",
        "        return store.revoke(session, wish.reason)\n",
    ),
)
