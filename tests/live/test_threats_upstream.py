"""The threat catalogue from the other side: providers that fail, lie, or say our key aloud.

Rows of J (upstream faults), of C and D (where a provider's name leads, with what certificate), and
F06 (an echoed key). The provider is a raw socket; the oracles are asked after every row.
"""

import base64
import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from live.authorities import NAMES, Authority
from live.harness import (
    KEYS,
    Gateway,
    Upstream,
    Web,
    Wire,
    config_for,
    free_port,
    names_addon,
    request,
)
from live.oracles import Heard, Oracles, found, talk
from live.scene import CHAT

KEY = KEYS["openai"].encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
ASK = request(CHAT)
KEPT = ASK.replace(b"Connection: close\r\n", b"")


class Bench:
    """A gateway with mitmweb in front of a provider of raw bytes."""

    def __init__(self, folder: Path) -> None:
        self.upstream = Upstream()
        self.asked: list[bytes] = []
        self.gateway = Gateway(folder / "gateway", config_for(self.upstream.url), "mitmweb")
        self.web = Web(self.gateway)
        self.oracles = Oracles(self.gateway, ())

    def answer(self, *pieces: bytes, close: bool = False) -> None:
        """From now on each request is answered with these bytes."""

        def say(wire: Wire) -> None:
            while True:
                try:
                    head, body = wire.message()
                except EOFError:
                    return
                self.asked.append(head + body)
                for piece in pieces:
                    wire.send(piece)
                    time.sleep(0.01 * (len(pieces) > 1))
                if close:
                    return

        self.upstream.talk = say

    def run(self, data: bytes = ASK, answers: int = 1, echo: bool = False) -> tuple[Heard, Any]:
        """What the client heard and the records; the oracles hold.

        With `echo` the provider has put the key into a body, which goes on byte for byte.
        """
        self.asked.clear()
        self.oracles.mark()
        heard = talk(self.gateway.port, data, answers=answers)
        self.oracles.check(b"" if echo else heard.data)
        records = self.oracles.new_records(answers)
        for asked in self.asked:
            assert found(KEYS.values(), asked) == [KEYS["openai"]]
        return heard, records

    def stop(self) -> None:
        self.gateway.stop()
        self.upstream.stop()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("upstream"))
    yield bench
    bench.stop()


# -- answers that are none -------------------------------------------------------------------------


def switch(*fields: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *fields, b"", b""])


STRANGE = {
    "a 101 that nobody asked for": switch(b"Connection: Upgrade", b"Upgrade: foo"),
    "a WebSocket that nobody asked for": switch(b"Connection: Upgrade", b"Upgrade: websocket"),
    "a bare 101": switch(),
    "a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
    "a coding that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n{}",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nX-A b\r\nContent-Length: 2\r\n\r\n{}",
    "a header's name with a space": b"HTTP/1.1 200 OK\r\nX A: " + KEY + b"\r\n\r\n{}",
    "a fold at the beginning": b"HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 2\r\n\r\n{}",
    "another protocol": b"ICY 200 OK " + KEY + b"\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 abc OK\r\n\r\n",
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
def test_an_answer_that_is_no_http_is_a_502(bench: Bench, answer: bytes) -> None:
    """J08: no hang, no tunnel, and nothing of it in our message."""
    bench.answer(answer)
    heard, (record,) = bench.run()
    assert heard.status == 502
    assert json.loads(heard.body)["error"]["code"] == "upstream_protocol"
    assert "no well-formed HTTP" in record["error"]["message"]
    assert record["outcome"] == "upstream_error"
    assert len(bench.asked) == 1


def test_a_websocket_of_a_version_that_there_is_not_is_not_opened(bench: Bench) -> None:
    """J08: mitmproxy would speak another protocol than the two agreed on."""
    bench.answer(switch(b"Connection: Upgrade", b"Upgrade: websocket"))
    asks = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8")
    heard, _ = bench.run(request(CHAT, b"", "GET", asks).replace(b"Connection: close\r\n", b""))
    assert heard.status == 502


@pytest.mark.parametrize("more", [b"evil", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
def test_bytes_after_an_answer_are_nobodys_answer(bench: Bench, more: bytes) -> None:
    """J08: neither this client's nor the next one's on that connection."""
    bench.answer(OK + more)
    heard, _ = bench.run(KEPT + ASK, answers=2)
    assert heard.statuses == [200, 200]
    assert b"evil" not in heard.data


@pytest.mark.parametrize(
    ("line", "right"),
    [
        pytest.param(b"X-A: a\r\n b", "a   b", id="a fold"),
        pytest.param(b"X-A: a\x00b\rc\x1b[31m", "a b c [31m", id="control characters"),
    ],
)
def test_a_value_that_could_end_a_line_becomes_plain(bench: Bench, line: bytes, right: str) -> None:
    """J08 (RFC 9112 5.2): a space takes the place of what no value may hold."""
    bench.answer(OK.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n"))
    heard, _ = bench.run()
    assert heard.header("x-a") == right


# -- a key that is said aloud ----------------------------------------------------------------------


def plain(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([b"HTTP/1.1 " + status, *fields, length, b"", body])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(plain(b"{}", b"X-Request-Headers: Bearer " + KEY), id="in any header"),
        pytest.param(plain(b"{}", b"X-A: a=" + base64.b64encode(b"x" + KEY)), id="in base64"),
        pytest.param(plain(b"{}", b"X-A: 1", status=b"401 " + KEY), id="in the reason"),
        pytest.param(
            b"HTTP/1.1 103 Early Hints\r\nX-A: " + KEY + b"\r\n\r\n" + OK, id="in an early hint"
        ),
        pytest.param(
            EVENTS + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: " + KEY + b"\r\n\r\n",
            id="in a trailer",
        ),
    ],
)
def test_a_key_in_an_answers_head_stops_here(bench: Bench, answer: bytes) -> None:
    """F06: neither the client nor a record gets it, nor mitmweb."""
    bench.web.call("POST", "/clear", {})
    bench.answer(answer)
    bench.run()
    for page in ("/flows", "/flows/dump"):
        assert not found([KEYS["openai"]], bench.web.get(page))


ECHO = b'{"error":{"message":"no such key: %s","type":"%s","code":"%s"},"id":"%s","model":"%s"}'
SAID = ECHO.replace(b"%s", KEY)


def chunked(*pieces: bytes, coding: bytes = b"") -> list[bytes]:
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    return [EVENTS + coding + b"Transfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n"]


EVENT = b"data: " + SAID + b"\n\n"
ZIPPED = gzip.compress(EVENT)
IN_KEY = EVENT.index(KEY) + len(KEY) // 2


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([plain(SAID, b"Content-Type: application/json")], id="plain"),
        pytest.param([plain(SAID, status=b"401 No")], id="in an error"),
        pytest.param([plain(base64.b64encode(b"Bearer " + KEY))], id="base64"),
        pytest.param([plain(gzip.compress(SAID), b"Content-Encoding: gzip")], id="gzip"),
        pytest.param(chunked(EVENT[:IN_KEY], EVENT[IN_KEY:]), id="in two chunks"),
        pytest.param(chunked(*(bytes([byte]) for byte in b"data: " + KEY + b"\n\n")), id="bytes"),
        pytest.param(
            chunked(ZIPPED[:30], ZIPPED[30:], coding=b"Content-Encoding: gzip\r\n"),
            id="gzip in two chunks",
        ),
    ],
)
def test_a_key_in_an_answers_body_is_in_no_record(bench: Bench, pieces: list[bytes]) -> None:
    """F06: the body goes to the client byte for byte, as SECURITY.md says."""
    bench.answer(*pieces)
    _, (record,) = bench.run(echo=True)
    assert "[redacted]" in json.dumps(record["response"])
    assert not found([KEYS["openai"]], json.dumps(record).encode())


# -- once, and no more -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [b"429 Slow", b"500 Oops", b"503 Later", b"529 Full"])
def test_an_error_of_the_provider_is_not_tried_again_by_us(bench: Bench, status: bytes) -> None:
    """I12, J18: the SDKs do that."""
    bench.answer(plain(b"{}", b"Retry-After: 0", status=status))
    heard, _ = bench.run()
    assert heard.status == int(status[:3])
    assert len(bench.asked) == 1


def test_a_connection_that_ends_when_it_is_used_again_is_no_second_try(bench: Bench) -> None:
    """J11, J18: the provider has the second request, and hangs up: it may have done its work."""
    asked: list[bytes] = []

    def say(wire: Wire) -> None:
        asked.append(wire.message()[0])
        wire.send(OK)
        asked.append(wire.message()[0])

    bench.upstream.talk = say
    heard, (first, second) = bench.run(KEPT + ASK, answers=2)
    assert heard.statuses == [200, 502]
    assert len(asked) == 2
    assert [first["outcome"], second["outcome"]] == ["ok", "upstream_error"]


def test_a_stream_that_a_person_ends_really_ends(bench: Bench) -> None:
    """J13: for the provider and for the client, with what went by in the record."""
    gone = threading.Event()

    def say(wire: Wire) -> None:
        wire.message()
        wire.send(EVENTS + b"Transfer-Encoding: chunked\r\n\r\n7\r\ndata: 1\r\n")
        wire.rest()
        gone.set()

    bench.upstream.talk = say
    bench.web.call("POST", "/clear", {})
    bench.oracles.mark()
    with Wire.to(bench.gateway.port) as wire:
        wire.send(ASK)
        wire.until(b"data: 1")
        (flow,) = bench.web.flows()
        assert bench.web.call("POST", f"/flows/{flow['id']}/kill", {})[0] == 200
        assert gone.wait(5), "the provider is still being listened to"
        assert not wire.rest().endswith(b"0\r\n\r\n")
    (record,) = bench.oracles.new_records(1)
    assert record["error"]["type"] == "killed"
    assert record["response"]["body"] == "data: 1"


# -- where a provider's name leads -----------------------------------------------------------------


@dataclass
class Place:
    """A listener under a provider's name, and the bytes that came through its TLS."""

    port: int
    inside: list[bytes]


def listening(context: ssl.SSLContext) -> Iterator[Place]:
    """Somebody at loopback with a certificate."""
    place = Place(0, [])
    with socket.create_server(("127.0.0.1", 0)) as server:
        place.port = server.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(sock, server_side=True) as inner:
                        inner.settimeout(5)
                        place.inside.append(inner.recv(65536))
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield place
        server.shutdown(socket.SHUT_RDWR)


CERTIFICATES: dict[str, Callable[[Authority, Path], ssl.SSLContext]] = {
    "of another name": lambda ours, _: ours.server_context(("evil.test",)),
    "that has expired": lambda ours, _: ours.server_context(NAMES, days=-1),
    "of an unknown authority": lambda _, folder: (
        Authority(folder).context
    ),  # in a folder of its own
}


@pytest.fixture(scope="module")
def astray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, dict[str, Any]]]:
    """A gateway whose providers' names lead to this machine: to wrong certificates, to nobody."""
    folder = tmp_path_factory.mktemp("astray")
    ours = Authority(folder)
    (folder / "other").mkdir()
    makers = [listening(make(ours, folder / "other")) for make in CERTIFICATES.values()]
    places = dict(zip(CERTIFICATES, (next(maker) for maker in makers), strict=True))
    hosts = ("api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com")
    ports = {host: place.port for host, place in zip(hosts, places.values(), strict=True)}
    ports["my-resource.openai.azure.com"] = free_port()  # nobody listens there
    config = config_for("https://my-resource.openai.azure.com")
    for name in ("openai", "anthropic", "gemini", "vertex"):
        del config["providers"][name]["network_config"]
    args = ("-s", str(names_addon(folder, ports)))
    args += ("--set", f"ssl_verify_upstream_trusted_ca={ours.ca_file}")
    gateway = Gateway(folder / "gateway", config, args=args)
    yield gateway, places
    gateway.stop()
    for maker in makers:
        next(maker, None)


STRAY = {
    "of another name": ("/openai_passthrough/v1/x", "api.openai.com", "upstream_tls"),
    "that has expired": ("/anthropic_passthrough/v1/x", "api.anthropic.com", "upstream_tls"),
    "of an unknown authority": (
        "/genai_passthrough/v1beta/models/m:x",
        "generativelanguage.googleapis.com",
        "upstream_tls",
    ),
    "nobody": (
        "/azure_passthrough/openai/v1/x",
        "my-resource.openai.azure.com",
        "upstream_unreachable",
    ),
    "no such name": (
        "/genai_passthrough/v1beta1/publishers/google/models/m:x",
        "aiplatform.googleapis.com",
        "upstream_unreachable",
    ),
}


@pytest.mark.parametrize("kind", STRAY)
@pytest.mark.parametrize("tunnel", [False, True], ids=["by a prefix", "through a tunnel"])
def test_a_providers_name_that_leads_astray_gets_no_byte_of_a_request(
    astray: tuple[Gateway, dict[str, Any]], kind: str, tunnel: bool
) -> None:
    """C10, C13, D05, J01: the certificate tells a provider from whoever its name leads to."""
    gateway, places = astray
    target, host, code = STRAY[kind]
    oracles = Oracles(gateway, ())
    oracles.mark()
    if tunnel:
        heard = through(gateway, host, request(target.partition("/v1")[1] + "/x", host=host))
    else:
        heard = talk(gateway.port, request(target))
    oracles.check(heard.data)
    (record,) = oracles.new_records(1)
    assert heard.status == 502
    assert heard.header("content-type") == "application/json"
    assert heard.header("x-passthrough-error") == code
    assert (record["outcome"], record["error"]["type"]) == ("upstream_error", code)
    assert [data for place in places.values() for data in place.inside if data] == []


def through(gateway: Gateway, host: str, data: bytes) -> Heard:
    """A request inside a tunnel to port 443 of a host."""
    trust = ssl.create_default_context(cafile=gateway.folder / "mitm" / "mitmproxy-ca-cert.pem")
    with Wire.to(gateway.port) as wire:
        wire.send(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
        assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        inner = Wire(trust.wrap_socket(wire.sock, server_hostname=host))
        inner.send(data)
        return Heard(inner.rest(), True)
