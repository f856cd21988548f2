"""Clients that a plug-in meets again and again."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import openai
import pytest

import turnlock
from turnlock.integrations.guarding import guard_new

HTTP = pytest.mark.parametrize("http", [httpx, httpx2], ids=["httpx", "httpx2"])


@HTTP
def test_a_client_that_nobody_guarded_is_guarded_once(http: Any) -> None:
    with http.Client() as client:
        bare = client._transport
        assert guard_new(client)
        guarded = client._transport
        assert guarded is not bare
        assert guard_new(client)
        assert client._transport is guarded


@HTTP
def test_who_guarded_a_client_has_set_its_limits(http: Any) -> None:
    with http.Client() as client:
        guarded = turnlock.guard(client, first=0.3)._transport
        assert guard_new(client)
        assert client._transport is guarded


def test_an_sdk_retries_nothing_in_a_turn_from_then_on() -> None:
    with openai.OpenAI(api_key="any") as client, turnlock.open_store("memory:") as store:
        assert guard_new(client)
        assert client.max_retries == 2
        with store.turn("main/a"):
            assert client.max_retries == 0


def test_where_there_is_nothing_to_guard_a_plug_in_is_told() -> None:
    assert not guard_new(object())


def test_a_part_that_cannot_be_looked_at_yet_is_none_to_guard() -> None:
    """Of a run it would be the end, before the model that it asks has even been asked."""

    class Model:
        def __init__(self) -> None:
            self.http_client = httpx.Client()

        @property
        def client(self) -> object:
            raise ValueError("a key is missing")

    model = Model()
    with model.http_client:
        assert guard_new(model)
        assert "Guarded" in type(model.http_client._transport).__name__
