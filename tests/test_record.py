"""The record: what is told about an exchange, in which names, and what never is."""

import base64
import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from llm_passthrough import record
from llm_passthrough.record import Body, Facts, Fault, Record, line, schema, schema_text
from llm_passthrough.recorder import build
from llm_passthrough.redact import REDACTED, Redactor, forms
from llm_passthrough.usage import Reading
from pydantic import TypeAdapter

KEY = "sk-REAL/KEY+0123456789=abc"
CLIENT = "sk-CLIENT-9876543210"
REDACTOR = Redactor([KEY])
VALIDATOR = jsonschema.Draft202012Validator(schema())
ROOT = Path(__file__).resolve().parents[1]

TOP_LEVEL = (
    "schema id time client route provider detected_by key operation stream request response model "
    "response_id upstream_request_id finish_reasons usage cost timing_ms outcome error session "
    "attempt tool_calls rate_limits service_tier unread replay_of part_of turn turns"
).split()


def facts(**changes: Any) -> Facts:
    """An ordinary exchange, with these differences."""
    content = b'{"model":"gpt-4o","messages":[]}'
    answer = b'{"id":"chatcmpl-1"}'
    ordinary = Facts(
        id="0123",
        started=1_700_000_000.1234,
        method="POST",
        client_path=b"/openai_passthrough/v1/chat/completions?a=1",
        route="/openai_passthrough",
        provider="openai",
        detected_by="prefix",
        key="key-1",
        url="https://api.openai.com/v1/chat/completions?a=1",
        path=b"/v1/chat/completions",
        request_headers=(
            (b"Host", b"api.openai.com"),
            (b"Content-Type", b"application/json"),
            (b"X-Stainless-Retry-Count", b"2"),
            (b"Authorization", b"Bearer [openai/key-1]"),
        ),
        request=Body(content, len(content)),
        status=200,
        response_headers=((b"Content-Type", b"application/json"), (b"X-Request-Id", b"req_1")),
        response=Body(answer, len(answer)),
        total=1.5,
        first_byte=0.25,
        gateway=0.0012345,
        secrets=(f"Bearer {CLIENT}", CLIENT),
    )
    return replace(ordinary, **changes)


def told(**changes: Any) -> dict[str, Any]:
    """The record of an exchange with these differences, as a reader of the log gets it."""
    text = line(build(facts(**changes), REDACTOR))
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    value: dict[str, Any] = json.loads(text)
    VALIDATOR.validate(value)
    return value


def body(content: bytes) -> Body:
    return Body(content, len(content))


def test_an_ordinary_exchange_is_told_whole() -> None:
    assert told() == {
        "schema": "llm-passthrough.record/1",
        "id": "0123",
        "time": "2023-11-14T22:13:20.123Z",
        "client": "default",
        "route": "/openai_passthrough",
        "provider": "openai",
        "detected_by": "prefix",
        "key": "key-1",
        "operation": "chat",
        "stream": False,
        "request": {
            "method": "POST",
            "url": "https://api.openai.com/v1/chat/completions?a=1",
            "client_path": "/openai_passthrough/v1/chat/completions?a=1",
            "headers": [
                ["Host", "api.openai.com"],
                ["Content-Type", "application/json"],
                ["X-Stainless-Retry-Count", "2"],
                ["Authorization", "Bearer [openai/key-1]"],
            ],
            "body": '{"model":"gpt-4o","messages":[]}',
            "encoding": "utf-8",
            "bytes": 32,
            "sha256": hashlib.sha256(b'{"model":"gpt-4o","messages":[]}').hexdigest(),
            "truncated": False,
        },
        "response": {
            "status": 200,
            "headers": [["Content-Type", "application/json"], ["X-Request-Id", "req_1"]],
            "body": '{"id":"chatcmpl-1"}',
            "encoding": "utf-8",
            "bytes": 19,
            "sha256": hashlib.sha256(b'{"id":"chatcmpl-1"}').hexdigest(),
            "truncated": False,
        },
        "model": {"requested": "gpt-4o", "response": None},
        "response_id": "chatcmpl-1",
        "upstream_request_id": "req_1",
        "finish_reasons": [],
        "usage": None,
        "cost": None,
        "timing_ms": {
            "total": 1500.0,
            "first_byte": 250.0,
            "first_token": None,
            "gateway": 1.234,
            "connect": None,
            "tls": None,
        },
        "outcome": "ok",
        "error": None,
        "session": {},
        "attempt": 2,
        "tool_calls": [],
        "rate_limits": {},
        "service_tier": None,
        "unread": None,
        "replay_of": None,
        "part_of": None,
        "turn": None,
        "turns": None,
    }


def test_the_names_of_a_record_are_the_published_ones() -> None:
    assert list(told()) == TOP_LEVEL


def test_what_was_refused_at_the_door_is_told_too() -> None:
    value = told(
        client_path=b"/nowhere?a=1",
        route=None,
        provider=None,
        detected_by=None,
        key=None,
        url=None,
        path=b"",
        request=Body(),
        status=404,
        response=body(b"{}"),
        first_byte=None,
        outcome="refused",
        fault=Fault("no_route", "no route for this path", "gateway"),
    )
    assert value["request"]["url"] == value["request"]["client_path"] == "/nowhere?a=1"
    assert value["request"]["body"] is None
    assert value["request"]["sha256"] is None
    assert value["operation"] is None
    assert value["upstream_request_id"] is None, "a refusal's request id is our own"
    assert value["timing_ms"]["first_byte"] is None
    assert value["error"] == {
        "type": "no_route",
        "message": "no route for this path",
        "origin": "gateway",
        "code": None,
    }


def test_an_exchange_without_an_answer_has_no_response() -> None:
    value = told(status=None, response=Body(), outcome="client_abort")
    assert value["response"] is None
    assert value["stream"] is None


@pytest.mark.parametrize(
    ("changes", "stream"),
    [
        pytest.param(
            {"response_headers": ((b"content-TYPE", b"Text/Event-Stream; charset=utf-8"),)},
            True,
            id="events",
        ),
        pytest.param(
            {"response_headers": ((b"content-type", b"application/x-ndjson"),)}, True, id="lines"
        ),
        pytest.param(
            {"path": b"/v1beta/models/m:streamGenerateContent"}, True, id="an array in pieces"
        ),
        pytest.param({"status": 101}, True, id="a WebSocket"),
        pytest.param({"response_headers": ()}, False, id="no type"),
    ],
)
def test_a_stream_is_told_from_a_plain_answer(changes: dict[str, Any], stream: bool) -> None:
    assert told(**changes)["stream"] is stream


# -- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [KEY, CLIENT])
@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda text: {"url": f"https://h/x?q={text}"}, id="in the url"),
        pytest.param(lambda text: {"client_path": f"/x/{text}".encode()}, id="in the path"),
        pytest.param(
            lambda text: {"request_headers": ((b"x-a", text.encode()),)}, id="in a request header"
        ),
        pytest.param(
            lambda text: {"response_headers": ((b"x-a", b"=" + text.encode()),)},
            id="in an answer's header",
        ),
        pytest.param(
            lambda text: {"response_headers": ((b"x-request-id", text.encode()),)},
            id="as the upstream's request id",
        ),
        pytest.param(
            lambda text: {"request": body(b'{"model":"' + text.encode() + b'"}')},
            id="as the model",
        ),
        pytest.param(
            lambda text: {"path": b"/v1/models/" + text.replace("/", "%2F").encode()},
            id="as the model in the path",
        ),
        pytest.param(lambda text: {"request": body(text.encode())}, id="in the request's body"),
        pytest.param(
            lambda text: {"response": body(f'{{"error":"{text}"}}'.encode())},
            id="in the answer's body",
        ),
        pytest.param(
            lambda text: {"response": body(b"\xff\0" + text.encode() + b"\xfe")},
            id="in a body that is no text",
        ),
        pytest.param(
            lambda text: {
                "response": body(gzip.compress(text.encode())),
                "response_headers": ((b"content-encoding", b"gzip"),),
            },
            id="in a compressed body",
        ),
        pytest.param(
            lambda text: {"fault": Fault("upstream_tls", f"failed: {text}", "upstream")},
            id="in the error",
        ),
        pytest.param(lambda text: {"method": text}, id="as the method"),
        pytest.param(
            lambda text: {"response_headers": ((f"x-ratelimit-{text}".encode(), b"1"),)},
            id="in the name of a header",
        ),
        pytest.param(
            lambda text: {"request_headers": ((b"x-session-id", text.encode()),)}, id="as a session"
        ),
        pytest.param(
            lambda text: {
                "request": body(b"a=1"),
                "request_headers": ((b"content-type", b"application/json"),),
                "reading": Reading(
                    model=text,
                    response_id=text,
                    finish_reasons=(text,),
                    tool_calls=("f", text),
                    service_tier=text,
                    unread=text,
                ),
            },
            id="in all that was read",
        ),
        pytest.param(
            lambda text: {
                "request": body(text.encode() * 20_000),
                "body_limit": 100_000,
            },
            id="in a long body, and where it is cut off",
        ),
    ],
)
def test_no_secret_is_told_wherever_it_turned_up(secret: str, place: Any) -> None:
    for form in sorted(forms(secret)):
        value = told(**place(form))
        texts = [json.dumps(value, ensure_ascii=False)]
        for side in ("request", "response"):
            if value[side]["encoding"] == "base64":
                texts.append(base64.b64decode(value[side]["body"]).decode("latin-1"))
        assert not [f for f in forms(secret) for text in texts if f in text], form
        assert any(REDACTED in text for text in texts), form


def test_a_body_that_is_cut_inside_a_secret_does_not_show_its_start() -> None:
    content = b'{"error":"no such key: ' + KEY.encode() + b'"}'
    value = told(response=body(content), body_limit=40)
    assert value["response"]["body"] == '{"error":"no such key: ' + REDACTED
    assert value["response"]["truncated"] is True


def test_the_digest_and_the_length_are_of_the_bytes_on_the_wire() -> None:
    content = gzip.compress(b"x" + KEY.encode())
    value = told(response=body(content), response_headers=((b"content-encoding", b"gzip"),))[
        "response"
    ]
    assert value["bytes"] == len(content)
    assert value["sha256"] == hashlib.sha256(content).hexdigest()
    assert value["body"] == "x" + REDACTED


# -- bodies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"capture": "none"}, (None, None, None), id="none"),
        pytest.param({"capture": "usage"}, (None, None, "gpt-4o"), id="usage"),
        pytest.param(
            {"capture": "full"},
            ('{"model":"gpt-4o","messages":[]}', 4, "gpt-4o"),
            id="full",
        ),
    ],
)
def test_how_much_is_told_is_what_was_asked_for(
    changes: dict[str, Any], expected: tuple[object, ...]
) -> None:
    value = told(**changes)
    headers = value["request"]["headers"]
    seen = (value["request"]["body"], headers and len(headers), value["model"]["requested"])
    assert seen == expected
    assert value["request"]["bytes"] == 32
    assert value["request"]["sha256"]
    assert value["request"]["truncated"] is (changes["capture"] != "full")
    assert (value["response"]["headers"] is None) is (changes["capture"] != "full")


@pytest.mark.parametrize(
    ("told_body", "limit", "expected"),
    [
        pytest.param(Body(), 10, (None, None, 0, None, False), id="empty"),
        pytest.param(body(b"abc"), 3, ("abc", "utf-8", 3, b"abc", False), id="as long as allowed"),
        pytest.param(body(b"abcd"), 3, ("abc", "utf-8", 4, b"abcd", True), id="longer"),
        pytest.param(body(b"ab"), 0, (None, None, 2, b"ab", True), id="nothing is kept"),
        pytest.param(
            Body(b"abc", 9, "f" * 64), 9, ("abc", "utf-8", 9, "f" * 64, True), id="a tee's copy"
        ),
        pytest.param(Body(b"abc", 9), 9, ("abc", "utf-8", 9, None, True), id="a blind tee's copy"),
        pytest.param(body(b"\xff\xfe"), 9, ("//4=", "base64", 2, b"\xff\xfe", False), id="no text"),
        pytest.param(
            body("grüß".encode()[:-1]),
            9,
            ("grü", "utf-8", 5, "grüß".encode()[:-1], False),
            id="cut inside a character",
        ),
    ],
)
def test_a_body_is_told_with_its_length_and_its_digest(
    told_body: Body, limit: int, expected: tuple[Any, ...]
) -> None:
    value = told(response=told_body, body_limit=limit)["response"]
    digest = expected[3]
    if isinstance(digest, bytes):
        digest = hashlib.sha256(digest).hexdigest()
    seen = tuple(value[name] for name in ("body", "encoding", "bytes", "sha256", "truncated"))
    assert seen == (*expected[:3], digest, expected[4])


def test_a_bomb_is_told_as_far_as_the_limit_goes() -> None:
    content = gzip.compress(b"a" * 1_000_000)
    value = told(
        response=body(content),
        response_headers=((b"Content-Encoding", b"gzip"),),
        body_limit=2000,
    )["response"]
    assert value["body"] == "a" * 2000
    assert value["truncated"] is True
    assert value["bytes"] == len(content)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"[" * 200_000, id="deep"),
        pytest.param(b'{"n":' + b"9" * 5000 + b',"x":1e400,"y":NaN}', id="odd numbers"),
        pytest.param(b'{"model":"a","model":"b"}', id="a name twice"),
        pytest.param(b'{"model":"\\ud800"}', id="half a surrogate pair"),
        pytest.param(bytes(range(1, 128)), id="control characters"),
        pytest.param("\u2028\u2029\x85".encode(), id="line separators"),
    ],
)
def test_any_text_is_told_as_it_is(content: bytes) -> None:
    assert told(request=body(content))["request"]["body"] == content.decode()


@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param(("a" * 300_000, "b"), id="the request's"),
        pytest.param(("a", '"\\\n\x01é🙂' * 60_000), id="the answer's, with escapes"),
        pytest.param(("ä" * 131_073, "€" * 131_072), id="both, about as long as goes in one go"),
        pytest.param(('"' * 131_072, "\\" * 131_073), id="both, nothing but escapes"),
    ],
)
def test_a_long_body_makes_the_same_line(bodies: tuple[str, str]) -> None:
    asked, answered = (body(text.encode()) for text in bodies)
    made = build(facts(request=asked, response=answered), REDACTOR)
    assert line(made) == TypeAdapter(Record).dump_json(made) + b"\n"
    value = json.loads(line(made))
    assert (value["request"]["body"], value["response"]["body"]) == bodies


@pytest.mark.parametrize(
    ("content", "kind", "unread"),
    [
        pytest.param(b'{"model":"a","model":"b"}', b"application/json",
                     "request: named more than once: model", id="a name twice"),
        pytest.param(b'{"model":"a","x":NaN}', b"application/json",
                     "request: NaN or Infinity, which JSON does not have", id="NaN"),
        pytest.param(b'{"model":"a"}', b"text/plain",
                     "request: JSON under the content type text/plain", id="as text"),
        pytest.param(b'{"model":"a"}', b"application/json", None, id="nothing odd"),
    ],
)  # fmt: skip
def test_what_is_odd_in_a_request_is_marked_and_its_bytes_stay(
    content: bytes, kind: bytes, unread: str | None
) -> None:
    value = told(request=body(content), request_headers=((b"Content-Type", kind),))
    assert value["unread"] == unread
    assert value["request"]["body"] == content.decode()
    assert value["request"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_method_that_is_no_text_spoils_no_record() -> None:
    assert told(method="G\udcffT")["request"]["method"] == "G\\udcffT"


def test_headers_are_told_as_latin_1() -> None:
    value = told(request_headers=((b"x-\xe9", b"\x80\xff"),))
    assert value["request"]["headers"] == [["x-é", "\x80ÿ"]]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([(b"request-id", b"b"), (b"X-REQUEST-ID", b"a")], "a", id="OpenAI's first"),
        pytest.param([(b"Request-Id", b"req_a")], "req_a", id="Anthropic"),
        pytest.param([(b"apim-request-id", b"az")], "az", id="Azure"),
        pytest.param([(b"x-goog-request-id", b"g")], "g", id="Google"),
        pytest.param([(b"cf-ray", b"x")], None, id="none"),
    ],
)
def test_the_upstreams_request_id_is_found(
    headers: list[tuple[bytes, bytes]], expected: str | None
) -> None:
    assert told(response_headers=headers)["upstream_request_id"] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"0", 0, id="the first"),
        pytest.param(b"12", 12, id="a later one"),
        pytest.param(b"-1", None, id="negative"),
        pytest.param(b"x", None, id="no number"),
        pytest.param(b"", None, id="empty"),
        pytest.param("²".encode("latin-1"), None, id="a digit of another kind"),
        pytest.param(b"9" * 5000, None, id="endless"),
    ],
)
def test_the_attempt_is_what_the_sdk_announced(value: bytes, expected: int | None) -> None:
    assert told(request_headers=((b"x-stainless-retry-count", value),))["attempt"] == expected


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        pytest.param(0, "1970-01-01T00:00:00.000Z", id="zero"),
        pytest.param(1_700_000_000.9999, "2023-11-14T22:13:20.999Z", id="milliseconds are cut"),
    ],
)
def test_the_time_is_utc_with_milliseconds(epoch: float, expected: str) -> None:
    assert told(started=epoch)["time"] == expected


# -- the schema -------------------------------------------------------------------------------


def test_the_schema_in_the_repository_is_the_one_of_the_code() -> None:
    assert (ROOT / "record.schema.json").read_text() == schema_text(), (
        "write it anew: llm-passthrough schema record > record.schema.json"
    )


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$id"] == record.SCHEMA
    assert sorted(schema()["required"]) == sorted(TOP_LEVEL)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"outcome": "fine"}, id="an outcome of no meaning"),
        pytest.param({"schema": "llm-passthrough.record/2"}, id="another version"),
        pytest.param({"time": None}, id="no time"),
        pytest.param({"usage": {"input_tokens": "many"}}, id="tokens that are no number"),
    ],
)
def test_the_schema_refuses_what_is_no_record(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(told() | change)
