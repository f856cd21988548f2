"""Session keys, limits, redaction: what is checked and what becomes of it."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlock import InvalidSessionKey, Limits, LimitsError, session_key
from turnlock.clock import iso, parse_iso
from turnlock.config import load_config
from turnlock.errors import ConfigError, seconds
from turnlock.redaction import HIDDEN, redact
from turnlock.session import parse_key


class TestSessionKeys:
    @pytest.mark.parametrize("key", ["main/a", "a/" + "x" * 128, "A1/0._:@+=-", "main/49=2F"])
    def test_a_key_is_kept(self, key: str) -> None:
        assert str(parse_key(key)) == key

    @pytest.mark.parametrize(
        "key",
        [
            *("", "/", "main", "main/", "/a", "main/a/b", "main//a", "main/ a", "main/.."),
            *("main/.a", "main/-a", "main/a\n", "main/a\0", "main/%2e", "main/é", "main/a\\b"),
            *("main/" + "x" * 129, "\u202emain/a", 7, None, b"main/a"),
        ],
    )
    def test_what_is_no_key_is_refused_with_the_reason(self, key: Any) -> None:
        with pytest.raises(InvalidSessionKey) as caught:
            parse_key(key)
        assert isinstance(caught.value, ValueError)
        assert "session_key" in str(caught.value)

    @given(st.text())
    def test_any_text_becomes_a_key(self, text: str) -> None:
        parse_key(session_key("main", text))

    @given(st.text(max_size=60), st.text(max_size=60))
    def test_different_texts_get_different_keys(self, one: str, other: str) -> None:
        assert (session_key("m", one) == session_key("m", other)) == (one == other)

    def test_a_plain_name_stays_as_it_is(self) -> None:
        assert session_key("main", "alice") == "main/alice"
        assert session_key("main", "a/b") == "main/a=2Fb"
        assert session_key("main", "/a") != session_key("main", "x/a")
        assert session_key("main", "x" * 500) != session_key("main", "x" * 501)


class TestConfigurations:
    @pytest.mark.parametrize(
        "text",
        [
            "[gateway]\nport = " + "9" * 5000,
            "[gateway]\nport = 0x" + "f" * 4000,
            "[gateway]\nhost = 0x" + "f" * 4000,
            "gateway.host." + "a." * 1500 + "a = 1",
            "gateway = " + "[" * 5000,
            "[limits]\nwait = 0x" + "f" * 300,
            "[limits]\nidle = -0x" + "f" * 4000,
            '[limits]\n"' + "x" * 5000 + '" = 1',
            '[agents."' + "x" * 5000 + '"]',
            '[models."' + "x" * 5000 + '"]\nmodel = 1',
            '[agents.a]\nmodel = "' + "x" * 5000 + '"',
        ],
    )
    def test_values_beyond_reason_are_refused_in_few_words(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "turnlock.toml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=re.escape(str(path))) as caught:
            load_config(str(path))
        assert len(caught.value.why) < 500


class TestLimits:
    @pytest.mark.parametrize("written", [{}, {"turn": 700.0, "wait": 0.0}])
    def test_are_copied_and_sent_to_other_processes(self, written: dict[str, float]) -> None:
        limits = Limits(**written)
        for made in (copy.copy(limits), copy.deepcopy(limits), pickle.loads(pickle.dumps(limits))):
            assert (made, made.written) == (limits, limits.written)

    @pytest.mark.parametrize("digits", [400, 5000])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_number_beyond_every_float_is_refused_too(self, digits: int, sign: int) -> None:
        with pytest.raises(LimitsError):
            Limits(turn=sign * 10**digits)

    def test_the_defaults(self) -> None:
        limits = Limits()
        assert (limits.wait, limits.first_token, limits.idle, limits.tool) == (60, 120, 60, 300)
        assert (limits.turn, limits.max_hold, limits.stale_after) == (600, 720, 1800)
        assert limits.drain == 30

    @pytest.mark.parametrize("name", ["first_token", "idle", "tool", "turn", "max_hold"])
    @pytest.mark.parametrize("value", [0.5, 7.0, 100.0, 1799.0, 5000.0, 100_000.0])
    def test_a_single_written_value_is_never_refused(self, name: str, value: float) -> None:
        limits = Limits(**{name: value})
        assert getattr(limits, name) == value
        assert max(limits.first_token, limits.idle, limits.tool) <= limits.turn
        assert limits.turn < limits.max_hold < limits.stale_after

    @pytest.mark.parametrize(
        "written",
        [
            {"turn": 100, "max_hold": 100},
            {"turn": 100, "max_hold": 50},
            {"idle": 11, "turn": 10},
            {"first_token": 11, "turn": 10},
            {"max_hold": 1800, "stale_after": 1800},
            {"turn": 2000, "stale_after": 1000},
            {"tool": 400, "max_hold": 300},
        ],
    )
    def test_written_values_that_contradict_each_other_are_refused(
        self, written: dict[str, float]
    ) -> None:
        with pytest.raises(LimitsError) as caught:
            Limits(**written)
        assert caught.value.name in str(caught.value)

    @pytest.mark.parametrize("value", [-1, 0, float("nan"), float("inf"), "5", True, 1e12])
    def test_a_value_out_of_range_is_refused(self, value: Any) -> None:
        with pytest.raises(LimitsError):
            Limits(turn=value)

    @given(
        st.dictionaries(
            st.sampled_from(["first_token", "idle", "tool", "turn", "max_hold", "stale_after"]),
            st.floats(0.001, 1e6),
        )
    )
    def test_what_is_accepted_fits(self, written: dict[str, float]) -> None:
        try:
            limits = Limits(**written)
        except LimitsError:
            return
        assert max(limits.first_token, limits.idle, limits.tool) <= limits.turn
        assert limits.turn < limits.max_hold < limits.stale_after


class TestRedaction:
    @pytest.mark.parametrize(
        "secret",
        [
            "Bearer abcdefgh.ijkl-mnop",
            "sk-proj-abcdefghijklmnop",
            "ghp_abcdefghijklmnopqrst",
            "AKIAABCDEFGHIJKLMNOP",
            "eyJhbGciOiJIUzI1.eyJzdWIiOiIx.abc",
            "xoxb-1234567890-abcdef",
            'api_key="abcdef123456"',
            "password: hunter2hunter2",
        ],
    )
    def test_what_looks_like_a_credential_is_hidden(self, secret: str) -> None:
        text = redact(f"the endpoint said {secret} and more")
        assert HIDDEN in text
        assert secret[-8:-1] not in text
        assert text.startswith("the endpoint said")

    def test_configured_secrets_are_hidden_by_value(self) -> None:
        assert redact("key is plain-words-42!", ["plain-words-42!"]) == f"key is {HIDDEN}"

    @pytest.mark.parametrize("length", [6, 10, 14])
    def test_of_a_secret_that_was_cut_nothing_is_left(self, length: int) -> None:
        cut = "plain-words-42!"[:length]
        assert (
            redact(f"key is {cut}… and more", ["plain-words-42!"]) == f"key is {HIDDEN}… and more"
        )

    @pytest.mark.parametrize("before", range(19_980, 19_995))
    def test_the_cut_of_a_long_text_leaves_nothing_of_one_either(self, before: int) -> None:
        assert "plain-" not in redact("x" * before + "plain-words-42!" * 2, ["plain-words-42!"])

    def test_a_url_keeps_its_host(self) -> None:
        assert "host/path" in redact("http://user:secretpw@host/path")
        assert "secretpw" not in redact("http://user:secretpw@host/path")

    def test_html_and_white_space_collapse(self) -> None:
        page = "<html><style>x{}</style><script>alert(1)</script>\n\n <h1>502</h1>  Bad Gateway"
        assert redact(page) == "502 Bad Gateway"

    @pytest.mark.parametrize(
        ("page", "text"),
        [
            ("a<b c>d", "a d"),
            ("1 < 2", "1 < 2"),
            ("<script>a</style>b</SCRIPT >c", "c"),
            ("<Style a='>'>b</style\n>c<script>d", "c d"),
            ("<scripts>a</scripts>", "a"),
            ("<" + "x" * 2000 + ">a", "a"),
            ("<" + "x" * 2001 + ">a", "<" + "x" * 2001 + ">a"),
        ],
    )
    def test_a_tag_is_hidden_and_a_script_with_what_it_contains(self, page: str, text: str) -> None:
        assert redact(page) == text

    @pytest.mark.parametrize("piece", ["<script ", "<style>", "</script      ", "<script>x"])
    def test_hostile_text_takes_no_longer_than_its_length(
        self, piece: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Twenty times the most that is looked at: done at once, or not within a test's limit."""
        monkeypatch.setattr("turnlock.redaction._TEXT_MAX", 400_000)
        assert len(redact(piece * (400_000 // len(piece)))) <= 400_000

    @given(st.text(max_size=300))
    def test_it_never_fails(self, text: str) -> None:
        redact(text, [text[:10]])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25 s"), (42, "42 s"), (303, "5 min 3 s"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_durations_for_people(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize("wall", [1e12, -1e12, 253402300800.0, -1.0, -62135596801.0, 2.0**63])
def test_a_moment_that_no_calendar_has_is_the_first_or_the_last(wall: float) -> None:
    """A file may have any time, and one that is odd must not hide all others."""
    shown = iso(wall)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown)
    assert parse_iso(shown) is not None
    assert (iso(0.0) < shown) == (wall > 0)


def test_a_moment_before_1970_has_milliseconds() -> None:
    assert iso(-0.25) == "1969-12-31T23:59:59.750Z"
