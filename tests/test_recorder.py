"""The recorder: what an answer says is told, and judged against the way it came."""

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
from llm_passthrough import recorder
from llm_passthrough.record import Body, Facts, Fault, Outcome, Record, line
from llm_passthrough.recorder import Prices, build
from llm_passthrough.redact import Redactor
from llm_passthrough.usage import Reading, Usage

SECRET = "sk-SECRET-0123456789"
ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
    "service_tier": "default",
}
JSON = ((b"content-type", b"application/json"),)
BASE = Facts(
    id="0123",
    started=1_760_000_000.0,
    method="POST",
    client_path=b"/openai_passthrough/v1/chat/completions",
    at=50.0,
    route="/openai_passthrough",
    provider="openai",
    path=b"/v1/chat/completions",
    request_headers=JSON,
    status=200,
    response_headers=JSON,
)
USAGE = Usage(input_tokens=1000, output_tokens=100)


def body(value: object) -> Body:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Body(content, len(content))


def told(prices: Prices | None = None, asked: object = None, **changes: Any) -> Record:
    request = body(asked if asked is not None else {"model": "gpt-4o"})
    return build(replace(BASE, **{"request": request} | changes), Redactor([SECRET]), prices)


def test_a_whole_answer_is_read_now_that_it_is_there() -> None:
    record = told(response=body(ANSWER))
    assert record.model.requested == "gpt-4o"
    assert record.model.response == "gpt-4o-2024-08-06"
    assert record.response_id == "chatcmpl-1"
    assert record.finish_reasons == ["stop"]
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (1000, 100)
    assert record.service_tier == "default"
    assert record.timing_ms.first_token is None  # it came all at once


@pytest.mark.parametrize(
    ("changes", "heard"),
    [
        pytest.param({}, True, id="as it is"),
        pytest.param({"capture": "usage"}, True, id="usage alone is to be captured"),
        pytest.param({"capture": "none"}, False, id="nothing is to be captured"),
        pytest.param({"outcome": "refused"}, False, id="the answer is ours"),
        pytest.param({"status": None}, False, id="there was none"),
        pytest.param({"path": b"/v1/responses/input_tokens"}, False, id="a count is no usage"),
    ],
)
def test_usage_is_told_where_a_provider_said_it_and_somebody_wants_it(
    changes: dict[str, Any], heard: bool
) -> None:
    assert (told(**{"response": body(ANSWER)} | changes).usage is not None) is heard


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        pytest.param(b"gzip", gzip.compress(json.dumps(ANSWER).encode()), id="gzip"),
        pytest.param(b"snappy", json.dumps(ANSWER).encode(), id="an unknown one that is a lie"),
    ],
)
def test_a_compressed_answer_is_read(coding: bytes, content: bytes) -> None:
    record = told(response=body(content), response_headers=(*JSON, (b"Content-Encoding", coding)))
    assert record.usage is not None
    assert record.usage.input_tokens == 1000


def test_what_was_heard_while_it_went_by_is_not_read_again() -> None:
    reading = Reading(model="heard", usage=USAGE, first_token_at=50.125, complete=True)
    record = told(response=body(ANSWER), reading=reading)
    assert record.model.response == "heard"
    assert record.timing_ms.first_token == 125.0


# -- outcome and fault ---------------------------------------------------------------------------

LEFT = Fault("client_abort", "the client went away", "client")
ERROR = Reading(error_type="overloaded_error", error_code="529", error_message="busy")


@pytest.mark.parametrize(
    ("outcome", "fault", "reading", "expected"),
    [
        pytest.param("ok", None, Reading(complete=True), ("ok", None), id="whole"),
        pytest.param("ok", None, Reading(complete=None), ("ok", None), id="nobody knows"),
        pytest.param("ok", None, None, ("ok", None), id="nothing heard"),
        pytest.param(
            "ok", None, Reading(complete=False),
            ("upstream_abort", ("incomplete", "the stream ended before its last event", None)),
            id="a stream without its last event",
        ),
        pytest.param(
            "ok", None, replace(ERROR, complete=False),
            ("upstream_error", ("overloaded_error", "busy", "529")),
            id="an error inside a good answer",
        ),
        pytest.param(
            "upstream_error", None, ERROR,
            ("upstream_error", ("overloaded_error", "busy", "529")),
            id="an error as the answer",
        ),
        pytest.param(
            "upstream_error", None, Reading(error_code="x1"),
            ("upstream_error", ("x1", "x1", "x1")),
            id="an error that is a code alone",
        ),
        pytest.param(
            "upstream_error", None, Reading(error_message="plain words"),
            ("upstream_error", ("error", "plain words", None)),
            id="an error that is words alone",
        ),
        pytest.param(
            "upstream_error", None, Reading(complete=False), ("upstream_error", None),
            id="an error that says nothing",
        ),
        pytest.param(
            "client_abort", LEFT, Reading(complete=False),
            ("client_abort", ("client_abort", "the client went away", None)),
            id="a client who left in the middle",
        ),
        pytest.param(
            "client_abort", LEFT, ERROR,
            ("upstream_error", ("overloaded_error", "busy", "529")),
            id="a client who left because of an error",
        ),
        pytest.param(
            "upstream_error", Fault("websocket_close", "closed with 1011", "upstream"), ERROR,
            ("upstream_error", ("websocket_close", "closed with 1011", None)),
            id="the way it came is not overruled",
        ),
        pytest.param("timeout", None, ERROR, ("timeout", None), id="nor is a deadline"),
    ],
)  # fmt: skip
def test_the_answer_may_say_more_than_the_way_it_came(
    outcome: Outcome,
    fault: Fault | None,
    reading: Reading | None,
    expected: tuple[str, tuple[str, str, str | None] | None],
) -> None:
    record = told(outcome=outcome, fault=fault, reading=reading)
    error = record.error and (record.error.type, record.error.message, record.error.code)
    assert (record.outcome, error) == expected
    if record.error:
        assert record.error.origin == ("client" if record.outcome == "client_abort" else "upstream")


def test_an_error_shows_no_secret_in_any_of_its_parts() -> None:
    reading = Reading(
        error_type=f"bad {SECRET}", error_code=SECRET, error_message=f"no such key: {SECRET}"
    )
    record = told(outcome="upstream_error", reading=reading)
    assert record.error is not None
    assert SECRET not in repr(record)


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        pytest.param(
            429,
            {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}},
            ("requests", "rate_limit_exceeded", "slow"),
            id="OpenAI",
        ),
        pytest.param(
            529,
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            ("overloaded_error", None, "Overloaded"),
            id="Anthropic",
        ),
        pytest.param(
            400,
            {"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}},
            ("INVALID_ARGUMENT", "400", "bad"),
            id="Google",
        ),
        pytest.param(502, b"<html>Bad Gateway</html>", ("error", None, None), id="a page"),
    ],
)
def test_an_error_of_the_provider_is_told_by_its_names(
    status: int, content: object, error: tuple[str, str | None, str | None]
) -> None:
    record = told(status=status, outcome="upstream_error", response=body(content))
    assert record.error is not None
    assert (record.error.type, record.error.code) == error[:2]
    assert error[2] in (record.error.message, None)


# -- cost ----------------------------------------------------------------------------------------

OWN = {"gpt-4o": {"input": 1.0, "output": 10.0}}


@pytest.mark.parametrize(
    ("prices", "answered", "amount"),
    [
        pytest.param(OWN, "gpt-4o", 0.002, id="by the model that answered"),
        pytest.param(OWN, "private-0806", 0.002, id="by the model that was asked for"),
        pytest.param(
            OWN | {"private-*": {"input": 5.0, "output": 50.0}},
            "private-0806",
            0.01,
            id="the model that answered comes first",
        ),
        pytest.param({"gpt-4o": {"input": 1.0}}, "private-0806", None, id="a rate is missing"),
    ],
)
def test_a_call_costs_what_the_users_own_table_says(
    prices: Prices, answered: str, amount: float | None
) -> None:
    record = told(prices, {"model": "gpt-4o"}, reading=Reading(model=answered, usage=USAGE))
    if amount is None:
        assert record.cost is None or record.cost.source != "config"
    else:
        assert record.cost is not None
        assert record.cost.amount == pytest.approx(amount)
        assert (record.cost.currency, record.cost.source) == ("USD", "config")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"reading": Reading(model="gpt-4o")}, id="no usage"),
        pytest.param({"reading": Reading(model="gpt-4o", usage=Usage())}, id="empty usage"),
        pytest.param(
            {"reading": Reading(usage=USAGE), "request": body({"model": "private"})},
            id="an unknown model",
        ),
        pytest.param(
            {"reading": Reading(model="gpt-4o", usage=USAGE), "provider": None}, id="no provider"
        ),
    ],
)
def test_what_is_not_known_costs_null_not_nothing(changes: dict[str, Any]) -> None:
    assert told(None, **changes).cost is None


# -- session, limits, retries --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "headers", "session"),
    [
        pytest.param({}, (), {}, id="none"),
        pytest.param(
            {}, ((b"X-Session-Id", b"s1"), (b"Conversation_Id", b"c1"), (b"X-Other", b"o")),
            {"x-session-id": "s1", "conversation_id": "c1"},
            id="headers, by their own names",
        ),
        pytest.param(
            {"previous_response_id": "resp_1", "user": "u1"}, (),
            {"previous_response_id": "resp_1", "user": "u1"},
            id="fields of the body",
        ),
        pytest.param(
            {"metadata": {"user_id": "user_a_account_b_session_0123abcd-ef01"}},
            ((b"x-session-id", b"s1"),),
            {
                "user_id": "user_a_account_b_session_0123abcd-ef01",
                "session_id": "0123abcd-ef01",
                "x-session-id": "s1",
            },
            id="both",
        ),
        pytest.param({"user": SECRET}, (), {"user": "[redacted]"}, id="a secret as a session"),
    ],
)  # fmt: skip
def test_a_session_is_told_by_the_names_that_the_client_gives_it(
    asked: dict[str, Any], headers: tuple[tuple[bytes, bytes], ...], session: dict[str, str]
) -> None:
    record = told(None, {"model": "m"} | asked, request_headers=(*JSON, *headers))
    if SECRET in asked.values():
        assert SECRET not in repr(record.session)
        assert set(record.session) == set(session)
    else:
        assert record.session == session


def test_nothing_of_a_session_is_told_where_nothing_is_to_be_captured() -> None:
    assert told(None, {"model": "m", "user": "u"}, capture="none").session == {}


def test_rate_limits_are_told_in_small_letters() -> None:
    fields = ((b"X-RateLimit-Remaining-Tokens", b"5"), (b"anthropic-ratelimit-tokens-reset", b"t"))
    record = told(response_headers=(*JSON, *fields, (b"Retry-After", b"1")))
    assert record.rate_limits == {
        "x-ratelimit-remaining-tokens": "5",
        "anthropic-ratelimit-tokens-reset": "t",
    }


def test_tool_calls_and_what_could_not_be_read_are_told() -> None:
    record = told(reading=Reading(tool_calls=("a", f"b {SECRET}"), unread=f"odd {SECRET}"))
    assert record.tool_calls[0] == "a"
    assert len(record.tool_calls) == 2
    assert record.unread is not None
    assert SECRET not in repr(record)


TWICE = b'{"model":"a","model":"b"}'


@pytest.mark.parametrize(
    ("changes", "unread"),
    [
        pytest.param({}, "request: named more than once: model", id="the request's"),
        pytest.param(
            {"reading": Reading(unread="odd")},
            "request: named more than once: model; odd",
            id="the request's and the answer's",
        ),
        pytest.param({"request": Body(TWICE, 100)}, None, id="not all of it is there"),
        pytest.param({"status": 101}, None, id="the messages of a websocket"),
        pytest.param({"capture": "none"}, None, id="nothing is to be captured"),
        pytest.param({"provider": None}, None, id="it went to no provider"),
        pytest.param(
            {"request_headers": (*JSON, (b"content-encoding", b"gzip"))},
            "request: content coding gzip",
            id="compressed, it says",
        ),
        pytest.param(
            {
                "request": body(gzip.compress(TWICE)),
                "request_headers": (*JSON, (b"content-encoding", b"gzip")),
            },
            "request: named more than once: model",
            id="compressed",
        ),
        pytest.param({"request_headers": ()}, "request: named more than once: model", id="no type"),
    ],
)
def test_what_of_a_request_is_odd_is_told_where_all_of_it_was_seen(
    changes: dict[str, Any], unread: str | None
) -> None:
    assert told(**{"request": body(TWICE)} | changes).unread == unread


def test_of_headers_that_stand_twice_the_first_counts_and_all_are_told() -> None:
    fields = (*JSON, (b"X-Request-Id", b"a"), (b"x-request-id", b"b"), (b"X-Long", b"x" * 999))
    record = told(response_headers=fields)
    assert record.upstream_request_id == "a"
    assert record.response is not None
    assert record.response.headers == [(n.decode(), v.decode()) for n, v in fields]


def test_a_record_and_its_line_say_the_same() -> None:
    record, text = recorder.told(replace(BASE, response=body(ANSWER)), Redactor([SECRET]))
    assert text == line(record)
    leak = replace(BASE, response=body({"error": f"no such key: {SECRET}"}), secrets=(SECRET,))
    record, text = recorder.told(leak, Redactor([]))
    assert text == line(record)
    assert SECRET not in repr(record)
