"""Every way in which an endpoint fails is one `ModelError`, and none is a reply."""

from __future__ import annotations

import asyncio
import socket

import pytest

from turnlock.errors import ModelError
from turnlock.models import Delta, complete
from turnlock.models.failures import plain
from turnlock.models.ollama import OllamaModel
from turnlock.models.openai import OpenAIModel
from turnlock.practice import PracticeServer

from .endpoint import BOUND, DONE, chunk, endpoint, event, head, run, user


async def failure(url: str, text: str = "hello", key: str | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await complete(OpenAIModel(url, "m", key, provider="p"), user(text))
    assert (caught.value.provider, caught.value.model) == ("p", "m")
    assert len(caught.value.detail) <= 300
    return caught.value


@pytest.mark.parametrize(
    ("text", "kind", "status", "retry_after"),
    [
        ("/reset", "interrupted", None, None),
        ("/cut", "interrupted", None, None),
        ("/garbage", "protocol", None, None),
        ("/429", "status", 429, 2.0),
        ("/500", "status", 500, None),
        ("/leak", "status", 401, None),
        ("/slow", "status", 400, None),
    ],
)
def test_practice_fault_has_its_kind(
    text: str, kind: str, status: int | None, retry_after: float | None
) -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            error = await failure(server.url, text)
            assert (error.kind, error.status, error.retry_after) == (kind, status, retry_after)
            assert server.statistics().requests == 1
            async with asyncio.timeout(BOUND):
                await server.wait_for(lambda seen: seen.open_connections == 0)

    run(test())


def test_page_of_html_becomes_one_short_line() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            error = await failure(server.url, "/500")
        assert error.detail.startswith("500 Internal Server Error The server had an internal error")
        assert "<" not in error.detail

    run(test())


def test_detail_is_what_the_endpoint_said_even_the_key() -> None:
    """The detail is bounded here and redacted where it is shown."""

    async def test() -> None:
        async with PracticeServer() as server:
            assert "sk-1" in (await failure(server.url, "/leak", key="sk-1")).detail

    run(test())


def test_cut_after_some_content_gives_the_content_and_then_the_error() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            stream = OpenAIModel(server.url, "m").stream(user("/cut"))
            assert isinstance(await anext(stream), Delta)
            with pytest.raises(ModelError, match="interrupted"):
                _ = [item async for item in stream]

    run(test())


def test_nobody_listening_is_a_failure_to_connect() -> None:
    async def test() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            error = await failure(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        assert error.kind == "connect"

    run(test())


def test_connection_that_never_comes_ends_at_the_connect_limit() -> None:
    async def test() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            fillers = [socket.socket() for _ in range(2)]
            for filler in fillers:  # the queue takes so many; after that SYNs get no answer
                filler.setblocking(False)
                filler.connect_ex(address)
            model = OpenAIModel(f"http://127.0.0.1:{address[1]}/v1", "m", connect=0.1)
            with pytest.raises(ModelError) as caught:
                async with asyncio.timeout(BOUND):
                    await complete(model, user("x"))
            for filler in fillers:
                filler.close()
        assert caught.value.kind == "connect"
        assert "Timeout" in caught.value.detail

    run(test())


def test_handshake_that_is_never_answered_ends_at_the_connect_limit() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
            with pytest.raises(ModelError) as caught:
                async with asyncio.timeout(BOUND):
                    await complete(OpenAIModel(url, "m", connect=0.1), user("x"))
        assert caught.value.kind == "connect"

    run(test())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ([], "interrupted"),
        ([b"SSH-2.0-OpenSSH_9.9\r\n\r\n"], "protocol"),
        ([head(content_type="text/html"), b"<html>hello</html>"], "protocol"),
        ([head(content_type="application/json"), b'{"choices": []}'], "protocol"),
        ([head()], "interrupted"),
        ([head(), DONE], "interrupted"),
        ([head(), chunk("hi"), DONE], "interrupted"),
        ([head(), chunk("hi", ""), DONE], "interrupted"),
        ([head(), chunk("hi", "error"), DONE], "interrupted"),
        ([head(content_length="1000"), chunk("hi")], "interrupted"),
        ([head(transfer_encoding="chunked"), b"5\r\ndata:\r\n"], "interrupted"),
        ([head(transfer_encoding="chunked"), b"no size\r\n"], "protocol"),
        ([head(content_encoding="gzip"), b"no gzip"], "protocol"),
        ([head(), event("[1, 2]")], "protocol"),
        ([head(), event("null"), DONE], "protocol"),
        ([head(), event("5")], "protocol"),
        ([head(), event('{"a":' * 100_000)], "protocol"),
        ([head(), event('{"a":' + "9" * 5000 + "}")], "protocol"),
        ([head(), b"data: \xff\xfe\n\n"], "protocol"),
        ([head(302, location="ftp://elsewhere/")], "connect"),
    ],
)
def test_answer_that_is_no_reply_has_its_kind(answer: list[bytes], kind: str) -> None:
    async def test() -> None:
        async with endpoint(*answer) as told:
            error = await failure(told.url)
        assert error.kind == kind
        assert error.detail

    run(test())


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        ('{"error": {"message": "overloaded", "code": 502}}', 502, "overloaded"),
        ('{"error": {"message": "odd", "code": "x"}}', None, "odd"),
        ('{"error": "only words"}', None, "only words"),
        ('{"error": {"other": 1}}', None, "An error occurred during streaming"),
    ],
)
def test_error_in_the_stream_is_the_endpoints_word(
    data: str, status: int | None, detail: str
) -> None:
    async def test() -> None:
        async with endpoint(head(), chunk("hi"), event(data)) as told:
            error = await failure(told.url)
        assert (error.kind, error.status, error.detail) == ("status", status, detail)

    run(test())


# The codecs of these names fail each in a way of its own.
@pytest.mark.parametrize("charset", ["base64", "idna", "zlib_codec", "rot13", "utf-16", "x-none"])
@pytest.mark.parametrize("make", [OpenAIModel, OllamaModel])
def test_error_in_an_encoding_that_is_none_keeps_its_status(
    make: type[OpenAIModel] | type[OllamaModel], charset: str
) -> None:
    async def test() -> None:
        page = head(429, f"text/plain; charset={charset}", retry_after="3")
        async with endpoint(page, b"abc\xff") as told:
            with pytest.raises(ModelError) as caught:
                await complete(make(told.url, "m"), user("hello"))
        error = caught.value
        assert (error.kind, error.status, error.retry_after) == ("status", 429, 3.0)

    run(test())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", None), ("nan", None), ("soon", None)],
)
def test_retry_after_is_seconds_or_nothing(header: str, seconds: float | None) -> None:
    async def test() -> None:
        async with endpoint(head(503, retry_after=header)) as told:
            assert (await failure(told.url)).retry_after == seconds

    run(test())


def test_retry_after_as_a_date_is_counted_by_the_endpoints_own_clock() -> None:
    dates = {
        "retry_after": "Fri, 31 Dec 1999 23:59:59 GMT",
        "date": "Fri, 31 Dec 1999 23:59:17 GMT",
    }
    passed = {"retry_after": dates["date"], "date": dates["retry_after"]}

    async def test() -> None:
        for headers, seconds in ((dates, 42.0), (passed, 0.0)):
            async with endpoint(head(429, **headers)) as told:
                assert (await failure(told.url)).retry_after == seconds

    run(test())


def test_retry_after_as_a_date_without_another_is_counted_by_our_clock() -> None:
    async def test() -> None:
        for year, least in ((1999, 0.0), (2999, 1e9)):
            async with endpoint(head(503, retry_after=f"31 Dec {year} 23:59:59 GMT")) as told:
                seconds = (await failure(told.url)).retry_after
                assert seconds is not None
                assert (seconds > 0) == (least > 0)
                assert seconds >= least

    run(test())


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_proxy_that_takes_the_request_and_hangs_ends_at_the_connect_limit(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """The transport waits for the tunnel without any limit of its own."""
    asked = asyncio.Event()
    gone = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read(1)
        asked.set()
        while await reader.read(1024):
            pass
        gone.set()
        writer.close()

    async def test() -> None:
        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("https_proxy", f"{scheme}://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        model = OpenAIModel("https://models.example.test/v1", "m", connect=0.2)
        with pytest.raises(ModelError) as caught:
            async with asyncio.timeout(BOUND):
                await complete(model, user("x"))
        assert asked.is_set()
        assert (caught.value.kind, caught.value.status) == ("connect", None)
        async with asyncio.timeout(BOUND):
            await gone.wait()
        server.close()

    run(test())


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("  two\n\nlines ", "two lines"),
        ("a < b", "a < b"),
        ("<style>p {}</style><p>a &amp; b</p>", "a & b"),
        ("<script>never closed", ""),
        ("bell \x07 and \x1b[31mred", "bell and [31mred"),
        ("x" * 400, "x" * 299 + "…"),
        ("<" * 1_000_000, "<" * 299 + "…"),
        ("<script>" + "x" * 8192, "…"),
    ],
)
def test_plain_is_one_line_for_people(raw: str, line: str) -> None:
    assert plain(raw) == line
