"""The content view: chosen for conversations, right over a corpus, never an exception, bounded."""

import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.conversation import answered, asked, loads
from llm_passthrough.views.contents import Conversation
from llm_passthrough.views.notes import RECORD, SIZES
from llm_passthrough.views.outline import plain
from mitmproxy import contentviews, http, websocket
from mitmproxy.contentviews import ContentviewResult, Metadata, prettify_message
from mitmproxy.test import taddons, tflow, tutils
from test_corpus import CORPUS, content, exchanges, path_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHAT = "/v1/chat/completions"
ASKED = {
    "model": "gpt-4o",
    "temperature": 0.2,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is\nthis?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}},
            ],
        },
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "look",
                "description": "Looks at it.",
                "parameters": {"properties": {"x": {}, "y": {}}, "required": ["x"]},
            },
        }
    ],
}
ANSWERED = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "A cat.",
                "tool_calls": [
                    {"function": {"name": "write", "arguments": '{"text": "one\\ntwo"}'}}
                ],
            },
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1204, "completion_tokens": 3, "total_tokens": 1207},
}


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    """mitmproxy's own views and ours, and the options that they look at."""
    contentviews.add(Conversation())
    with taddons.context():
        yield


def flow_of(
    request: bytes = b"",
    response: bytes = b"",
    path: str = CHAT,
    status: int = 200,
    kind: str = "application/json",
    asked_as: str = "application/json",
    coding: str | None = None,
) -> http.HTTPFlow:
    flow = tflow.tflow(resp=True)
    flow.request = tutils.treq(path=path.encode(), content=request)
    flow.request.headers["content-type"] = asked_as
    assert flow.response is not None
    flow.response = http.Response.make(status, b"", {"content-type": kind})
    if coding:
        flow.response.headers["content-encoding"] = coding
    flow.response.raw_content = response
    return flow


def view(flow: http.HTTPFlow, side: str = "response", name: str = "auto") -> ContentviewResult:
    message = getattr(flow, side)
    return prettify_message(message, flow, name)


def sse(*values: object) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(value).encode() for value in values)


# -- what is shown ----------------------------------------------------------------------------


def test_a_request_is_model_parameters_tools_and_turns() -> None:
    flow = flow_of(json.dumps(ASKED).encode())
    flow.metadata[RECORD] = "01ab"
    shown = view(flow, "request")
    assert (shown.view_name, shown.syntax_highlight) == ("Conversation", "yaml")
    assert shown.text == (
        'record: "01ab"\n'
        "model: gpt-4o\n"
        "parameters:\n"
        "  temperature: 0.2\n"
        "tools:\n"
        "- look(x, y?) - Looks at it.\n"
        "conversation:\n"
        "- system: Be brief.\n"
        "- user:\n"
        "  - text: |-\n"
        "      What is\n"
        "      this?\n"
        "  - media: image image/png, 3.0 kB\n"
    )


def test_an_answer_is_who_why_how_much_and_what() -> None:
    shown = view(flow_of(response=json.dumps(ANSWERED).encode()))
    assert shown.text == (
        "model: gpt-4o-2024-08-06\n"
        "id: chatcmpl-1\n"
        "finish: stop\n"
        "usage:\n"
        "  input: 1204\n"
        "  output: 3\n"
        "  total: 1207\n"
        "answer:\n"
        "- assistant:\n"
        "  - text: A cat.\n"
        "  - tool_call: write\n"
        "    arguments:\n"
        "      text: |-\n"
        "        one\n"
        "        two\n"
    )


def test_a_stream_is_shown_as_the_answer_that_it_makes() -> None:
    pieces = [
        {"id": "c1", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": text}}]}
        for text in ("A ", "cat.")
    ]
    shown = view(flow_of(response=sse(*pieces), kind="text/event-stream"))
    assert shown.text.endswith("answer:\n- assistant: A cat.\n")
    assert "the stream ended before its last event" in shown.text


@pytest.mark.parametrize(
    ("path", "content", "kind", "word"),
    [
        pytest.param(
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
            json.dumps(
                [
                    {"candidates": [{"content": {"role": "model", "parts": [{"text": word}]}}]}
                    for word in ("A ", "cat.")
                ]
            ),
            "application/json",
            "- model: A cat.",
            id="a JSON array that streams",
        ),
        pytest.param(
            "/openai_passthrough/v1/chat/completions",
            '{"error": {"message": "no key", "type": "invalid_request_error"}}',
            "application/json",
            "- error: invalid_request_error\n    message: no key",
            id="a refusal, with the prefix still on the path",
        ),
        pytest.param(
            "/v1/responses/resp_1?x=1", '{"id": "resp_1", "deleted": true}', "application/json",
            "id: resp_1\ndeleted: true", id="an object that is no conversation",
        ),
        pytest.param(CHAT, '{"choices": [{"mess', "application/json", "- assistant", id="cut JSON"),
    ],
)  # fmt: skip
def test_answers_of_other_kinds_are_read_too(path: str, content: str, kind: str, word: str) -> None:
    shown = view(flow_of(response=content.encode(), path=path, kind=kind, status=200))
    assert shown.view_name == "Conversation"
    assert word in shown.text


# -- WebSockets -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "event", "text"),
    [
        pytest.param(
            "/v1/realtime?model=gpt-realtime",
            {"type": "response.output_audio.delta", "delta": "UklG" * 1000},
            'type: response.output_audio.delta\ndelta: "[base64, 3.0 kB]"\n',
            id="sound is told, not shown",
        ),
        pytest.param(
            "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
            {"serverContent": {"modelTurn": {"parts": [{"text": "A cat."}]}}},
            "serverContent:\n  modelTurn:\n    parts:\n    - text: A cat.\n",
            id="Live",
        ),
        pytest.param(
            "/v1/responses",
            {"type": "response.create", "response": {"input": "What is\nthis?"}},
            "type: response.create\nresponse:\n  input: |-\n    What is\n    this?\n",
            id="Responses",
        ),
    ],
)
def test_a_websocket_message_is_its_event(path: str, event: object, text: str) -> None:
    flow = flow_of(path=path)
    flow.metadata[RECORD] = "01ab"
    message = websocket.WebSocketMessage(2, True, json.dumps(event).encode())
    shown = prettify_message(message, flow)
    assert (shown.view_name, shown.text) == ("Conversation", text)


# -- when it is chosen ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind", "content", "chosen"),
    [
        pytest.param(CHAT, "application/json", b"{}", True, id="chat"),
        pytest.param(CHAT, "text/plain", b" {}", True, id="JSON under another name"),
        pytest.param(CHAT, "text/html", b"<html>", False, id="an error page of a proxy"),
        pytest.param(CHAT, "application/json", b"", False, id="nothing"),
        pytest.param("/v1/messages", "text/event-stream", b"event: x", True, id="events"),
        pytest.param("/v1/embeddings", "application/json", b"{}", False, id="embeddings"),
        pytest.param("/v1/files", "application/json", b"{}", False, id="files"),
        pytest.param("/v1/models", "application/json", b"{}", False, id="models"),
        pytest.param("/health", "application/json", b"{}", False, id="a page of ours"),
        pytest.param("/", "application/json", b"{}", False, id="no path"),
    ],
)
def test_it_is_chosen_for_what_is_a_conversation(
    path: str, kind: str, content: bytes, chosen: bool
) -> None:
    flow = flow_of(response=content, path=path, kind=kind)
    assert (view(flow).view_name == "Conversation") is chosen


def test_a_websocket_of_another_kind_is_left_to_mitmproxy() -> None:
    message = websocket.WebSocketMessage(1, True, b'{"a": 1}')
    assert prettify_message(message, flow_of(path="/socket")).view_name != "Conversation"
    told = websocket.WebSocketMessage(2, True, b"\x00\x01")
    assert prettify_message(told, flow_of(path="/v1/realtime")).view_name != "Conversation"


def test_it_can_be_asked_for_by_name() -> None:
    shown = view(flow_of(response=json.dumps(ANSWERED).encode(), path="/else"), name="conversation")
    assert "A cat." in shown.text


# -- copies that are not whole ----------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("cut", [0, 400], ids=["whole", "cut"])
def test_a_compressed_copy_is_read_as_far_as_it_goes(coding: str, cut: int) -> None:
    words = [f"word{number} " for number in range(3000)]
    events = sse(*({"choices": [{"index": 0, "delta": {"content": word}}]} for word in words))
    pack = {
        "gzip": gzip.compress, "deflate": zlib.compress,
        "br": lambda data: brotli.compress(data, quality=5),  # its best takes a second
        "zstd": zstd.compress,
    }[coding]  # fmt: skip
    packed = pack(events)
    flow = flow_of(response=packed[: len(packed) - cut], kind="text/event-stream", coding=coding)
    flow.metadata[SIZES["response"]] = len(packed)
    shown = view(flow)
    assert shown.view_name == "Conversation"
    assert "word0 word1 word2" in shown.text
    assert ("word2999" in shown.text) is (not cut)
    assert ("# cut off: " in shown.text) is bool(cut)


def test_what_was_kept_of_a_long_body_is_said() -> None:
    flow = flow_of(json.dumps(ASKED).encode()[:300])
    flow.metadata[SIZES["request"]] = 5_000_000
    assert view(flow, "request").text.startswith("# cut off: 300 B of 5.0 MB were kept\n")


def test_a_coding_that_nobody_knows_is_shown_as_text() -> None:
    shown = view(flow_of(response=b"\x01{", kind="text/event-stream", coding="unheard-of"))
    assert shown.text.startswith("# this is no conversation\n")


@pytest.mark.parametrize(
    ("content", "kind", "most"),
    [
        pytest.param(
            b'{"choices": [{"message": {"content": "' + b"word " * 3_000_000 + b'"}}]}',
            "application/json",
            8 << 20,
            id="an object",
        ),
        pytest.param(
            sse({"choices": [{"index": 0, "delta": {"content": "word "}}]}) * 30_000,
            "text/event-stream",
            1 << 20,
            id="a stream",
        ),
    ],
)
def test_of_a_huge_body_a_start_is_read_and_that_is_said(
    content: bytes, kind: str, most: int
) -> None:
    shown = view(flow_of(response=content, kind=kind), name="conversation").text
    assert len(content) > most
    first, second = shown.split("\n")[:2]
    assert first.startswith("# only the first ")
    assert "word word word" in shown
    assert len(shown) < most
    assert not second.startswith("# this")
    assert "ended before" not in shown  # nobody looked at its end


# -- whatever comes ---------------------------------------------------------------------------


@given(
    body=st.binary(max_size=200)
    | st.text(alphabet='{}[]":,\\udatevn 19\nx', max_size=80).map(str.encode)
    | st.sampled_from([b"data: {", b'{"choices":', b'[{"candidates":', b'{"error":']).flatmap(
        lambda start: st.binary(max_size=40).map(lambda data: start + data)
    ),
    path=st.sampled_from(
        [CHAT, "/v1/messages", "/v1/responses", "/x:generateContent", "/ws/google.x", ""]
    ),
    kind=st.sampled_from(["application/json", "text/event-stream", "", "a/b; c"]),
    status=st.sampled_from([200, 404, 500]),
    coding=st.sampled_from([None, "gzip", "br"]),
)
def test_no_bytes_raise(body: bytes, path: str, kind: str, status: int, coding: str | None) -> None:
    flow = flow_of(body, body, path, status, kind, kind, coding)
    told = websocket.WebSocketMessage(2, True, body)
    for message in (flow.request, flow.response, told):
        assert message is not None
        shown = prettify_message(message, flow, "conversation")
        assert shown.view_name == "Conversation"
        assert shown.syntax_highlight == "yaml"
        shown = prettify_message(message, flow)
        assert "failed to parse as Conversation" not in shown.description


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"choices":[{"message":' * 50_000, id="objects in objects"),
        pytest.param(b"[" * 100_000, id="lists in lists"),
        pytest.param(b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", id="nested and whole"),
        pytest.param(b"data: " * 10_000, id="no JSON in data"),
        pytest.param(b"\xff\xfe" * 1000, id="no text"),
    ],
)
def test_nothing_deep_or_broken_fails(body: bytes) -> None:
    flow = flow_of(body, body)
    for side in ("request", "response"):
        assert "could not be read" not in view(flow, side, "conversation").text


def test_a_message_of_an_unheard_of_kind_is_shown_as_text() -> None:
    strange: Any = object()
    shown = Conversation().prettify(b"{}", Metadata(http_message=strange))
    assert shown == "# this could not be read as a conversation\n{}"


def test_without_a_flow_and_a_message_bytes_are_shown_all_the_same() -> None:
    shown = Conversation()
    assert "- user: Hi" in shown.prettify(b'{"messages": [{"content": "Hi"}]}', Metadata())
    assert shown.render_priority(b"{}", Metadata()) < 0


# -- a corpus of real exchanges ---------------------------------------------------------------


@pytest.mark.skipif(
    not (CORPUS / "corpus_dev.jsonl").is_file(),
    reason="no corpus of exchanges beside the repository, nor in LLM_PASSTHROUGH_CORPUS",
)
def test_every_text_of_every_real_exchange_is_shown() -> None:
    missing: dict[str, list[str]] = {}
    read = 0
    for ident, (exchange, _) in exchanges().items():
        flow = _flow_of(exchange)
        for side, turns in (
            ("request", asked(loads(flow.request.content))),
            ("response", answered(flow.response.content or b"")),
        ):
            shown = view(flow, side)
            assert "failed to parse as Conversation" not in shown.description, ident
            if shown.view_name != "Conversation":
                shown = view(flow, side, "conversation")
            text = shown.text
            assert "could not be read" not in text, ident
            wanted = [
                line.strip()
                for turn in turns
                for part in turn.parts
                if part.kind in ("text", "thinking", "refusal") and len(part.text) < 200_000
                for line in plain(part.text).split("\n")
            ]
            if lost := _lost(wanted, text):
                missing[f"{ident} {side}"] = lost
            read += len(wanted)
    assert missing == {}
    assert read > 5000


def _lost(lines: list[str], text: str) -> list[str]:
    """The lines that do not stand in the text, in their order."""
    lost = []
    at = 0
    for line in lines:
        found = text.find(line, at)
        if found < 0:
            lost.append(line)
        else:
            at = found + len(line)
    return lost


def _flow_of(exchange: dict[str, Any]) -> http.HTTPFlow:
    request, response = exchange["request"], exchange["response"]
    kinds = [
        next((v for k, v in part["headers"] if k.lower() == "content-type"), "")
        for part in (request, response)
    ]
    return flow_of(
        content(request) if request["body"] is not None else b"",
        content(response) if response["body"] is not None else b"",
        path_of(exchange).decode(),
        response["status"],
        kinds[1],
        kinds[0],
    )
