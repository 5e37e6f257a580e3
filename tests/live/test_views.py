"""What a person sees in mitmweb: comments, markers and conversations, live, and no secret."""

import contextlib
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from live.harness import (
    CLIENT_KEY,
    KEYS,
    WEB_PASSWORD,
    Gateway,
    Provider,
    Upstream,
    Web,
    Wire,
    body_of,
    config_for,
    raw,
    request,
)
from live.oracles import found

CHAT = "/openai_passthrough/v1/chat/completions"
RAW = "/anthropic_passthrough/v1/messages"  # its provider is a raw socket
SECRETS = (*KEYS.values(), CLIENT_KEY)
BUFFER, COPY, KEPT = 20_000, 60_000, 40
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = EVENTS + b"Transfer-Encoding: chunked\r\n\r\n"


def until[T](look: Callable[[], T]) -> T:
    """The first true value of `look`, before a deadline."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if value := look():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come about")


class Desk:
    """A gateway with mitmweb, its providers, and a person who looks."""

    def __init__(self, folder: Path) -> None:
        self.provider, self.upstream = Provider(pace=0.01), Upstream()
        config = config_for(self.provider.url)
        config["providers"]["anthropic"]["network_config"]["base_url"] = self.upstream.url
        config |= {"limits": {"request_buffer": BUFFER}, "log": {"body_limit": COPY}}
        args = ("--set", f"passthrough_view_flows={KEPT}")
        self.gateway = Gateway(folder, config, "mitmweb", args=args)
        self.web = Web(self.gateway)
        self.updates: list[bytes] = []
        url = f"ws://127.0.0.1:{self.gateway.web_port}/updates?token={WEB_PASSWORD}"
        self._socket = connect(url, max_size=None)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(WebSocketException, OSError):
            for message in self._socket:
                self.updates.append(message if isinstance(message, bytes) else message.encode())

    def begin(self) -> None:
        self.web.call("POST", "/clear", {})
        self.updates.clear()
        self.upstream.failures.clear()

    def ask(self, target: str, body: object) -> bytes:
        return raw(self.gateway.port, request(target, json.dumps(body).encode()), 10)

    def flow(self) -> dict[str, Any]:
        """The newest flow, once its note has come."""
        return until(lambda: next((f for f in self.web.flows()[-1:] if f["comment"]), None))

    def view(self, side: str = "response", name: str = "auto") -> dict[str, Any]:
        """A body of the newest flow, as mitmweb shows it."""
        path = f"/flows/{self.flow()['id']}/{side}/content/{name}.json"
        shown = json.loads(self.web.get(path))
        assert isinstance(shown, dict)
        return shown

    def data(self, side: str = "response") -> bytes:
        """A body of the newest flow, as mitmweb gives it out."""
        return self.web.get(f"/flows/{self.flow()['id']}/{side}/content.data")

    def matching(self, expression: str) -> list[str]:
        """The ids of the flows that a filter of mitmweb's shows."""
        payload = {"name": "search", "expr": expression}
        self.updates.clear()
        self._socket.send(json.dumps({"type": "flows/updateFilter", "payload": payload}))
        told = until(lambda: [one for one in self.updates if b"filterUpdate" in one])
        ids = json.loads(told[0])["payload"]["matching_flow_ids"]
        assert isinstance(ids, list)
        return ids

    def stop(self) -> None:
        self._socket.close()
        self.gateway.stop()
        self.provider.stop()
        self.upstream.stop()


@pytest.fixture(scope="module")
def open_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("views"))
    yield desk
    desk.stop()


@pytest.fixture
def desk(open_desk: Desk) -> Iterator[Desk]:
    open_desk.begin()
    yield open_desk
    assert not open_desk.upstream.failures


def chat(text: str = "Hello you!", **more: Any) -> dict[str, Any]:
    document = {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
    }
    return document | more


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def said(text: str) -> bytes:
    """A stream of Messages that says so and has not come to its end."""
    events = (
        {"type": "message_start", "message": {"id": "m1", "role": "assistant", "model": "claude"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": f"{word} "},
            }
            for word in text.split()
        ),
    )
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), json.dumps(event).encode())
        for event in events
    )


# -- the table --------------------------------------------------------------------------------


def test_a_finished_call_has_a_comment_and_a_mark(desk: Desk) -> None:
    desk.ask(CHAT, chat())
    flow = desk.flow()
    assert flow["marked"] == "✅"
    assert flow["comment"].startswith("openai gpt-4o · ")
    assert " in (" in flow["comment"]
    assert " out · $" in flow["comment"]
    assert "comment" in json.loads(desk.web.get("/options"))["web_columns"]["value"]


def test_a_page_that_is_open_is_told(desk: Desk) -> None:
    desk.ask(CHAT, chat(stream=True))
    comment = desk.flow()["comment"]
    assert "first token" in comment
    told = until(lambda: [one for one in desk.updates if comment.encode() in one])
    assert json.loads(told[0])["type"] == "flows/update"


@pytest.mark.parametrize(
    ("target", "body", "mark", "word"),
    [
        pytest.param("/nowhere", {}, "⛔", "refused 404: no route", id="refused"),
        pytest.param(
            CHAT, chat("error:429"), "❌", "upstream error 429: ", id="the provider's error"
        ),
        pytest.param(
            CHAT, chat("error:cut", stream=True), "💔", "upstream abort 200: ", id="broken off"
        ),
    ],
)
def test_the_mark_says_how_it_ended(
    desk: Desk, target: str, body: object, mark: str, word: str
) -> None:
    desk.ask(target, body)
    flow = desk.flow()
    assert flow["marked"] == mark
    assert flow["comment"].startswith(word)


def test_a_client_that_leaves_is_marked_too(desk: Desk) -> None:
    with Wire.to(desk.gateway.port) as wire:
        wire.send(request(CHAT, json.dumps(chat("error:stall", stream=True)).encode()))
        wire.until(b"\r\n\r\n")
    flow = desk.flow()
    assert flow["marked"] == "✂"
    assert flow["comment"].startswith("client abort 200: the client went away · openai gpt-4o")


def test_flows_can_be_found_by_what_is_said_of_them(desk: Desk) -> None:
    desk.ask("/nowhere", {})
    desk.ask(CHAT, chat())
    desk.flow()
    for expression, count in (("~marker no_entry", 1), ("~comment gpt-4o", 1), ("~marked", 2)):
        assert len(desk.matching(expression)) == count


# -- conversations ----------------------------------------------------------------------------

TOOL = {"name": "look", "description": "Looks at it.", "parameters": {"properties": {"x": {}}}}


@pytest.mark.parametrize(
    ("target", "body", "words", "role"),
    [
        pytest.param(
            CHAT,
            chat(temperature=0.5, tools=[{"type": "function", "function": TOOL}]),
            ["model: gpt-4o", "temperature: 0.5", "look(x) - Looks at it.", "- system: Be brief."],
            "assistant",
            id="chat",
        ),
        pytest.param(
            CHAT, chat(stream=True, stream_options={"include_usage": True}),
            ["stream: true", "- user: Hello you!"], "assistant",
            id="chat, a stream",
        ),
        pytest.param(
            "/openai_passthrough/v1/responses",
            {"model": "gpt-4o", "instructions": "Be brief.", "input": "Hello you!", "stream": True},
            ["- system: Be brief.", "- user: Hello you!"],
            "assistant",
            id="responses",
        ),
        pytest.param(
            "/azure_passthrough/openai/deployments/gpt-4o/chat/completions",
            {"messages": [{"role": "user", "content": "Hello you!"}]},
            ["model: gpt-4o", "- user: Hello you!"],
            "assistant",
            id="azure",
        ),
        pytest.param(
            "/genai_passthrough/v1beta/models/gemini-2.5-flash:streamGenerateContent",
            {"contents": [{"role": "user", "parts": [{"text": "Hello you!"}]}]},
            ["model: gemini-2.5-flash", "- user: Hello you!"],
            "model",
            id="gemini, a JSON array",
        ),
        pytest.param(
            "/genai_passthrough/v1beta1/publishers/google/models/gemini-2.5-flash:generateContent",
            {"contents": [{"role": "user", "parts": [{"text": "Hello you!"}]}]},
            ["- user: Hello you!"],
            "model",
            id="vertex",
        ),
    ],
)  # fmt: skip
def test_a_call_is_shown_as_its_conversation(
    desk: Desk, target: str, body: object, words: list[str], role: str
) -> None:
    desk.ask(target, body)
    asked, answered = desk.view("request"), desk.view("response", "conversation")
    assert asked["view_name"] == answered["view_name"] == "Conversation"
    assert asked["syntax_highlight"] == "yaml"
    for word in words:
        assert word in asked["text"]
    assert f"answer:\n- {role}: " in answered["text"]
    assert "You said: Hello you!" in answered["text"]
    assert "\nusage:\n  input: " in answered["text"]
    record = desk.gateway.record_of(asked["text"].split('"')[1])
    assert record["outcome"] == "ok"


def test_a_websocket_is_shown_event_by_event(desk: Desk) -> None:
    url = f"ws://localhost:{desk.gateway.port}/openai_passthrough/v1/realtime?model=gpt-realtime"
    with connect(url, additional_headers={"Authorization": f"Bearer {CLIENT_KEY}"}) as socket:
        item = {"type": "message", "role": "user"}
        item |= {"content": [{"type": "input_text", "text": "over the wire"}]}  # type: ignore[dict-item]
        socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
        socket.send(json.dumps({"type": "response.create"}))
        while json.loads(socket.recv(timeout=10))["type"] != "response.done":
            pass
    flow = desk.flow()
    assert flow["comment"].startswith("openai gpt-realtime · ")
    shown = json.loads(desk.web.get(f"/flows/{flow['id']}/messages/content/auto.json"))
    assert {one["view_name"] for one in shown} == {"Conversation"}
    texts = [one["text"] for one in shown]
    assert texts[0].startswith("type: session.created\n")
    assert any("text: over the wire" in text for text in texts)


# -- bodies that stream -----------------------------------------------------------------------


def test_a_stream_is_there_to_be_looked_at_byte_for_byte(desk: Desk) -> None:
    with Wire.to(desk.gateway.port) as wire:
        wire.send(request(CHAT, json.dumps(chat(stream=True)).encode()))
        _, got = wire.message()
    assert got.endswith(b"data: [DONE]\n\n")
    assert desk.data() == got


def test_what_there_was_of_a_broken_stream_is_there_too(desk: Desk) -> None:
    sent = said("one two three")

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(CHUNKED + chunk(sent))

    desk.upstream.talk = talk
    desk.ask(RAW, {"model": "claude", "max_tokens": 9, "messages": []})
    flow = desk.flow()
    assert flow["marked"] == "💔"
    assert desk.data() == sent
    shown = desk.view()
    assert shown["view_name"] == "Conversation"
    assert "- assistant:" in shown["text"]
    assert "one two three" in shown["text"]
    assert "the stream ended before its last event" in shown["text"]


def test_of_a_stream_that_the_client_leaves_what_went_by_is_there(desk: Desk) -> None:
    sent, gone = said("one two three"), threading.Event()

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(CHUNKED + chunk(sent))
        gone.wait(10)

    desk.upstream.talk = talk
    with Wire.to(desk.gateway.port) as wire:
        wire.send(request(RAW, b'{"model": "claude", "max_tokens": 9, "messages": []}'))
        wire.until(b"three")
    assert desk.flow()["marked"] == "✂"
    gone.set()
    assert desk.data() == sent
    assert "one two three" in desk.view()["text"]


def test_a_long_stream_is_there_as_far_as_it_is_kept(desk: Desk) -> None:
    sent = said(" ".join(f"word{number}" for number in range(3000)))
    assert len(sent) > 3 * COPY

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(EVENTS + b"Content-Length: %d\r\n\r\n" % len(sent) + sent)

    desk.upstream.talk = talk
    assert body_of(desk.ask(RAW, {"model": "claude"})) == sent
    assert desk.data() == sent[:COPY]
    shown = desk.view()["text"]
    assert shown.startswith(
        f"# cut off: {COPY / 1000:.1f} kB of {len(sent) / 1000:.1f} kB were kept"
    )
    assert "word1 word2" in shown


def test_a_cut_copy_of_a_compressed_stream_is_read(desk: Desk) -> None:
    words = " ".join(sha256(bytes(number)).hexdigest() for number in range(5000))
    packed = gzip.compress(said(words))
    assert len(packed) > 2 * COPY

    def talk(wire: Wire) -> None:
        wire.message()
        head = EVENTS + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        wire.send(head + packed)

    desk.upstream.talk = talk
    assert body_of(desk.ask(RAW, {"model": "claude"})) == packed
    shown = desk.view()
    assert shown["view_name"] == "Conversation"
    assert words[:200] in shown["text"]
    assert shown["text"].startswith("# cut off: ")


def test_an_upload_that_streams_is_there_too(desk: Desk) -> None:
    body = chat("Hello you! " * 4000)
    sent = json.dumps(body).encode()
    assert BUFFER < len(sent) < COPY
    desk.ask(CHAT, body)
    assert desk.data("request") == sent
    shown = desk.view("request")
    assert shown["view_name"] == "Conversation"
    assert "Hello you! Hello you!" in shown["text"]
    assert "# cut off" not in shown["text"]


# -- no secret, no end of memory --------------------------------------------------------------


def test_no_secret_is_in_anything_that_is_shown(desk: Desk) -> None:
    for target, body in ((CHAT, chat()), (CHAT, chat("error:401")), ("/nowhere", {})):
        desk.ask(target, body)
        flow = desk.flow()
        assert not found(SECRETS, desk.web.get("/flows"))
        for side in ("request", "response"):
            for name in ("auto", "conversation"):
                path = f"/flows/{flow['id']}/{side}/content/{name}.json"
                assert not found(SECRETS, desk.web.get(path))
    assert not found(SECRETS, desk.web.get("/flows/dump"))
    assert not found(SECRETS, b"".join(desk.updates))


def test_the_oldest_calls_leave_the_table_and_stay_in_the_records(desk: Desk) -> None:
    """G08."""
    desk.ask(CHAT, chat("the first of them"))
    first = desk.flow()["id"]
    desk.ask(CHAT, chat("the one to keep"))
    marked = desk.flow()["id"]
    desk.web.call("PUT", f"/flows/{marked}", {"marked": ":red_circle:"})
    with Wire.to(desk.gateway.port) as wire:
        whole = request(CHAT, json.dumps(chat()).encode()).replace(b"Connection: close\r\n", b"")
        for _ in range(KEPT):
            wire.send(whole)
            wire.message()
    ids = until(lambda: [flow["id"] for flow in desk.web.flows() if flow["id"] != first])
    assert len(ids) == KEPT + 1
    assert ids[0] == marked
    assert first not in [flow["id"] for flow in desk.web.flows()]
    assert desk.gateway.record_of("the first of them")["outcome"] == "ok"
    assert any(b"flows/remove" in one for one in desk.updates)
