"""The end: what is open may end by itself for a while, nothing new is taken, all is recorded."""

import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from live.harness import (
    CLIENT_KEY,
    Gateway,
    Provider,
    Upstream,
    Wire,
    body_of,
    config_for,
    request,
    status_of,
)
from live.oracles import DEADLINE

CHAT = "/openai_passthrough/v1/chat/completions"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
KEPT = (
    f"GET /health HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {CLIENT_KEY}\r\n\r\n"
).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.stop()
    assert not upstream.failures


class Stream:
    """A provider that begins a stream and goes on when it is told to."""

    def __init__(self, upstream: Upstream) -> None:
        self.wire: Wire | None = None
        upstream.talk = self._talk
        self._over = False

    def _talk(self, wire: Wire) -> None:
        wire.message()
        wire.send(STREAM + chunk(b"data: {}\n\n"))
        self.wire = wire
        with contextlib.suppress(OSError, TimeoutError):
            wire.sock.settimeout(60)
            wire.some()  # until the gateway or the test closes it

    def end(self) -> None:
        assert self.wire
        self.wire.send(chunk(LAST) + b"0\r\n\r\n")


def draining(gateway: Gateway, kept: Wire) -> None:
    """Wait until the gateway says on an open connection that it is about to end."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        kept.send(KEPT)
        head, body = kept.message()
        if json.loads(body)["status"] == "draining":
            assert status_of(head) == 503
            return
        time.sleep(0.02)
    raise AssertionError(f"it does not drain: {gateway.output}")


@pytest.mark.parametrize(
    ("program", "number"),
    [
        ("mitmdump", signal.SIGTERM),
        ("serve", signal.SIGTERM),
        ("serve", signal.SIGINT),
    ],
)
def test_what_is_open_may_end_and_nothing_new_is_taken(
    tmp_path: Path, upstream: Upstream, program: str, number: signal.Signals
) -> None:
    config = config_for(upstream.url, shutdown={"drain_seconds": 60})
    gateway, stream = Gateway(tmp_path, config, program), Stream(upstream)
    with Wire.to(gateway.port) as client, Wire.to(gateway.port) as kept:
        client.send(request(CHAT, b'{"stream": true}'))
        client.until(b"data: {}\n\n")
        gateway.process.send_signal(number)
        draining(gateway, kept)
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", gateway.port), DEADLINE)
        kept.send(request(CHAT, b"{}").replace(b"Connection: close\r\n", b""))
        refused = kept.rest()
        assert status_of(refused) == 503
        assert b"\r\nretry-after: 1\r\n" in refused
        assert b"\r\nx-passthrough-error: draining\r\n" in refused
        assert json.loads(body_of(refused))["error"]["code"] == "draining"
        assert gateway.process.poll() is None
        stream.end()
        assert client.rest().endswith(chunk(LAST) + b"0\r\n\r\n")
    assert gateway.process.wait(DEADLINE) == 0, gateway.output
    refusal, whole = gateway.records(2)
    assert (refusal["outcome"], refusal["error"]["type"]) == ("refused", "draining")
    assert (whole["outcome"], whole["finish_reasons"]) == ("ok", ["stop"])
    assert "Traceback" not in gateway.output


@pytest.mark.parametrize(
    ("seconds", "signals"),
    [
        pytest.param(60, 2, id="a second signal"),
        pytest.param(0.3, 1, id="the time is over"),
        pytest.param(0, 1, id="no time at all"),
    ],
)
def test_what_does_not_end_is_cut_and_told(
    tmp_path: Path, upstream: Upstream, seconds: float, signals: int
) -> None:
    config = config_for(upstream.url, shutdown={"drain_seconds": seconds})
    gateway = Gateway(tmp_path, config, "serve")
    Stream(upstream)
    with Wire.to(gateway.port) as client, Wire.to(gateway.port) as kept:
        client.send(request(CHAT, b'{"stream": true}'))
        client.until(b"data: {}\n\n")
        gateway.process.send_signal(signal.SIGTERM)
        if signals == 2:
            draining(gateway, kept)
            gateway.process.send_signal(signal.SIGINT)
        assert b"0\r\n\r\n" not in client.rest()
    assert gateway.process.wait(DEADLINE) == 0, gateway.output
    (record,) = gateway.records(1)
    assert (record["outcome"], record["error"]["type"]) == ("error", "stopped")
    assert record["response"]["status"] == 200


def test_a_conversation_goes_on_until_it_is_over_or_cut(tmp_path: Path, provider: Provider) -> None:
    config = config_for(provider.url, shutdown={"drain_seconds": 60})
    gateway = Gateway(tmp_path, config, "serve")
    url = f"ws://localhost:{gateway.port}/openai_passthrough/v1/realtime?model=gpt-realtime"
    with connect(url) as one, connect(url) as other, Wire.to(gateway.port) as kept:
        assert json.loads(one.recv(DEADLINE))["type"] == "session.created"
        assert json.loads(other.recv(DEADLINE))["type"] == "session.created"
        gateway.process.send_signal(signal.SIGTERM)
        draining(gateway, kept)
        one.send(json.dumps({"type": "response.create"}))
        while json.loads(one.recv(DEADLINE))["type"] != "response.done":
            pass
        one.close()
        assert {record["outcome"] for record in gateway.records(1)} == {"ok"}
        assert gateway.process.poll() is None
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(DEADLINE) == 0, gateway.output
    (record,) = (each for each in gateway.records(2) if each["outcome"] != "ok")
    assert (record["outcome"], record["error"]["type"]) == ("error", "stopped")
    assert "session.created" in record["response"]["body"]


def test_who_reads_slowly_gets_all_of_an_answer_that_is_over(
    tmp_path: Path, upstream: Upstream
) -> None:
    body = b"x" * (12 << 20)  # more than the system's buffers hold

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    upstream.talk = talk
    limits = {"response_buffer": 2 * len(body)}
    config = config_for(upstream.url, shutdown={"drain_seconds": 60}, limits=limits)
    gateway = Gateway(tmp_path, config, "serve")
    with Wire.to(gateway.port) as client, Wire.to(gateway.port) as kept:
        client.send(request(CHAT, b"{}"))
        assert gateway.records(1)[0]["outcome"] == "ok"  # for the provider it is over
        gateway.process.send_signal(signal.SIGTERM)
        draining(gateway, kept)
        assert client.message()[1] == body
    assert gateway.process.wait(DEADLINE) == 0, gateway.output


SLOW_DISK = """
import time
from llm_passthrough.sinks.jsonl import Jsonl
from llm_passthrough.sinks.writer import Writer

Writer.close.__defaults__ = (0.5,)
Jsonl.write = lambda *_: time.sleep(600)
"""


def test_a_disk_that_hangs_holds_the_end_up_for_a_while_only(
    tmp_path: Path, upstream: Upstream
) -> None:
    """K16: and it is said how many records were lost."""

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    upstream.talk = talk
    script = tmp_path / "slow_disk.py"
    script.write_text(SLOW_DISK)
    gateway = Gateway(tmp_path / "g", config_for(upstream.url), args=("-s", str(script)))
    for _ in range(3):
        with Wire.to(gateway.port) as client:
            client.send(request(CHAT, b"{}"))
            assert client.message()[1] == b"{}"
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(DEADLINE) == 0, gateway.output
    assert "3 records were not written before the end" in gateway.output
