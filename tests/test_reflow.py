"""Flows of records: what mitmweb needs of them is there, whatever the record holds."""

import gzip
import json
from typing import Any

import made
import pytest
from llm_passthrough.record import Fault, Record
from llm_passthrough.reflow import flow_of, record_of
from llm_passthrough.views.contents import Conversation
from mitmproxy import http
from mitmproxy.contentviews import Metadata


def flow(**facts: Any) -> http.HTTPFlow:
    """The flow of a record that was written and read back."""
    return flow_of(read(made.record(**facts)))


def read(one: Record) -> Record:
    record = record_of(made.told(one))
    assert record is not None
    return record


def shown(one: http.HTTPFlow, message: http.Message) -> str:
    kind = message.headers.get("content-type", "").partition(";")[0]
    metadata = Metadata(flow=one, http_message=message, content_type=kind)
    return Conversation().prettify(message.raw_content or b"", metadata)


def test_request_and_answer_are_as_they_were_recorded() -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": "Blue."}}]}
    one = flow(answered=answer, url="https://api.openai.com:8443/v1/chat/completions?a=%2F&b")
    request, response = one.request, one.response
    assert response is not None
    assert request.method == "POST"
    assert request.url == "https://api.openai.com:8443/v1/chat/completions?a=%2F&b"
    assert request.headers["Authorization"] == "Bearer [openai/team]"
    assert json.loads(request.get_text() or "") == {"model": "gpt-4o", "messages": []}
    assert (response.status_code, response.reason) == (200, "OK")
    assert json.loads(response.get_text() or "") == answer
    assert request.timestamp_start == made.START
    assert response.timestamp_start == made.START + 0.5
    assert response.timestamp_end == made.START + 1.0
    assert one.server_conn.address == ("api.openai.com", 8443)
    assert one.client_conn.peername == ("default", 0)
    assert one.id == made.id_at(made.START)
    assert "- assistant: Blue." in shown(one, response)
    assert f'record: "{one.id}"' in shown(one, response)


def test_it_can_be_saved_and_loaded_again() -> None:
    one = flow(answered={"id": 1}, client="ci")
    again = http.HTTPFlow.from_state(one.get_state())
    assert isinstance(again, http.HTTPFlow)
    assert again.request.url == one.request.url
    assert again.comment == one.comment


@pytest.mark.parametrize(
    ("facts", "mark", "comment", "error"),
    [
        pytest.param({}, ":white_check_mark:", "openai gpt-4o", None, id="ok"),
        pytest.param(
            {"status": 503, "outcome": "refused", "url": None,
             "fault": Fault("no_key", "set OPENAI_API_KEY", "gateway")},
            ":no_entry:", "refused 503: set OPENAI_API_KEY", None,
            id="refused",
        ),
        pytest.param(
            {"status": None, "outcome": "client_abort",
             "fault": Fault("client_abort", "the client went away", "client")},
            ":scissors:", "client abort: the client went away", "the client went away",
            id="never answered",
        ),
        pytest.param(
            {"outcome": "upstream_abort", "fault": Fault("x", "it broke off", "upstream")},
            ":broken_heart:", "upstream abort 200: it broke off", "it broke off",
            id="broken off",
        ),
    ],
)  # fmt: skip
def test_comment_and_marker_are_those_of_live_calls(
    facts: dict[str, Any], mark: str, comment: str, error: str | None
) -> None:
    one = flow(answered={"id": 1}, **facts)
    assert one.marked == mark
    assert one.comment.startswith(comment)
    assert (one.error.msg if one.error else None) == error
    assert (one.response is None) == (facts.get("status", 200) is None)


@pytest.mark.parametrize(
    ("facts", "url"),
    [
        pytest.param(
            {"url": None, "client_path": b"/nowhere?x",
             "request_headers": ((b"Host", b"localhost:8080"),)},
            "http://localhost:8080/nowhere?x",
            id="never sent",
        ),
        pytest.param(
            {"url": None, "client_path": b"/nowhere", "request_headers": ()},
            "http://localhost/nowhere",
            id="never sent, without a Host",
        ),
        pytest.param(
            {"url": "https://example.com:444", "method": "GET"}, "https://example.com:444/",
            id="no path was recorded",
        ),
        pytest.param({"url": "http://[::1]:80x/a"}, "http://[::1]:80x/a", id="no port"),
    ],
)  # fmt: skip
def test_every_request_has_a_place(facts: dict[str, Any], url: str) -> None:
    assert flow(**facts).request.url == url


def test_a_tunnel_is_shown_by_its_host() -> None:
    one = flow(url=None, method="CONNECT", client_path=b"example.com:443", request_headers=())
    assert (one.request.method, one.request.host, one.request.port) == (
        "CONNECT",
        "example.com",
        443,
    )


def test_a_body_that_was_packed_is_readable() -> None:
    body = json.dumps({"choices": [{"message": {"content": "Blue."}}]}).encode()
    headers = ((b"Content-Type", b"application/json"), (b"Content-Encoding", b"gzip"))
    one = flow(answered=gzip.compress(body), response_headers=headers)
    assert one.response is not None
    assert one.response.get_content(strict=True) == body
    assert list(one.response.headers) == ["Content-Type"]


def test_bytes_that_are_no_text_are_bytes_again() -> None:
    one = flow(answered=bytes(range(256)), response_headers=((b"Content-Type", b"audio/mpeg"),))
    assert one.response is not None
    assert one.response.raw_content == bytes(range(256))


def test_what_was_cut_off_says_so() -> None:
    one = flow(answered={"choices": [{"text": "x" * 500}]}, body_limit=100)
    assert one.response is not None
    assert shown(one, one.response).startswith("# cut off: 100 B of 52")


def test_what_was_not_kept_is_missing_and_not_empty() -> None:
    one = flow(answered={"id": 1}, capture="usage")
    assert one.request.raw_content is None
    assert one.response is not None
    assert one.response.raw_content is None
    assert flow(asked=b"", method="GET").request.raw_content == b""


def test_a_websocket_is_a_plain_exchange() -> None:
    one = flow(status=101, asked=b'{"type": "a"}', answered=b'{"type": "b"}')
    assert one.websocket is None
    assert one.request.raw_content == b'{"type": "a"}'
    assert one.response is not None
    assert one.response.status_code == 101


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"a_new_field": {"x": 1}}, id="a field that is not known"),
        pytest.param({"unread": ..., "rate_limits": ..., "service_tier": ...}, id="fewer fields"),
        pytest.param({"usage": {"input_tokens": 1, "new_tokens": 2}}, id="another kind of token"),
        pytest.param({"id": "../../etc"}, id="an id that mitmweb has no address for"),
    ],
)
def test_records_of_other_versions_are_shown(changes: dict[str, Any]) -> None:
    told = made.told(made.record(answered={"id": 1})) | changes
    told = {name: value for name, value in told.items() if value is not ...}
    record = record_of(told)
    assert record is not None
    assert flow_of(record).comment.startswith("openai gpt-4o")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"time": "yesterday"}, id="no time"),
        pytest.param({"request": None}, id="no request"),
        pytest.param({"outcome": "fine"}, id="no outcome of ours"),
        pytest.param({"id": None}, id="no id"),
    ],
)
def test_what_is_no_record_is_none(changes: dict[str, Any]) -> None:
    assert record_of(made.told(made.record()) | changes) is None
    assert record_of({}) is None
