"""Reading an answer: any cut, any framing, any nonsense; broken off anywhere."""

import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.dialects import reader
from llm_passthrough.usage import Reading, Usage

from .samples import (
    ANTHROPIC,
    CHAT,
    GEMINI_ARRAY,
    JSON,
    SSE,
    STREAMS,
    chunk,
    events,
    frame,
    plain,
    read,
)


def every_stream() -> list[object]:
    return [pytest.param(*row, id=name) for name, row in STREAMS.items()]


def at_once(reading: Reading) -> Reading:
    """A reading without when its first token came, which a cut may change."""
    return replace(reading, first_token_at=None if reading.first_token_at is None else 0.0)


@pytest.mark.parametrize(("path", "kind", "body"), every_stream())
@given(data=st.data())
def test_any_cut_of_a_stream_reads_the_same(
    path: str, kind: str, body: bytes, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=40)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert at_once(read(path, pieces, kind)) == at_once(read(path, body, kind))


@pytest.mark.parametrize(("path", "kind", "body"), every_stream())
def test_a_stream_read_byte_by_byte_reads_the_same(path: str, kind: str, body: bytes) -> None:
    pieces = [body[i : i + 1] for i in range(len(body))]
    assert at_once(read(path, pieces, kind)) == at_once(read(path, body, kind))


@pytest.mark.parametrize(("path", "kind", "body"), every_stream())
def test_a_whole_stream_is_complete_and_wholly_read(path: str, kind: str, body: bytes) -> None:
    got = read(path, body, kind)
    assert (got.complete, got.unread, got.error_message) == (True, None, None)
    assert got.finish_reasons
    assert got.usage is not None


@pytest.mark.parametrize(("path", "kind", "body"), every_stream())
def test_a_stream_may_break_off_anywhere(path: str, kind: str, body: bytes) -> None:
    readings = [read(path, body[:end], kind) for end in range(0, len(body), 7)]
    assert all(got.unread is None for got in readings)
    assert readings[len(readings) // 2].complete in (False, None)


@pytest.mark.parametrize(("path", "kind", "body"), every_stream())
def test_the_first_token_is_the_first_content_not_the_first_byte(
    path: str, kind: str, body: bytes
) -> None:
    first = read(path, [body[i : i + 1] for i in range(len(body))], kind).first_token_at
    assert first is not None
    assert 60 < first < len(body) - 60


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param(lambda b: b.replace(b"\n", b"\r\n"), "CRLF", id="CR LF"),
        pytest.param(lambda b: b.replace(b"\n", b"\r"), "CR", id="CR alone"),
        pytest.param(lambda b: b"\xef\xbb\xbf" + b, "BOM", id="a byte order mark"),
        pytest.param(lambda b: b.rstrip(b"\n"), "end", id="no final line end"),
        pytest.param(lambda b: b": ping\n\n" + b, "comment", id="a comment first"),
        pytest.param(lambda b: b"\n\n\n" + b, "blank", id="blank lines first"),
        pytest.param(
            lambda b: b.replace(b"\n\n", b"\n: OPENROUTER PROCESSING\n\n"), "", id="comments inside"
        ),
        pytest.param(lambda b: b.replace(b"data: ", b"data:"), "", id="no blank after the colon"),
        pytest.param(lambda b: b.replace(b"\n\n", b"\nid: 7\nretry: 3\n\n"), "", id="other fields"),
        pytest.param(lambda b: b.replace(b', "', b',\ndata: "'), "", id="data in several lines"),
        pytest.param(lambda b: b.replace(b"\n\n", b"\n"), "", id="no blank lines at all"),
    ],
)
@pytest.mark.parametrize("kind", [SSE, JSON, ""], ids=["events", "said to be JSON", "not said"])
def test_events_are_read_however_they_are_written(change: Any, what: str, kind: str) -> None:
    assert at_once(read("/v1/chat/completions", change(CHAT), kind)) == at_once(
        read("/v1/chat/completions", CHAT)
    )


def test_whitespace_that_keeps_a_connection_alive_is_passed_over() -> None:
    body = json.dumps({"id": "x", "choices": [], "usage": {"prompt_tokens": 3}}).encode()
    got = read("/v1/chat/completions", [b"\n" * 9, b"  \r\n", body[:5], body[5:]], JSON)
    assert got.usage == Usage(input_tokens=3)
    assert got.first_token_at is None


def test_a_whole_answer_to_a_call_for_a_stream_is_read() -> None:
    got = read("/v1/chat/completions", b'{"id":"x","usage":{"prompt_tokens":3}}', SSE)
    assert (got.response_id, got.usage) == ("x", Usage(input_tokens=3))


# -- nonsense -------------------------------------------------------------------------------------

DEEP = b"[" * 100_000
NONSENSE = [
    pytest.param(b"{", id="an open brace"),
    pytest.param(b"not json", id="text"),
    pytest.param(b'{"model": nope}', id="invalid JSON"),
    pytest.param(b'{"usage": ' + DEEP + b"}", id="deep nesting"),
    pytest.param(b'{"model":"m","usage":{"prompt_tokens":NaN}}', id="NaN"),
    pytest.param(b'{"model":"m","usage":{"prompt_tokens":1e999}}', id="infinity"),
    pytest.param(b'{"model":"m","usage":{"prompt_tokens":' + b"9" * 5000 + b"}}", id="huge"),
    pytest.param(b'{"model":"m","usage":{"prompt_tokens":' + b"9" * 50 + b"}}", id="big"),
    pytest.param(b'{"model":"m","usage":{"prompt_tokens":-1}}', id="negative"),
    pytest.param(b'{"model":"m","usage":{"prompt_tokens":true}}', id="a boolean count"),
    pytest.param(b'{"model":"m","usage":{"prompt_tokens":"12"}}', id="a count in a string"),
    pytest.param(b'{"model":"m","usage":[1]}', id="usage is a list"),
    pytest.param(b'{"model":"m","usage":"many"}', id="usage is a text"),
    pytest.param(b"[1, 2]", id="a list"),
    pytest.param(b"7", id="a number"),
    pytest.param(b'"text"', id="a text in JSON"),
    pytest.param(b"null", id="null"),
    pytest.param(b"\x00\xff\xfe", id="bytes"),
]


@pytest.mark.parametrize("bad", NONSENSE)
@pytest.mark.parametrize(("path", "kind", "body"), every_stream())
def test_nonsense_is_no_reason_to_stop(path: str, kind: str, body: bytes, bad: bytes) -> None:
    read(path, bad, kind)
    read(path, bad, JSON)
    if kind == SSE:
        got = read(path, b"data: " + bad + b"\n\n" + body, kind)
        assert got.complete is True
        assert got.usage is not None


@pytest.mark.parametrize(
    ("body", "note"),
    [
        pytest.param(b'{"model": nope}', "no valid JSON", id="invalid JSON"),
        pytest.param(b"<html>", "no JSON", id="not JSON"),
        pytest.param(b'{"a":' + DEEP, "no valid JSON", id="deep nesting"),
        pytest.param(b'{"usage":{"prompt_tokens":NaN}}', "not a count", id="NaN"),
        pytest.param(b'{"usage":{"prompt_tokens":99999999999999999999}}', "not a count", id="big"),
        pytest.param(b'{"usage":{"prompt_tokens":"12"}}', "not a count", id="a text"),
        pytest.param(b'{"usage":[]}', "usage is not an object", id="a list"),
    ],
)
def test_what_could_not_be_read_is_said(body: bytes, note: str) -> None:
    assert note in (read("/v1/chat/completions", body, JSON).unread or "")


def test_a_bad_event_is_said_and_the_others_are_read() -> None:
    got = read("/v1/chat/completions", b"data: {oops\n\n" + CHAT)
    assert got.unread == "a message is no valid JSON"
    assert got.usage is not None


def test_half_a_character_does_not_spoil_its_event() -> None:
    body = rb'data: {"model":"m\ud83d","choices":[{"delta":{"content":"\ud83d"}}]}' + b"\n\n"
    assert read("/v1/chat/completions", body).model == "m?"
    body = b'data: {"model":"m\xff","choices":[{"delta":{"content":"\xe2\x82"}}]}\n\n'
    assert read("/v1/chat/completions", body).model == "m�"


def test_of_keys_that_come_twice_the_last_counts() -> None:
    assert read("/v1/chat/completions", b'{"model":"a","model":"b"}', JSON).model == "b"


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


def _damaged(value: Any, draw: Any) -> Any:
    """The value with one place in it replaced by junk."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        return value | {key: _damaged(value[key], draw)}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _damaged(value[at], draw), *value[at + 1 :]]
    return draw(_JUNK)


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [row for row in every_stream() if row.id not in ("converse",)],  # type: ignore[attr-defined]
)
@given(data=st.data())
def test_values_of_the_wrong_type_never_raise(
    path: str, kind: str, body: bytes, data: st.DataObject
) -> None:
    lines = [
        line.removeprefix(b"data: ").strip()
        for line in (body.splitlines() if not body.startswith(b"[") else [])
        if line.startswith((b"data: {", b"{"))
    ] or [json.dumps(row).encode() for row in json.loads(GEMINI_ARRAY)]
    value = _damaged(json.loads(data.draw(st.sampled_from(lines))), data.draw)
    text = json.dumps(value).encode()
    rest = [b"data: " + line + b"\n\n" for line in lines]
    read(path, [b"data: " + text + b"\n\n", *rest], SSE)
    read(path, text, JSON)
    read(path, text, JSON, 500)


@given(st.binary(max_size=200))
def test_random_bytes_never_raise(body: bytes) -> None:
    for path, kind, _ in STREAMS.values():
        read(path, body, kind)
        read(path, body, "")
        read(path, body, kind, 503)


# -- bounds ---------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_stream() -> None:
    it = reader(b"/v1/chat/completions", None, "openai", SSE, 200)
    assert it is not None
    calls = [{"index": i, "id": f"c{i}", "function": {"name": f"tool{i}"}} for i in range(50)]
    piece = events(*(chunk("hello " * 50, finish_reason="stop") for _ in range(20)))
    piece += events(chunk(delta={"tool_calls": calls}))
    it.feed(piece, 0.0)
    tracemalloc.start()
    try:
        for at in range(300):
            it.feed(piece.replace(b'"id": "c', b'"id": "%d' % at), float(at))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 1_500_000  # of 3 MB: parsed strings are cached, up to a bound
    assert len(it.end().tool_calls) == 256
    assert it.end().unread == "more than 256 tool calls"


@pytest.mark.parametrize(
    ("path", "kind", "head", "tail"),
    [
        pytest.param(
            "/v1/images/generations",
            JSON,
            b'{"data":[{"b64_json":"',
            b'"}],"usage":{"input_tokens":5}}',
            id="an image in base64",
        ),
        pytest.param(
            "/v1/responses",
            SSE,
            b'data: {"type":"response.completed","response":{"id":"r","output":[{"result":"',
            b'"}],"usage":{"input_tokens":5}}}\n\n',
            id="an event of a hundred megabytes",
        ),
        pytest.param(
            "/v1beta/models/g:streamGenerateContent",
            JSON,
            b'[{"candidates":[{"content":{"parts":[{"inlineData":{"data":"',
            b'"}}]}}],"usageMetadata":{"promptTokenCount":5}}]',
            id="an item of an array",
        ),
        pytest.param(
            "/v1/embeddings",
            JSON,
            b'{"data":[{"embedding":[0.1',
            b'],"index":0}],"usage":{"prompt_tokens":5}}',
            id="numbers",
        ),
    ],
)
def test_a_long_message_is_read_in_little_memory(
    path: str, kind: str, head: bytes, tail: bytes
) -> None:
    filler = (b",-0.0123456789e-05" if path.endswith("embeddings") else b"abcdefgh01234567") * 4096
    it = reader(path.encode(), None, "openai", kind, 200)
    assert it is not None
    tracemalloc.start()
    try:
        it.feed(head, 0.0)
        for _ in range(100_000_000 // len(filler) // 4):
            it.feed(filler, 1.0)
        it.feed(tail, 2.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    got = it.end()
    assert got.usage == Usage(input_tokens=5)
    assert got.unread is None
    assert peak < 4_000_000


def test_a_message_too_long_for_that_is_passed_over_and_said() -> None:
    long = json.dumps({"choices": [{"delta": {"content": "x"}}] * 60_000}).encode()
    got = read("/v1/chat/completions", b"data: " + long + b"\n\n" + CHAT)
    assert got.unread == "1 messages were too long to be read"
    assert (got.complete, got.usage) == (
        True,
        Usage(input_tokens=9, output_tokens=2, total_tokens=11),
    )
    got = read("/v1/chat/completions", b'{"model": "m", "x": ' + long + b"}", JSON)
    assert got.unread == "the answer is too long to be read to its end"
    assert (got.model, got.complete) == ("m", None)


def test_a_stream_without_end_is_bounded() -> None:
    it = reader(b"/v1/messages", None, "anthropic", SSE, 200)
    assert it is not None
    tracemalloc.start()
    try:
        for _ in range(3000):
            it.feed(b"data: " + b"x" * 5000 + b"\n", 1.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    assert "too long" in (it.end().unread or "")


# -- broken off -----------------------------------------------------------------------------------


def test_an_aborted_stream_keeps_the_usage_that_was_seen() -> None:
    cut = ANTHROPIC.index(b"event: message_delta")
    got = read("/v1/messages", ANTHROPIC[:cut])
    assert got.usage is not None
    assert (got.usage.input_tokens, got.usage.output_tokens) == (140, 1)
    assert (got.complete, got.tool_calls) == (False, ("weather",))


def test_a_whole_answer_cut_short_keeps_what_is_there_but_no_half_number() -> None:
    body = b'{"id":"x","model":"m","usage":{"prompt_tokens":12,"completion_tokens":345'
    got = read("/v1/chat/completions", body, JSON)
    assert (got.model, got.complete) == ("m", False)
    assert got.usage == Usage(input_tokens=12)


def test_a_stream_without_its_end_mark_leaves_it_open_where_services_leave_it_out() -> None:
    finished = events(chunk("Hi"), chunk(finish_reason="stop"))
    assert read("/v1/chat/completions", finished).complete is None
    assert read("/v1/chat/completions", events(chunk("Hi"))).complete is False


# -- what is not read -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        pytest.param("/v1/audio/speech", "audio/mpeg", 200, id="sound"),
        pytest.param("/v1/unknown", JSON, 200, id="an unknown path"),
        pytest.param("/v1/messages/count_tokens", JSON, 200, id="a count of tokens"),
        pytest.param("/v1beta/models/g:countTokens", JSON, 200, id="Google's count of tokens"),
        pytest.param("/v1/responses/input_tokens", JSON, 200, id="OpenAI's count of tokens"),
        pytest.param("/v1/files/f/content", "application/octet-stream", 200, id="a file"),
        pytest.param("/v1/chat/completions", JSON, 101, id="a websocket where none is"),
    ],
)
def test_where_there_is_nothing_to_read_there_is_no_reader(
    path: str, kind: str, status: int
) -> None:
    assert reader(path.encode(), None, "openai", kind, status) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("/v1/responses/resp_1", {"id": "resp_1", "model": "m"}, id="a response again"),
        pytest.param("/v1/chat/completions/c_1", {"id": "c_1", "model": "m"}, id="a chat again"),
        pytest.param("/v1/batches/batch_1", {"id": "batch_1", "model": "m"}, id="a batch"),
        pytest.param("/v1/threads/t/runs/run_1", {"id": "run_1", "model": "m"}, id="a run"),
        pytest.param("/v1/messages/batches/b", {"id": "b", "model": "m"}, id="a message batch"),
    ],
)
def test_the_usage_of_another_call_is_not_this_calls(path: str, value: dict[str, Any]) -> None:
    usage = {"input_tokens": 5, "output_tokens": 6, "prompt_tokens": 5}
    got = plain(path, value | {"usage": usage})
    assert got.usage is None
    assert (got.response_id, got.model) == (value["id"], "m")


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind", "code", "message"),
    [
        pytest.param(
            {"error": {"message": "M", "type": "invalid_request_error", "code": "bad"}},
            "invalid_request_error", "bad", "M", id="OpenAI",
        ),
        pytest.param(
            {"type": "error", "error": {"type": "overloaded_error", "message": "M"}},
            "overloaded_error", None, "M", id="Anthropic",
        ),
        pytest.param(
            {"error": {"code": 404, "message": "M", "status": "NOT_FOUND"}},
            "NOT_FOUND", "404", "M", id="Google",
        ),
        pytest.param(
            [{"error": {"code": 400, "message": "M", "status": "INVALID"}}],
            "INVALID", "400", "M", id="Google, in an array",
        ),
        pytest.param({"error": "M"}, None, None, "M", id="Ollama"),
        pytest.param({"code": "c", "error": "M"}, None, "c", "M", id="xAI"),
        pytest.param({"message": "M"}, None, None, "M", id="Cohere, Bedrock"),
        pytest.param({"Message": "M"}, None, None, "M", id="AWS"),
        pytest.param(
            {"object": "error", "message": "M", "type": "t", "code": "3051"}, "t", "3051", "M",
            id="Mistral, vLLM",
        ),
        pytest.param({"detail": "M"}, None, None, "M", id="FastAPI, text"),
        pytest.param({"detail": [{"msg": "M"}]}, None, None, "M", id="FastAPI, list"),
        pytest.param({"statusCode": 401, "message": "M"}, None, "401", "M", id="Azure's gate"),
        pytest.param({"error_code": "E", "message": "M"}, None, "E", "M", id="Databricks"),
        pytest.param({"error": {"message": "M", "code": 429}}, None, "429", "M", id="OpenRouter"),
        pytest.param({}, None, None, None, id="nothing"),
    ],
)  # fmt: skip
def test_errors_are_read_in_every_shape(
    value: Any, kind: str | None, code: str | None, message: str | None
) -> None:
    for path in ("/v1/chat/completions", "/v1/unknown"):
        got = plain(path, value, 400)
        assert (got.error_type, got.error_code, got.error_message) == (kind, code, message)
        assert got.usage is None


def test_an_error_that_is_no_json_is_its_text() -> None:
    got = read("/v1/chat/completions", b"Bad Gateway", "text/plain", 502)
    assert (got.error_type, got.error_message) == (None, "Bad Gateway")


def test_an_error_in_a_header_names_its_type() -> None:
    header = ("X-Amzn-ErrorType", "ValidationException:http://internal.amazon.com/")
    got = read("/model/m/converse", b'{"message":"M"}', JSON, 400, [header])
    assert (got.error_type, got.error_message) == ("ValidationException", "M")


@pytest.mark.parametrize(
    ("path", "kind", "body", "want"),
    [
        pytest.param(
            "/v1/chat/completions", SSE,
            CHAT[:400] + b'\n\ndata: {"error":{"message":"M","type":"t","code":"c"}}\n\n',
            ("t", "c", "M"), id="chat",
        ),
        pytest.param(
            "/v1/chat/completions", SSE,
            b'event: error\ndata: {"message":"M","code":"c"}\n\n', (None, "c", "M"), id="named",
        ),
        pytest.param(
            "/v1/chat/completions", SSE,
            b': x\n\n{"error":{"message":"M"}}', (None, None, "M"), id="JSON without data:",
        ),
        pytest.param(
            "/v1/messages", SSE,
            b'event: error\ndata: {"type":"error","error":{"type":"t","message":"M"}}\n\n',
            ("t", None, "M"), id="messages",
        ),
        pytest.param(
            "/v1/responses", SSE,
            b'data: {"type":"error","code":"c","message":"M","param":null}\n\n',
            (None, "c", "M"), id="responses",
        ),
        pytest.param(
            "/v1/responses", SSE,
            b'data: {"type":"response.failed","response":{"status":"failed","error":'
            b'{"code":"server_error","message":"M"}}}\n\n',
            (None, "server_error", "M"), id="a failed response",
        ),
        pytest.param(
            "/v1beta/models/g:streamGenerateContent", SSE,
            b'data: {"error":{"code":503,"message":"M","status":"UNAVAILABLE"}}\r\n\r\n',
            ("UNAVAILABLE", "503", "M"), id="gemini",
        ),
        pytest.param(
            "/api/chat", "application/x-ndjson", b'{"error":"M"}\n', (None, None, "M"), id="ollama",
        ),
        pytest.param(
            "/model/m/converse-stream", "application/vnd.amazon.eventstream",
            frame("throttlingException", b'{"message":"M"}', exception=True),
            ("throttlingException", None, "M"), id="bedrock",
        ),
    ],
)  # fmt: skip
def test_errors_inside_a_good_answer_are_read(
    path: str, kind: str, body: bytes, want: tuple[str | None, ...]
) -> None:
    got = read(path, body, kind)
    assert (got.error_type, got.error_code, got.error_message) == want
