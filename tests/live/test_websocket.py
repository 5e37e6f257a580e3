"""WebSockets: the credential is put on at the handshake, what is said afterwards is not touched."""

import asyncio
import base64
import contextlib
import hashlib
import json
import queue
import re
import secrets
import ssl
import struct
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from google import genai
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from live.harness import (
    BOTH,
    CLIENT_KEY,
    SIGNED,
    Gateway,
    Provider,
    Upstream,
    Wire,
    config_for,
    credentials,
)

pytestmark = pytest.mark.usefixtures("own_environment")

REALTIME = "/openai_passthrough/v1/realtime?model=gpt-realtime"
LIVE = "/genai_passthrough/ws/google.ai.generativelanguage.v1beta.GenerativeService"
BIDI = f"{LIVE}.BidiGenerateContent"
BEARER = {"Authorization": f"Bearer {CLIENT_KEY}"}
KEYED = "openai-insecure-api-key."


def dial(gateway: Gateway, target: str, **options: Any) -> ClientConnection:
    return connect(f"ws://localhost:{gateway.port}{target}", open_timeout=10, **options)


def say(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def hear(socket: ClientConnection, *until: str) -> list[dict[str, Any]]:
    """The messages up to the first of one of these types (or with one of these fields)."""
    heard: list[dict[str, Any]] = []
    while True:
        heard.append(json.loads(socket.recv(timeout=10)))
        if heard[-1].get("type") in until or set(until) & set(heard[-1]):
            return heard


def newest(gateway: Gateway, before: int, turns: int = 0) -> dict[str, Any]:
    """A WebSocket's own record, which comes after those of its turns."""
    *told, record = gateway.records(before + turns + 1)[before:]
    assert [(one["part_of"], one["turn"]) for one in told] == [
        (record["id"], number) for number in range(1, turns + 1)
    ]
    assert record["turns"] == turns
    return record


def test_realtime_talks_through_the_gateway(provider: Provider, gateway: Gateway) -> None:
    told = len(gateway.records())
    with dial(gateway, REALTIME, additional_headers=BEARER) as socket:
        assert hear(socket, "session.created")[0]["session"]["model"] == "gpt-realtime"
        content = [{"type": "input_text", "text": "over the wire"}]
        item = {"type": "message", "role": "user", "content": content}
        say(socket, type="conversation.item.create", item=item)
        say(socket, type="response.create")
        events = hear(socket, "response.done")
    said = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert "over the wire" in said
    seen = provider.last()
    assert seen.target == "/v1/realtime?model=gpt-realtime"
    assert credentials(seen.headers) == [SIGNED["openai"]]
    assert CLIENT_KEY.encode() not in seen.head
    own = newest(gateway, told, turns=1)
    turn = gateway.records()[told]
    for record in (own, turn):
        assert record["outcome"] == "ok"
        assert record["operation"] == "realtime"
        assert record["key"] == "openai-main"
        assert record["response"]["status"] == 101
        assert CLIENT_KEY not in json.dumps(record)
    assert "response.create" in turn["request"]["body"]
    assert "response.done" in turn["response"]["body"]
    assert (own["request"]["bytes"], own["response"]["bytes"]) == (0, 0)


@pytest.mark.parametrize(
    ("offered", "left", "chosen"),
    [
        pytest.param(
            ["realtime", KEYED + CLIENT_KEY], "realtime", "realtime", id="beside another one"
        ),
        pytest.param(
            ["realtime", KEYED + CLIENT_KEY, "openai-beta.realtime-v1"],
            "realtime, openai-beta.realtime-v1",
            "realtime",
            id="between two others",
        ),
        pytest.param([KEYED + CLIENT_KEY], None, None, id="alone"),
    ],
)
def test_a_subprotocol_that_is_a_key_is_taken_off(
    provider: Provider, gateway: Gateway, offered: list[str], left: str | None, chosen: str | None
) -> None:
    told = len(gateway.records())
    with dial(gateway, REALTIME, subprotocols=offered) as socket:
        hear(socket, "session.created")
        assert socket.subprotocol == chosen
    seen = provider.last()
    names = [value for name, value in seen.headers if name.lower() == "sec-websocket-protocol"]
    assert names == ([] if left is None else [left])
    assert credentials(seen.headers) == [SIGNED["openai"]]
    assert CLIENT_KEY.encode() not in seen.head
    assert CLIENT_KEY not in json.dumps(newest(gateway, told))


def test_responses_over_a_websocket_by_hand(provider: Provider, gateway: Gateway) -> None:
    told = len(gateway.records())
    with dial(gateway, "/openai_passthrough/v1/responses", additional_headers=BEARER) as socket:
        for turn in range(2):
            say(socket, type="response.create", model="gpt-4o", input=f"turn {turn}")
            assert f"turn {turn}" in json.dumps(hear(socket, "response.completed")[-1])
    assert newest(gateway, told, turns=2)["operation"] == "responses"


def test_the_openai_sdk_talks_realtime(provider: Provider, gateway: Gateway) -> None:
    told = len(gateway.records())
    client = openai.OpenAI(base_url=f"{gateway.url}/openai_passthrough/v1", api_key=CLIENT_KEY)
    with client.realtime.connect(model="gpt-realtime") as connection:
        content: Any = [{"type": "input_text", "text": "from the SDK"}]
        connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": content}
        )
        connection.response.create()
        for event in connection:
            if event.type == "response.done":
                break
    assert "from the SDK" in event.model_dump_json()
    assert credentials(provider.last().headers) == [SIGNED["openai"]]
    assert newest(gateway, told, turns=1)["outcome"] == "ok"


def test_gemini_live_with_its_key_in_the_query(provider: Provider, gateway: Gateway) -> None:
    told = len(gateway.records())
    with dial(gateway, f"{BIDI}?key={CLIENT_KEY}") as socket:
        say(socket, setup={"model": "models/gemini-live-2.5-flash"})
        hear(socket, "setupComplete")
        turns = [{"role": "user", "parts": [{"text": "alive"}]}]
        say(socket, clientContent={"turns": turns, "turnComplete": True})
        assert "alive" in json.dumps(hear(socket, "usageMetadata"))
    seen = provider.last()
    assert seen.target == BIDI.removeprefix("/genai_passthrough")
    assert credentials(seen.headers) == [SIGNED["gemini"]]
    assert CLIENT_KEY.encode() not in seen.head
    record = newest(gateway, told, turns=1)
    assert (record["provider"], record["detected_by"]) == ("gemini", "path")
    assert record["outcome"] == "ok"
    assert CLIENT_KEY not in json.dumps(record)


def test_a_websocket_of_vertex_is_told_by_its_path(provider: Provider, gateway: Gateway) -> None:
    told = len(gateway.records())
    path = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
    with dial(gateway, f"/genai_passthrough{path}", additional_headers=BEARER) as socket:
        say(socket, setup={"model": "publishers/google/models/gemini-live-2.5-flash"})
        hear(socket, "setupComplete")
        turns = [{"role": "user", "parts": [{"text": "alive"}]}]
        say(socket, clientContent={"turns": turns, "turnComplete": True})
        hear(socket, "usageMetadata")
    assert provider.last().target == path
    assert credentials(provider.last().headers) == [SIGNED["vertex"]]
    own = newest(gateway, told, turns=1)
    assert (own["provider"], own["operation"]) == ("vertex", "realtime")
    assert gateway.records()[told]["usage"]["output_tokens"]


def test_azure_realtime_keeps_its_query(provider: Provider, gateway: Gateway) -> None:
    query = "api-version=2024-10-01-preview&deployment=gpt-realtime"
    target = f"/azure_passthrough/openai/realtime?{query}&api-key={CLIENT_KEY}"
    told = len(gateway.records())
    with dial(gateway, target) as socket:
        hear(socket, "session.created")
        say(socket, type="response.create")
        hear(socket, "response.done")
    assert provider.last().target == f"/openai/realtime?{query}"
    assert credentials(provider.last().headers) == [SIGNED["azure"]]
    newest(gateway, told, turns=1)
    turn = gateway.records()[told]
    assert (turn["provider"], turn["model"]["requested"]) == ("azure", "gpt-realtime")
    assert turn["usage"]["output_tokens"]


def test_a_close_of_the_provider_keeps_its_code_and_reason(gateway: Gateway) -> None:
    told = len(gateway.records())
    with dial(gateway, BIDI, additional_headers={"x-goog-api-key": CLIENT_KEY}) as socket:
        say(socket, setup={"model": "models/m"})
        hear(socket, "setupComplete")
        turns = [{"role": "user", "parts": [{"text": "error:429"}]}]
        say(socket, clientContent={"turns": turns, "turnComplete": True})
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(timeout=10)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "Demo error 429.")
    assert newest(gateway, told)["response"]["status"] == 101


def test_a_close_of_the_client_is_the_end_of_a_good_exchange(
    provider: Provider, gateway: Gateway
) -> None:
    told = len(gateway.records())
    with dial(gateway, REALTIME, additional_headers=BEARER) as socket:
        hear(socket, "session.created")
        socket.close(1000, "that was all")
    assert newest(gateway, told)["outcome"] == "ok"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param("/nowhere/v1/realtime", 404, id="no route, by us"),
        pytest.param("/openai_passthrough/v1/no-such-socket", 404, id="no such path, by them"),
    ],
)
def test_a_handshake_that_is_refused_is_an_http_answer(
    gateway: Gateway, target: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as caught, dial(gateway, target, additional_headers=BEARER):
        pass
    assert caught.value.response.status_code == status
    assert json.loads(caught.value.response.body)["error"]["message"]


# -- TLS on the same port -------------------------------------------------------------------------


def authority_of(gateway: Gateway) -> str:
    return str(gateway.folder / "mitm" / "mitmproxy-ca-cert.pem")


def test_wss_on_the_gateways_own_port_works_for_who_trusts_its_authority(
    provider: Provider, gateway: Gateway
) -> None:
    context = ssl.create_default_context(cafile=authority_of(gateway))
    url = f"wss://localhost:{gateway.port}{REALTIME}"
    with connect(url, ssl=context, additional_headers=BEARER, open_timeout=10) as socket:
        hear(socket, "session.created")
    assert credentials(provider.last().headers) == [SIGNED["openai"]]


async def live(url: str, vertex: bool) -> str:
    """What Google's own client is told in a live session."""
    options = genai.types.HttpOptions(base_url=f"{url}/genai_passthrough")
    client = genai.Client(vertexai=vertex, api_key=CLIENT_KEY, http_options=options)
    config: Any = {"response_modalities": ["TEXT"]}
    async with client.aio.live.connect(model="gemini-live-2.5-flash", config=config) as session:
        turns: Any = {"role": "user", "parts": [{"text": f"live and well, {vertex}"}]}
        await session.send_client_content(turns=turns, turn_complete=True)
        return "".join([message.text or "" async for message in session.receive()])


def test_the_google_sdk_talks_live_by_wss_alone(
    provider: Provider, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dials wss:// whatever the base URL says; it takes SSL_CERT_FILE."""
    before = len(provider.seen)
    monkeypatch.setenv("SSL_CERT_FILE", authority_of(gateway))
    for vertex in (False, True):
        assert f"live and well, {vertex}" in asyncio.run(live(gateway.url, vertex))
    gemini, vertex = provider.seen[before:]
    assert credentials(gemini.headers) == [SIGNED["gemini"]]
    assert credentials(vertex.headers) == [SIGNED["vertex"]]
    assert CLIENT_KEY.encode() not in gemini.head + vertex.head


# -- frames, on raw sockets -----------------------------------------------------------------------


@pytest.fixture(scope="module", params=BOTH)
def raw_gateway(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("frames"), config_for(upstream.url), request.param)
    yield gateway
    gateway.stop()


def frame(code: int, data: bytes = b"", fin: bool = True, mask: bytes = b"") -> bytes:
    """One frame (RFC 6455 5.2)."""
    first = (0x80 if fin else 0) | code
    length, flag = len(data), 0x80 if mask else 0
    if length < 126:
        size = struct.pack("!BB", first, flag | length)
    elif length < 1 << 16:
        size = struct.pack("!BBH", first, flag | 126, length)
    else:
        size = struct.pack("!BBQ", first, flag | 127, length)
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)) if mask else data
    return size + mask + body


def read_frame(wire: Wire) -> tuple[int, bool, bytes]:
    """Opcode, whether it is the last of its message, and the data."""
    first, second = wire.exactly(2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", wire.exactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", wire.exactly(8))
    mask = wire.exactly(4) if second & 0x80 else b""
    data = wire.exactly(size)
    if mask:
        data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    return first & 0x0F, bool(first & 0x80), data


def upgrade(target: str) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: localhost", "X-Before: 1", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    lines += ["Sec-WebSocket-Version: 13", f"Authorization: Bearer {CLIENT_KEY}", "X-After: 2"]
    return "\r\n".join([*lines, "", ""]).encode()


def accept(wire: Wire) -> bytes:
    """Answer an upgrade request; its head."""
    head = wire.until(b"\r\n\r\n")
    found = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
    assert found
    digest = hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    wire.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-Theirs: 1\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )
    return head


MESSAGES = [
    # frames of one message or control frame, as (opcode, last, data)
    pytest.param([(1, True, b'{"a": 1}')], id="text"),
    pytest.param([(1, True, b"")], id="an empty text"),
    pytest.param([(2, True, bytes(range(256)))], id="binary"),
    pytest.param([(1, True, "€ü😀".encode())], id="text beyond ASCII"),
    pytest.param([(2, True, b"x" * 200_000)], id="a long one"),
    pytest.param([(1, False, b"one "), (0, False, b"two "), (0, True, b"three")], id="fragments"),
    pytest.param([(1, False, b"\xe2\x82"), (0, True, b"\xac")], id="a character in two fragments"),
    pytest.param([(9, True, b"ping data")], id="a ping"),
    pytest.param([(10, True, b"unasked pong")], id="a pong that nobody asked for"),
]


@pytest.mark.parametrize("from_client", [True, False], ids=["upwards", "downwards"])
@pytest.mark.parametrize("frames", MESSAGES)
def test_what_is_said_arrives_as_it_was_said(
    upstream: Upstream,
    raw_gateway: Gateway,
    frames: list[tuple[int, bool, bytes]],
    from_client: bool,
) -> None:
    got: list[tuple[int, bool, bytes]] = []
    end = (1, True, b"that was it")

    def read_all(wire: Wire) -> None:
        while (one := read_frame(wire)) != end:
            got.append(one)

    def talk(wire: Wire) -> None:
        accept(wire)
        if from_client:
            read_all(wire)
        else:
            wire.send(b"".join(frame(code, data, fin) for code, fin, data in [*frames, end]))
        wire.send(frame(8, struct.pack("!H", 1000)))
        wire.rest()

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(upgrade(REALTIME))
        assert b" 101 " in wire.until(b"\r\n\r\n")
        if from_client:
            data = [frame(code, data, fin, b"mask") for code, fin, data in [*frames, end]]
            wire.send(b"".join(data))
            while read_frame(wire)[0] != 8:
                pass
        else:
            read_all(wire)
    # A message may come in other fragments (RFC 6455 5.4 lets anybody between do that).
    assert [code for code, _, _ in got if code] == [code for code, _, _ in frames if code]
    assert [fin for _, fin, _ in got][-1]
    assert b"".join(data for _, _, data in got) == b"".join(data for _, _, data in frames)


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 3000, 4999])
@pytest.mark.parametrize("from_client", [True, False], ids=["upwards", "downwards"])
def test_a_close_code_is_passed_on_either_way(
    upstream: Upstream, raw_gateway: Gateway, code: int, from_client: bool
) -> None:
    closing = struct.pack("!H", code) + "why €".encode()
    got: queue.Queue[tuple[int, bool, bytes]] = queue.Queue()

    def talk(wire: Wire) -> None:
        accept(wire)
        if from_client:
            got.put(read_frame(wire))
        wire.send(frame(8, closing))
        wire.rest()

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(upgrade(REALTIME))
        wire.until(b"\r\n\r\n")
        if from_client:
            wire.send(frame(8, closing, mask=b"mask"))
        else:
            got.put(read_frame(wire))
        assert got.get(timeout=10) == (8, True, closing)


def test_the_heads_of_a_handshake_keep_their_order_and_lose_the_key(
    upstream: Upstream, raw_gateway: Gateway
) -> None:
    heads: list[bytes] = []

    def talk(wire: Wire) -> None:
        heads.append(accept(wire))
        wire.send(frame(8, struct.pack("!H", 1000)))
        wire.rest()

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(upgrade(REALTIME))
        answer = wire.until(b"\r\n\r\n")
        read_frame(wire)  # the provider's close: it has noted the head by now
    theirs = f"Authorization: Bearer {CLIENT_KEY}\r\n".encode()
    ours = f"Authorization: {SIGNED['openai'][1]}\r\n\r\n".encode()
    expected = upgrade(REALTIME).replace(theirs, b"").replace(b"/openai_passthrough", b"")
    expected = expected.replace(b"localhost", b"127.0.0.1:%d" % upstream.port)
    assert heads == [expected.removesuffix(b"\r\n") + ours]
    names = [line.partition(b":")[0] for line in answer.split(b"\r\n")[1:-2]]
    assert names == [b"Upgrade", b"X-Theirs", b"Connection", b"Sec-WebSocket-Accept"]


@pytest.mark.parametrize("from_client", [True, False], ids=["the client", "the provider"])
def test_a_socket_that_drops_without_a_close_is_no_good_exchange(
    upstream: Upstream, raw_gateway: Gateway, from_client: bool
) -> None:
    mark = secrets.token_hex(8)

    def talk(wire: Wire) -> None:
        accept(wire)
        wire.send(frame(1, b"hello"))
        if from_client:
            wire.rest()
        else:
            wire.reset()

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(upgrade(f"{REALTIME}&mark={mark}"))
        wire.until(b"\r\n\r\n")
        assert read_frame(wire)[2] == b"hello"
        if from_client:
            wire.reset()
        else:
            with contextlib.suppress(EOFError, ConnectionError):
                # 1006 is for who finds no close frame; it must never stand in one (RFC 6455 7.4.1)
                assert read_frame(wire)[2][:2] != struct.pack("!H", 1006)
    outcome = raw_gateway.record_of(mark)["outcome"]
    assert outcome == ("client_abort" if from_client else "upstream_abort")


def own_record(gateway: Gateway, mark: str) -> dict[str, Any]:
    """The record that ends a WebSocket; the newest with this text may be one of its turns."""
    end = time.monotonic() + 5
    while (found := gateway.record_of(mark))["turns"] is None and time.monotonic() < end:
        time.sleep(0.02)
    return found


CREATED = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}
DONE = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed"}}


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        pytest.param([CREATED, DONE], "ok", id="after a response"),
        pytest.param([CREATED], "client_abort", id="inside the first one"),
        pytest.param([CREATED, DONE, CREATED], "client_abort", id="inside the second one"),
    ],
)
def test_who_leaves_without_a_close_between_two_responses_has_not_broken_off(
    upstream: Upstream, raw_gateway: Gateway, events: list[dict[str, Any]], outcome: str
) -> None:
    mark = secrets.token_hex(8)

    def talk(wire: Wire) -> None:
        accept(wire)
        for event in events:
            wire.send(frame(1, json.dumps(event).encode()))
        wire.rest()

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(upgrade(f"/openai_passthrough/v1/responses?mark={mark}"))
        wire.until(b"\r\n\r\n")
        for _ in events:
            read_frame(wire)
        wire.reset()
    found = own_record(raw_gateway, mark)
    assert (found["outcome"], found["turns"]) == (outcome, events.count(DONE))


def test_a_compressed_conversation_goes_through(provider: Provider, gateway: Gateway) -> None:
    """The `websockets` package offers permessage-deflate by itself."""
    with dial(gateway, REALTIME, additional_headers=BEARER, compression="deflate") as socket:
        hear(socket, "session.created")
        say(socket, type="session.update", session={"instructions": "x" * 50_000})
        assert "x" * 50_000 in json.dumps(hear(socket, "session.updated"))


def test_many_sockets_at_once_keep_their_own_conversation(gateway: Gateway) -> None:
    async def one(number: int) -> bool:
        from websockets.asyncio.client import connect as dial_async

        url = f"ws://localhost:{gateway.port}/openai_passthrough/v1/responses"
        async with dial_async(url, additional_headers=BEARER) as socket:
            text = f"number-{number}-of-many"
            await socket.send(json.dumps({"type": "response.create", "input": text}))
            while True:
                event = json.loads(await asyncio.wait_for(socket.recv(), 20))
                if event["type"] == "response.completed":
                    return text in json.dumps(event)

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(one(number) for number in range(20)))

    told = len(gateway.records())
    began = time.monotonic()
    assert all(asyncio.run(all_of_them()))
    assert time.monotonic() - began < 30
    records = gateway.records(told + 40)[told:]
    assert {record["outcome"] for record in records} == {"ok"}
    own = {record["id"] for record in records if record["turns"] == 1}
    assert own == {record["part_of"] for record in records if record["turn"] == 1}
    assert len(own) == 20
