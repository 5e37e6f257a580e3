"""A record's request made anew: byte for byte what the client sent, or a line why not."""

from typing import Any

import made
import pytest
from llm_passthrough.resend import ResendError, resend, spliced

HEADERS = (
    (b"Host", b"api.openai.com"),
    (b"Content-Type", b"application/json"),
    (b"X-Stainless-Lang", b"python"),
    (b"Accept-Encoding", b"gzip"),
    (b"Content-Length", b"99"),
    (b"Content-Encoding", b"gzip"),
    (b"Connection", b"close"),
    (b"Authorization", b"Bearer [openai/team]"),
    (b"X-Team-Key", b"[openai/team]"),
    (b"X-Other", b"[redacted]"),
)


def record(**facts: Any) -> dict[str, Any]:
    return made.told(made.record("one", **facts))


def test_the_clients_own_request_and_nothing_that_was_put_on() -> None:
    body = b'{ "model":"gpt-4o",  "messages": [] }\n'
    path = b"/openai_passthrough/v1/chat/completions?a=%2F&a=&b=1+2"
    one = resend(record(asked=body, request_headers=HEADERS, client_path=path))
    assert one.method == "POST"
    assert one.target == path.decode()
    assert one.body == body
    assert one.fields == (
        (b"Content-Type", b"application/json"),
        (b"X-Stainless-Lang", b"python"),
        (b"Accept-Encoding", b"gzip"),
    )
    assert not one.altered


def test_bytes_that_are_no_text_come_back_as_they_were() -> None:
    body = bytes(range(256))
    assert resend(record(asked=body)).body == body


def test_a_call_by_host_goes_to_that_host_as_through_a_proxy() -> None:
    one = resend(record(route="host:api.openai.com", client_path=b"/v1/models?x=1", asked=b""))
    assert one.target == "https://api.openai.com/v1/models?x=1"
    assert one.body == b""


def test_a_body_in_which_a_secret_was_replaced_says_so() -> None:
    told = record(asked={"model": "gpt-4o", "input": "my key is sk-0123456789abcdef"})
    told["request"]["body"] = told["request"]["body"].replace("sk-0123456789abcdef", "[redacted]")
    assert resend(told).altered


def changed(part: str, **changes: Any) -> dict[str, Any]:
    told = record(answered={"id": 1})
    told[part] |= changes
    return told


@pytest.mark.parametrize(
    ("told", "why"),
    [
        pytest.param(changed("request", truncated=True), "not kept whole", id="cut off"),
        pytest.param(record(capture="usage"), "headers were not kept", id="usage alone was kept"),
        pytest.param(changed("request", body=None), "body was not kept", id="no body"),
        pytest.param(
            changed("request", encoding="base64", body="a"), "no base64", id="base64 of nothing"
        ),
        pytest.param(changed("response", status=101), "WebSocket", id="a WebSocket"),
        pytest.param(changed("request", method="CONNECT"), "tunnel", id="a tunnel"),
        pytest.param(
            changed("request", client_path="example.com:443"), "tunnel", id="a tunnel's target"
        ),
        pytest.param({}, "no record", id="no record"),
    ],
)
def test_what_cannot_be_sent_as_it_was_is_not_sent(told: dict[str, Any], why: str) -> None:
    with pytest.raises(ResendError, match=why):
        resend(told)


@pytest.mark.parametrize(
    ("path", "body", "new_path", "new_body"),
    [
        pytest.param(
            b"/openai_passthrough/v1/chat/completions", b'{"n": 1, "model" : "a","x":"model"}',
            None, b'{"n": 1, "model" : "new/M","x":"model"}',
            id="in the body, nothing else moves",
        ),
        pytest.param(
            b"/openai_passthrough/v1/chat/completions", b'{"m":{"model":"a"},"model":"a"}',
            None, b'{"m":{"model":"a"},"model":"new/M"}',
            id="at the top level alone",
        ),
        pytest.param(
            b"/genai_passthrough/v1beta/models/gemini-2.5-flash:generateContent?alt=sse", b"{}",
            "/genai_passthrough/v1beta/models/new%2FM:generateContent?alt=sse", b"{}",
            id="gemini: in the path, before the method",
        ),
        pytest.param(
            b"/genai_passthrough/v1/projects/p/locations/l/publishers/anthropic/models/c@1:rawPredict",
            b'{"stream": true}',
            "/genai_passthrough/v1/projects/p/locations/l/publishers/anthropic/models/new%2FM:rawPredict",
            b'{"stream": true}',
            id="vertex: in the path",
        ),
        pytest.param(
            b"/azure_passthrough/openai/deployments/a/chat/completions?api-version=1",
            b'{"model": "a"}',
            "/azure_passthrough/openai/deployments/new%2FM/chat/completions?api-version=1",
            b'{"model": "new/M"}',
            id="azure: the deployment, and the body that repeats it",
        ),
        pytest.param(
            b"/azure_passthrough/openai/deployments/a/chat/completions", b'{"model": "gpt-4o"}',
            "/azure_passthrough/openai/deployments/new%2FM/chat/completions",
            b'{"model": "gpt-4o"}',
            id="azure: a body that names another one stays",
        ),
        pytest.param(
            b"/azure_passthrough/models/chat/completions", b'{"model": "a"}',
            None, b'{"model": "new/M"}',
            id="azure: /models/chat is no model",
        ),
        pytest.param(
            b"/models/x/v1/chat/completions", b'{"model": "a"}',
            None, b'{"model": "new/M"}',
            id="a route with such a name is none either",
        ),
    ],
)  # fmt: skip
def test_another_model_takes_the_place_of_the_recorded_one(
    path: bytes, body: bytes, new_path: str | None, new_body: bytes
) -> None:
    route = "/models/x" if path.startswith(b"/models/") else path.decode().split("/")[1]
    one = resend(record(client_path=path, asked=body, route=f"/{route.lstrip('/')}"), "new/M")
    assert one.target == (new_path or path.decode())
    assert one.body == new_body


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"a": 1}', id="no model"),
        pytest.param(b'{"model": "a"', id="torn"),
        pytest.param(b'{"model": "a" "b": 1}', id="no comma"),
        pytest.param(b"[" * 100_000, id="too deep"),
        pytest.param(b'{"a": ' + b"[" * 100_000, id="too deep inside"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\na', id="a form"),
    ],
)
def test_where_there_is_no_model_there_is_none_to_replace(body: bytes) -> None:
    assert spliced(body, "b") is None
    with pytest.raises(ResendError, match="names a model"):
        resend(record(asked=body), "b")


def test_a_model_that_stands_twice_is_replaced_twice() -> None:
    assert spliced(b'{"model":"a","\\u006dodel": 1}', "b") == b'{"model":"b","\\u006dodel": "b"}'
