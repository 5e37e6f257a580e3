"""How long a key rests: by what the provider says, by pauses that grow, and never by junk."""

import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough import rest
from llm_passthrough.rest import REFUSED, after, asked_for, duration, retry_info, unreachable

NOW = datetime(2026, 7, 29, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="nothing said"),
        pytest.param({"retry-after": "7"}, 7.0, id="seconds"),
        pytest.param({"retry-after": " 7 "}, 7.0, id="seconds with blanks"),
        pytest.param({"retry-after": "1.5"}, 1.5, id="parts of a second"),
        pytest.param({"retry-after": "0"}, 0.0, id="at once"),
        pytest.param({"retry-after": "Wed, 29 Jul 2026 12:01:30 GMT"}, 90.0, id="a date"),
        pytest.param({"retry-after": "Wed, 29 Jul 2026 11:00:00 GMT"}, 0.0, id="a date gone by"),
        pytest.param({"retry-after": "2026-07-29T12:00:05Z"}, 5.0, id="a date of RFC 3339"),
        pytest.param({"retry-after-ms": "250"}, 0.25, id="milliseconds"),
        pytest.param({"retry-after-ms": "250", "retry-after": "1"}, 0.25, id="the finer one wins"),
        pytest.param({"retry-after-ms": "soon", "retry-after": "1"}, 1.0, id="junk is not there"),
        pytest.param(
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30s"},
            90.0,
            id="a limit of OpenAI's that is used up",
        ),
        pytest.param(
            {"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "1m30s"},
            None,
            id="a limit that is not used up",
        ),
        pytest.param(
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "20ms",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360.0,
            id="of two used up the longer",
        ),
        pytest.param({"x-ratelimit-remaining-tokens": "0"}, None, id="used up, no end told"),
        pytest.param(
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-07-29T12:00:42Z",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2026-07-29T13:00:00Z",
            },
            42.0,
            id="Anthropic's limit that is used up",
        ),
        pytest.param(
            {
                "retry-after": "3",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1h",
            },
            3.0,
            id="retry-after wins over the limits",
        ),
        pytest.param(
            {
                "retry-after": "later",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "2s",
            },
            2.0,
            id="a retry-after that is junk does not hide the limits",
        ),
    ],
)
def test_the_pause_is_what_the_headers_ask_for(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert asked_for(headers, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("-5", id="negative"),
        pytest.param("1e3", id="an exponent"),
        pytest.param("nan", id="not a number"),
        pytest.param("inf", id="infinite"),
        pytest.param("٣", id="a digit of another script"),
        pytest.param("5, 5", id="two"),
        pytest.param("9" * 100, id="longer than any number"),
        pytest.param("Wed, 99 Jul 2026 12:00:00 GMT", id="no such day"),
        pytest.param("Wed, 29 Jul 99999 12:00:00 GMT", id="no such year"),
        pytest.param("Wed, 29 Jul 2026 12:00:00 +9999999999", id="no such zone"),
        pytest.param("9999-99-99", id="no such date"),
        pytest.param("x" * 1_000_000, id="as long as a body"),
    ],
)
@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
def test_junk_counts_as_not_there(name: str, value: str) -> None:
    assert asked_for({name: value}, NOW) is None
    assert after(429, {name: value}, 0, NOW) == after(429, {}, 0, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("7", 7.0, id="a number is seconds"),
        pytest.param("34s", 34.0, id="seconds"),
        pytest.param("34.074824224s", 34.074824224, id="RetryInfo with nanoseconds"),
        pytest.param("250ms", 0.25, id="milliseconds"),
        pytest.param("8.64s", 8.64, id="parts of a second"),
        pytest.param("6m0s", 360.0, id="minutes and seconds"),
        pytest.param("1h2m3s", 3723.0, id="hours too"),
        pytest.param("2m", 120.0, id="minutes"),
        pytest.param("1m5ms", 60.005, id="minutes and milliseconds"),
        pytest.param(" 5s ", 5.0, id="blanks"),
        pytest.param("0s", 0.0, id="none"),
        pytest.param("", None, id="empty"),
        pytest.param("s", None, id="a unit alone"),
        pytest.param("5s1m", None, id="in another order"),
        pytest.param("-5s", None, id="negative"),
        pytest.param("5 s", None, id="a blank within"),
        pytest.param("9" * 400 + "s", None, id="longer than any duration"),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


def google_error(*details: object, **more: object) -> bytes:
    return json.dumps({"error": {"code": 429, "details": list(details)} | more}).encode()


INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}
QUOTA = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}


@pytest.mark.parametrize(
    ("body", "delay"),
    [
        pytest.param(google_error(QUOTA, INFO), "34.07s", id="among other details"),
        pytest.param(b"[" + google_error(INFO) + b"]", "34.07s", id="a stream's error: in a list"),
        pytest.param(google_error(QUOTA), None, id="no such detail"),
        pytest.param(google_error({"retryDelay": 5}), None, id="no text"),
        pytest.param(google_error("retryDelay"), None, id="details that are texts"),
        pytest.param(b'{"error": "retryDelay"}', None, id="an error that is a text"),
        pytest.param(b'{"error": {"details": "retryDelay"}}', None, id="details that are none"),
        pytest.param(b'[]"retryDelay"', None, id="no JSON"),
        pytest.param(b"[]", None, id="an empty list"),
        pytest.param(b'"retryDelay"' + b"[" * 50_000, None, id="nested without end"),
        pytest.param(b"\xff retryDelay", None, id="no text at all"),
        pytest.param(b" " * 200_000 + google_error(INFO), None, id="longer than an error is"),
    ],
)
def test_googles_delay_is_found_in_an_error(body: bytes, delay: str | None) -> None:
    assert retry_info(body) == delay


@pytest.mark.parametrize(
    ("status", "headers", "strikes", "hint", "seconds"),
    [
        pytest.param(401, {}, 0, None, REFUSED, id="401: for long"),
        pytest.param(403, {"retry-after": "1"}, 0, None, REFUSED, id="403: whatever it says"),
        pytest.param(429, {"retry-after": "9"}, 5, None, 9.0, id="429: what it says"),
        pytest.param(429, {"retry-after": "0"}, 5, "9s", 0.0, id="429: also when that is nothing"),
        pytest.param(429, {}, 0, "34.07s", 34.07, id="429: what Google's body says"),
        pytest.param(429, {}, 3, "0s", 0.0, id="429: also when the body says nothing"),
        pytest.param(429, {"retry-after": "9"}, 0, "34s", 9.0, id="429: headers before the body"),
        pytest.param(429, {}, 0, "junk", 1.0, id="429: a body that is junk"),
        pytest.param(429, {"retry-after": "999999"}, 0, None, 86_400.0, id="429: a day at most"),
        pytest.param(429, {}, 0, "999999s", 86_400.0, id="429: the body too"),
        pytest.param(500, {}, 0, None, 1.0, id="500: briefly"),
        pytest.param(503, {"retry-after": "20"}, 0, None, 20.0, id="503: what it says"),
        pytest.param(503, {"retry-after": "99999"}, 0, None, 60.0, id="503: a minute at most"),
        pytest.param(529, {}, 2, None, 4.0, id="529: twice as long each time"),
    ],
)
def test_a_key_rests_after_an_answer(
    status: int, headers: dict[str, str], strikes: int, hint: str | None, seconds: float
) -> None:
    answer = after(status, headers, strikes, NOW, hint)
    assert answer is not None
    assert answer.seconds == seconds
    assert answer.why == f"answered {status}"


@pytest.mark.parametrize("status", [101, 200, 204, 304, 400, 404, 408, 409, 413, 422, 600])
def test_a_key_does_not_rest_for_what_is_not_its_fault(status: int) -> None:
    assert after(status, {"retry-after": "9"}, 3, NOW, "9s") is None


def growth(kind: str) -> list[float]:
    rests = {
        "429": lambda strikes: after(429, {}, strikes, NOW),
        "500": lambda strikes: after(500, {}, strikes, NOW),
        "unreachable": unreachable,
    }
    answers = [rests[kind](strikes) for strikes in (*range(8), 10**6)]
    return [answer.seconds for answer in answers if answer]


@pytest.mark.parametrize(
    ("kind", "pauses"),
    [
        pytest.param("429", [1, 2, 4, 8, 16, 32, 60, 60, 60], id="429: to a minute"),
        pytest.param("500", [1, 2, 4, 8, 15, 15, 15, 15, 15], id="500: to a quarter of it"),
        pytest.param("unreachable", [1, 2, 4, 8, 15, 15, 15, 15, 15], id="no connection: the same"),
    ],
)
def test_a_pause_grows_and_has_an_end(kind: str, pauses: list[float]) -> None:
    assert growth(kind) == pauses


NAMES = st.sampled_from(
    "retry-after retry-after-ms x-ratelimit-remaining-tokens x-ratelimit-reset-tokens "
    "anthropic-ratelimit-tokens-remaining anthropic-ratelimit-tokens-reset".split()
)
VALUES = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="0123456789hms.:-+TZ ", max_size=40),
    st.just("0"),
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
)


@given(
    status=st.sampled_from([401, 403, 429, 500, 503, 529]),
    headers=st.dictionaries(NAMES, VALUES),
    strikes=st.integers(0, 10**9),
    now=st.floats(0, 4e9),
    hint=st.none() | VALUES,
)
def test_no_answer_makes_a_rest_that_has_no_end(
    status: int, headers: dict[str, str], strikes: int, now: float, hint: str | None
) -> None:
    answer = after(status, headers, strikes, now, hint)
    assert answer is not None
    assert math.isfinite(answer.seconds)
    assert 0 <= answer.seconds <= rest._MOST


@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda junk: b'{"retryDelay":' + junk))
def test_no_body_makes_the_search_for_a_delay_fail(body: bytes) -> None:
    assert retry_info(body) is None or isinstance(retry_info(body), str)
