"""What is said: plain, short, without a secret, and not over and over."""

import io
import logging
import os
import sys
from collections.abc import Iterator

import pytest
from llm_passthrough import said
from llm_passthrough.redact import Redactor
from llm_passthrough.said import LONGEST, Said, Sparing, cleaned, of_exception, steady

KEY = "made-up-Configured-KEY-0123456789"
CLIENT = "CLIENT-token-9876543210"


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(said, "_redact", Redactor([KEY]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("client connect", "client connect", id="what is harmless"),
        pytest.param(f"it is {KEY}!", "it is [redacted]!", id="a configured secret"),
        pytest.param("no key: set X, or add one", "no key: set X, or add one", id="our words"),
        pytest.param("bad\x1b[31m\r\nnext\x9b\x00", r"bad\x1b[31m\r\nnext\x9b\x00", id="controls"),
        pytest.param("a\u202eb\u2028c\udc80", r"a\u202eb\u2028c\udc80", id="bidi, surrogate"),
        pytest.param("größer ✓ 日本", "größer ✓ 日本", id="letters of any kind"),
    ],
)
def test_a_line_is_plain(text: str, shown: str) -> None:
    assert cleaned(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        f"Invalid header line: b'Authorization Bearer {CLIENT}'",
        f"Bad HTTP request line: b'GET /?key={CLIENT} HTTP/1.1 x'",
        f"Client closed before: bytearray(b'GET / HTTP/1.1\\r\\nX-Api-Key: {CLIENT}')",
        f"Client closed before: bytearray(b'GET / HTTP/1.1\\r\\nX-Api-Key: {CLIENT}",
        f'quotes in it: b"it\'s {CLIENT}"',
        f"a quote at its end: b'\\'{CLIENT}\\\\'",
        f"Headers[('Authorization', 'Bearer {CLIENT}'), ('x', 'y')]",
        f"{{'x-api-key': '{CLIENT} {CLIENT}'}}",
        f'{{"api_key": "{CLIENT}"}}',
        f"Authorization: Token {CLIENT}",
        f"AUTHORIZATION: {CLIENT}",
        f"proxy-authorization: Basic {CLIENT}",
        f"Cookie: a={CLIENT}; b={CLIENT}",
        f"x-goog-api-key: {CLIENT}",
        f"POST /v1?a=b&key={CLIENT}&c=d",
        f"POST /v1?api_key={CLIENT}",
        f"POST /v1?access_token={CLIENT}",
        f"Bearer {CLIENT}",
        f"what sk-{CLIENT} begins with",
        f"what AIza{CLIENT} begins with",
        f"what ya29.{CLIENT} begins with",
        f"what eyJhbGciOi.eyJzdWIi{CLIENT}.x begins with",
        "x" * 8000 + f" Bearer {CLIENT}" + "y" * 300,
        "x" * 8180 + f" {KEY}",
    ],
)
def test_what_looks_like_a_credential_is_not_shown(text: str) -> None:
    shown = cleaned(text, 100_000)
    assert CLIENT not in shown
    assert KEY[:10] not in shown


def test_what_is_long_is_cut_and_says_so_whatever_its_length() -> None:
    shown = cleaned("x" * 30_000_000)
    assert len(shown) < LONGEST + 50
    assert shown.endswith("x… (30,000,000 characters)")
    assert len(cleaned("\x00" * 3000)) < LONGEST + 50


class Deceitful(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError


def _raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return raised


def test_of_an_exception_the_places_are_told_and_its_kind() -> None:
    error = _raised(RuntimeError(f"Authorization: {CLIENT}\n\x1b[31m"))
    place, text = of_exception(error, error.__traceback__)
    assert place.startswith(f"  {__file__}:")
    assert place.endswith("in _raised")
    assert text == r"  RuntimeError: Authorization: [redacted]\n\x1b[31m"
    assert of_exception(Deceitful(), None) == ["  Deceitful"]


# -- through logging ------------------------------------------------------------------------------


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger of somebody else's, and what it prints."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Said)
    out = io.StringIO()
    logger = logging.Logger("somebody")
    logger.addHandler(logging.StreamHandler(out))
    yield logger, out
    logging.setLogRecordFactory(before)


def test_each_record_is_clean_whoever_made_it(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = log
    logger.error("one %s and %r", KEY, f"Bearer {CLIENT}".encode())
    try:
        raise ValueError(f"Authorization: Bearer {CLIENT}")
    except ValueError:
        logger.exception("two\r\x1b[2J")
    logger.error("three %(a)s", {"a": KEY})
    shown = out.getvalue()
    assert not [secret for secret in (KEY, CLIENT) if secret in shown]
    assert all(char.isprintable() or char == "\n" for char in shown)
    first, second, *trace, kind, third = shown.splitlines()
    assert first == "one [redacted] and [33 characters of bytes]"
    assert second == r"two\r\x1b[2J"
    assert len(trace) == 1
    assert kind.startswith("  ValueError: ")
    assert third == "three [redacted]"


def test_a_line_that_cannot_be_made_fails_nobody(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = log
    logger.error("%d %s", "no number")
    logger.error(Deceitful())
    shown = out.getvalue().splitlines()
    assert shown == [
        f"a line that cannot be shown ({kind})" for kind in ("TypeError", "ValueError")
    ]


def test_only_some_of_the_lines_that_are_alike_are_shown(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, out = log
    now = 0.0
    sparing = Sparing(lambda: now)
    for _ in range(2):  # two that show the same
        logger.addHandler(logging.StreamHandler(out))
    for handler in logger.handlers:
        handler.addFilter(sparing)
    for number in range(1000):
        logger.info("%s: call %d failed", f"127.0.0.1:{number}", number)
        if number == 500:
            logger.info("something else")
    assert out.getvalue().count("failed") == 3 * 50
    assert out.getvalue().count("something else") == 3
    now = 60.0
    logger.info("%s: call %d failed", "127.0.0.1:1", 1)
    assert out.getvalue().endswith("127.0.0.1:1: call 1 failed (and 950 like it)\n" * 3)


def test_kinds_of_lines_do_not_fill_the_memory(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = log
    sparing = Sparing()
    logger.handlers[0].addFilter(sparing)
    for number in range(2000):
        logger.info("".join(chr(ord("g") + int(digit)) for digit in str(number)))
    assert len(sparing._kinds) < 300
    assert out.getvalue().count("\n") == 2000


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise OSError("Input/output error")

    def flush(self) -> None:
        raise OSError("Input/output error")


def test_what_cannot_be_written_is_lost_and_no_more() -> None:
    with open(os.devnull) as unwritable:
        for file in (Gone(), unwritable):
            out = steady(file)
            assert out is not None
            print("hello", file=out, flush=True)
            assert out.isatty() is False
    assert steady(None) is None


def test_an_exception_that_nobody_caught_is_told_without_its_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _raised(RuntimeError(KEY))
    said._uncaught(type(error), error, error.__traceback__)
    said._uncaught(RuntimeError, None, None)
    shown = capsys.readouterr().err
    assert KEY not in shown
    assert shown.count("RuntimeError") == 2
    monkeypatch.setattr(sys, "stderr", Gone())
    said._uncaught(type(error), error, error.__traceback__)
