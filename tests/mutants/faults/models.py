"""Faults of the calls to models, and of what becomes of their errors."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant, appended

END_UNNOTICED = Mutant(
    "the end of a model's connection is not noticed",
    Edit(
        "models/openai.py",
        "                return _END  # however it ends: what was complete stays complete\n",
        "                return _END\n            await asyncio.Event().wait()\n",
    ),
)
DUMPED = Mutant(
    "errors are kept as the endpoint sent them",
    Edit(
        "models/failures.py",
        "    is_cut = len(text) > _RAW_MAX\n",
        "    return text\n    is_cut = len(text) > _RAW_MAX\n",
    ),
    Edit("redaction.py", "_TEXT_MAX = 20_000\n", "_TEXT_MAX = 10**9\n"),
    Edit("redaction.py", '    if "<" in text:\n', "    if False:\n"),
    Edit("transcript/entries.py", "_ERROR_BYTES_MAX = 640\n", "_ERROR_BYTES_MAX = 10**9\n"),
)
KEYS_UNKNOWN = Mutant(
    "only what looks like a credential is taken out of an error",
    Edit(
        "redaction.py",
        "    known = [one for one in secrets if len(one) >= _SECRET_LENGTH_MIN]\n",
        "    known: list[str] = []\n",
    ),
)
WHOLE_KEYS_ONLY = Mutant(
    "of a key that was cut the beginning stays",
    Edit("redaction.py", "    if CUT in text:\n", "    if False:\n"),
)
EMPTY_IS_CONTENT = Mutant(
    "a chunk without content is passed on as progress",
    Edit(
        "models/openai.py",
        "        items = reply.take(chunk)\n",
        "        items = reply.take(chunk) or [Thinking()]\n",
    ),
)
THOUGHTS_UNSEEN = Mutant(
    "what a model thinks is no progress",
    Edit(
        "models/openai.py",
        "        if isinstance(thought, str) and thought:\n",
        "        if False:\n",
    ),
)
SDK_RETRIES = Mutant(
    "the SDK tries again",
    Edit("models/openai.py", "            max_retries=0,\n", "            max_retries=2,\n"),
)
BODY_HAS_TO_END = Mutant(
    "a complete reply waits for the end of the body",
    Edit("models/openai.py", "_TAIL = 0.25\n", "_TAIL = 1e6\n"),
)
ANY_END_IS_ONE = Mutant(
    "a stream that ends is complete",
    Edit(
        "models/openai.py",
        "        if reply.reason is None:\n",
        '        if reply.reason is None:\n            reply.reason = "stop"\n'
        "        if reply.reason is None:\n",
    ),
    Edit(
        "models/openai.py",
        "            if reply.reason is not None:\n"
        "                return _END  # however it ends: what was complete stays complete\n",
        "            return _END\n",
    ),
)
NO_KEEPALIVE = Mutant(
    "nobody asks a silent connection whether it is there",
    Edit(
        "models/transport.py",
        "        socket_options=socket_options(),\n",
        "        socket_options=None,\n",
    ),
)
BYTE_TIMER = Mutant(
    "a call's limit is the time-out of its reads",
    Edit(
        "models/openai.py",
        "            timeout=client.timeout,\n",
        "            timeout=0.8,\n",
    ),
    Edit(
        "gateway/answering.py",
        "first=limits.first_token, idle=limits.idle)",
        "first=1e6, idle=1e6)",
    ),
)
LEAKY_POOL = Mutant(
    "calls share a few connections, and one that is killed gives none back",
    appended(
        "models/transport.py",
        """
        _on_own_line = Lines.handle_async_request

        async def _in_pool(self, request):
            slots = self.__dict__.setdefault("slots", asyncio.Semaphore(4))
            await slots.acquire()
            response = await _on_own_line(self, request)
            slots.release()
            return response

        Lines.handle_async_request = _in_pool
        """,
    ),
)
LINE_STAYS = Mutant(
    "the connection of a call that ended is kept",
    Edit(
        "models/transport.py",
        "        self._open.discard(line)\n        await line.close()\n",
        "        self._open.discard(line)\n",
    ),
    caught_by="tests/models/test_models_providers.py::test_closing_the_generator_closes_the_connection",
)
LINE_OF_CANCELLED_STAYS = Mutant(
    "the connection of a request that was cancelled is kept",
    Edit(
        "models/transport.py",
        "        except BaseException:\n            await self._end(line)\n            raise\n",
        "        except BaseException:\n            raise\n",
    ),
    caught_by="tests/models/test_models_cancel.py::test_cancel_in_the_tls_handshake_lets_go_of_the_connection",
)
SECRETS_BY_VALUE = Mutant(
    "known secrets are not taken out of texts",
    Edit(
        "redaction.py",
        "    text = text.replace(secret, HIDDEN)\n",
        "",
    ),
    caught_by="tests/test_values.py::TestRedaction::test_configured_secrets_are_hidden_by_value",
)
SECRETS_BY_PATTERN = Mutant(
    "what looks like a credential is not taken out of texts",
    Edit(
        "redaction.py",
        "        text = re.sub(pattern, HIDDEN, text)\n",
        "        pass\n",
    ),
    caught_by="tests/test_values.py::TestRedaction::test_what_looks_like_a_credential_is_hidden",
)
LINE_ENDS_OF_UNICODE = Mutant(
    "a text goes to an SDK with what only Unicode takes for the end of a line",
    Edit(
        "models/bodies.py",
        "return self._escaped(passed) if self._escapes else passed",
        "return passed",
    ),
    caught_by="tests/models/test_models_bodies.py::test_json_says_the_same_however_it_was_cut",
)
COMMENTS_PASSED_ON = Mutant(
    "the comments of an event stream go to an SDK that takes them for a broken answer",
    Edit("models/bodies.py", "            if not self._is_comment:\n", "            if True:\n"),
    caught_by="tests/models/test_models_bodies.py"
    "::test_comments_of_an_event_stream_are_left_out_however_it_was_cut",
)
TWO_IN_A_ROW = Mutant(
    "an endpoint that refuses two messages of one side in a row refuses every later turn",
    Edit(
        "models/openai.py",
        "                if not wants_alternation(error):\n",
        "                if True:\n",
    ),
    caught_by="tests/models/test_models_alternating.py"
    "::test_who_refuses_two_in_a_row_is_asked_without_and_from_then_on_at_once",
)
ENDLESS_LINE = Mutant(
    "a line of a model's answer is kept however long it gets",
    Edit("models/bodies.py", "        if self._line > LINE_MAX:\n", "        if False:\n"),
    caught_by="tests/models/test_models_bodies.py::test_only_a_line_without_an_end_is_too_long",
)
