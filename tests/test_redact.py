"""Redaction: no spelling of a secret is left in a text."""

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.redact import REDACTED, SHORTEST, Redactor, forms
from pydantic_core import to_json

KEY = 'sk-REAL/KEY+0123456789="abc'


def as_json(text: str) -> str:
    return json.dumps({"error": f"Incorrect API key provided: {text}."})


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(KEY, id="nothing else"),
        pytest.param(f"Bearer {KEY}, again {KEY}.", id="twice"),
        pytest.param(as_json(KEY), id="escaped as JSON"),
        pytest.param(as_json(KEY).replace("/", "\\/"), id="JSON with escaped slashes"),
        pytest.param(f"https://h/x?key={quote(KEY, safe='')}&a=1", id="percent-encoded"),
        pytest.param(
            "https://h/x?key=sk-REAL%2fKEY%2b0123456789%3d%22abc", id="percent-encoded, small"
        ),
        pytest.param(b64(KEY), id="base64"),
        pytest.param(base64.urlsafe_b64encode(KEY.encode()).decode(), id="base64 for URLs"),
        pytest.param(b64(KEY).rstrip("="), id="base64 without padding"),
        pytest.param(b64(f"Bearer {KEY}"), id="base64 of a header's value"),
        pytest.param(b64(f"u:{KEY}@h"), id="base64 with something on both sides"),
        pytest.param(b64(f"user:{KEY}"), id="base64 as Basic authentication has it"),
    ],
)
def test_a_secret_is_replaced_in_every_spelling(text: str) -> None:
    redacted = Redactor([KEY])(text)
    assert REDACTED in redacted
    assert not [form for form in forms(KEY) if form in redacted]
    assert "0123456789" not in redacted


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_base64_of_any_text_around_the_secret_is_found(before: str, after: str) -> None:
    assert REDACTED in Redactor([KEY])(b64(before + KEY + after))


def test_the_text_around_a_secret_stays() -> None:
    assert Redactor([KEY])(f"a {KEY} b") == f"a {REDACTED} b"


def test_a_text_without_a_secret_is_the_very_same_text() -> None:
    text = "nothing to see"
    assert Redactor([KEY])(text) is text
    assert Redactor([])(text) is text


def test_of_two_secrets_the_longer_one_goes_first() -> None:
    redactor = Redactor(["sk-12345678", "sk-12345678-and-more"])
    assert redactor("x sk-12345678-and-more y sk-12345678 z") == f"x {REDACTED} y {REDACTED} z"


def test_a_secret_that_would_be_found_in_words_is_not_looked_for() -> None:
    word = "x" * (SHORTEST - 1)
    assert Redactor([word])(f"a {word} b") == f"a {word} b"
    assert Redactor([word + "x"])(f"a {word}x b") == f"a {REDACTED} b"


def test_the_secrets_of_one_exchange_are_known_for_that_exchange_only() -> None:
    redactor = Redactor([KEY])
    both = redactor.including(("client-key-1", "tiny"))
    assert both(f"{KEY} client-key-1 tiny") == f"{REDACTED} {REDACTED} tiny"
    assert redactor("client-key-1") == "client-key-1"
    assert redactor.including(()) is redactor


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("the key is sk-REAL/KE", f"the key is {REDACTED}", id="the start of one"),
        pytest.param(f"it is {KEY[:-1]}", f"it is {REDACTED}", id="all but its last character"),
        pytest.param("c2stUkVBTC", REDACTED, id="the start of its base64"),
        pytest.param("the key is sk-REA", "the key is sk-REA", id="too short to tell"),
        pytest.param("sk-REAL/KE is not the end", "sk-REAL/KE is not the end", id="not at the end"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_a_text_that_was_cut_off_does_not_end_in_the_start_of_a_secret(
    text: str, expected: str
) -> None:
    assert Redactor([KEY]).cut(text.encode()) == expected.encode()
    assert Redactor([KEY])(text) == text


def test_what_is_a_whole_secret_at_the_end_is_no_start_of_another_one() -> None:
    redactor = Redactor(["abcdefgh12345678", "12345678zzzzzzzz"])
    assert redactor.cut(b"x abcdefgh12345678") == f"x {REDACTED}".encode()


def test_bytes_that_are_no_text_are_redacted_too() -> None:
    assert Redactor([KEY]).raw(b"\xff\0" + KEY.encode()) == b"\xff\0" + REDACTED.encode()


# -- is there one at all? ------------------------------------------------------------------------

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60)
ODD = st.text(st.characters(min_codepoint=0, max_codepoint=255), min_size=8, max_size=20)
AROUND = st.text(max_size=40)


@given(secret=SECRETS | ODD, others=st.lists(SECRETS, max_size=3), before=AROUND, data=st.data())
def test_a_line_with_a_secret_in_any_spelling_is_suspected(
    secret: str, others: list[str], before: str, data: st.DataObject
) -> None:
    spelling = data.draw(st.sampled_from(sorted(forms(secret))))
    line = to_json({"a": before + spelling + data.draw(AROUND), "b": [1, "x"]})
    assert Redactor([*others, secret]).suspects(line)
    assert Redactor(others).including((secret,)).suspects(line)
    assert Redactor(others, Redactor([secret])).suspects(line)


@given(secret=ODD)
def test_a_line_with_the_bytes_of_a_secret_is_suspected(secret: str) -> None:
    line = to_json({"a": secret}).decode().encode("latin-1")
    assert Redactor([secret]).suspects(line)


@pytest.mark.parametrize(
    "secrets",
    [
        pytest.param([], id="no secrets"),
        pytest.param(["tiny"], id="secrets that are not looked for"),
        pytest.param([KEY], id="one"),
        pytest.param([f"sk-proj-{number:064X}" for number in range(99)], id="many that look alike"),
        pytest.param(["lower-case-only"], id="one without a digit or a capital"),
        pytest.param(["sk-0123-short"], id="a short one"),
    ],
)
def test_an_ordinary_line_is_not_suspected(secrets: list[str]) -> None:
    line = to_json({"id": "chatcmpl-AbCdEfGh", "text": "Hello 42! " * 20_000, "n": [1, 2.5, None]})
    assert not Redactor(secrets).suspects(line)


def test_a_secret_across_two_windows_of_a_long_line_is_suspected() -> None:
    redactor = Redactor([KEY])
    for start in range(65_536 - len(KEY) - 8, 65_536 + 8, 3):
        assert redactor.suspects(b" " * start + to_json(KEY) + b" " * 70_000)


def test_a_secret_that_is_no_ascii_is_found_as_its_bytes() -> None:
    secret = "clé-de-démonstration".encode().decode("latin-1")
    body = '{"k": "clé-de-démonstration"}'.encode().decode("latin-1")
    assert Redactor([secret])(body) == f'{{"k": "{REDACTED}"}}'
    assert Redactor(["ключ-ключ-ключ"])("ключ-ключ-ключ") == REDACTED


def test_many_keys_and_a_large_body_take_no_time_to_speak_of() -> None:
    redactor = Redactor([f"sk-proj-{number:0150d}" for number in range(100)])
    body = "sk-proj-0000000000000000000000000000 " * 30_000
    begun = time.process_time()
    assert redactor(body) == body
    assert time.process_time() - begun < 5
