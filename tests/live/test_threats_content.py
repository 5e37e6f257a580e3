"""The threat catalogue's odd contents (L), and how a client may end or begin a connection (B, C).

A body goes on byte for byte, whatever it holds; what cannot be read of it is told in the record.
"""

import contextlib
import gzip
import hashlib
import json
import os
import socket
import ssl
import zlib

import pytest

from live.harness import CLIENT_KEY, Wire
from live.oracles import Heard, answers_in
from live.scene import BODY, CHAT, Case, Scene, ask, check, one

# -- L: contents -----------------------------------------------------------------------------------

MULTIPART = b"--%s\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n"
MANY = b"".join(MULTIPART % b"x" for _ in range(1000)) + b"--x--\r\n"
JSON = "Content-Type: application/json"
CONTENTS = {
    "L01-deep-lists": (b"[" * 200_000, JSON),
    "L01-deep-objects": (b'{"a":' * 100_000, JSON),
    "L02-a-long-number": (b'{"model":"m","n":' + b"9" * 5000 + b"}", JSON),
    "L02-numbers-that-are-none": (b'{"a":1e400,"b":NaN,"c":Infinity,"d":-0,"e":2e70}', JSON),
    "L02-half-a-surrogate-pair": (b'{"model":"\\ud800"}', JSON),
    "L04-a-key-twice": (b'{"model":"a","model":"b","messages":[]}', JSON),
    "L05-gzip": (gzip.compress(BODY), JSON + "\r\nContent-Encoding: gzip"),
    "L05-gzip-that-is-none": (b"\x1f\x8b" + BODY, JSON + "\r\nContent-Encoding: gzip"),
    "L05-zstd-that-is-none": (BODY, JSON + "\r\nContent-Encoding: zstd"),
    "L05-a-python-codec": (BODY, JSON + "\r\nContent-Encoding: rot13, zlib_codec"),
    "L05-a-bomb": (zlib.compress(b"x" * 50_000_000), JSON + "\r\nContent-Encoding: deflate"),
    "L06-a-long-picture": (b'{"model":"m","image":"' + b"QUJD" * 1_500_000 + b'"}', JSON),
    "L07-no-text": (bytes(range(256)) * 4, "Content-Type: application/octet-stream"),
    "L08-many-parts": (MANY, "Content-Type: multipart/form-data; boundary=x"),
    "L08-a-long-boundary": (
        MULTIPART % (b"b" * 8000),
        f"Content-Type: multipart/form-data; boundary={'b' * 8000}",
    ),
    "L08-no-end": (MULTIPART % b"x", "Content-Type: multipart/form-data; boundary=x"),
}


@pytest.mark.parametrize(("body", "kind"), CONTENTS.values(), ids=CONTENTS)
def test_a_body_goes_on_byte_for_byte_whatever_it_holds(
    scene: Scene, body: bytes, kind: str
) -> None:
    """L01, L02, L04, L05, L06, L07, L08: and the record holds what there was of it."""
    data = ask("/canned/v1/x", *kind.split("\r\n"), body=body)
    before = len(scene.canned.received)
    heard, _ = scene.run(data)
    assert heard.status == 200, heard.data[:300]
    (sent,) = scene.canned.received[before:]
    head, _, got = sent.partition(b"\r\n\r\n")
    assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()
    assert kind.encode() in head
    record = scene.gateway.records()[-1]
    assert record["outcome"] == "ok"
    assert record["request"]["bytes"] == len(body)
    json.dumps(record, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        pytest.param(ask("/canned/x", body=b""), b"200 OK\r\nContent-Length: 0", id="L07-empty"),
        pytest.param(ask("/canned/x", method="GET"), b"200 OK\r\nContent-Length: 0", id="L07-get"),
        pytest.param(
            ask("/canned/x", method="HEAD", body=b""), b"200 OK\r\nContent-Length: 9", id="L07-head"
        ),
        pytest.param(ask("/canned/x"), b"204 No Content", id="L07-204"),
        pytest.param(ask("/canned/x", method="GET", body=b""), b"304 Same", id="L07-304"),
    ],
)
def test_a_message_without_a_body_has_none_on_the_other_side(
    scene: Scene, data: bytes, answer: bytes
) -> None:
    """L07: nor does a GET lose the one that it has."""
    scene.answer = b"HTTP/1.1 " + answer + b"\r\n\r\n"
    before = len(scene.canned.received)
    heard, _ = scene.run(data)
    assert heard.status == int(answer[:3])
    assert heard.body == b""
    (sent,) = scene.canned.received[before:]
    assert sent.partition(b"\r\n\r\n")[2] == data.partition(b"\r\n\r\n")[2]
    scene.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


# -- B: how a client ends, and what it speaks ------------------------------------------------------


def half_closed(scene: Scene, data: bytes, wait: float) -> Heard:
    """Send, and say that nothing more comes; until the gateway closes."""
    with socket.create_connection(("127.0.0.1", scene.gateway.port), 10) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(scene.fill(data))
            os.sched_yield()
            sock.settimeout(wait or 0.001)
            with contextlib.suppress(TimeoutError):
                sock.recv(1, socket.MSG_PEEK)
            sock.shutdown(socket.SHUT_WR)
        sock.settimeout(10)
        heard = b""
        with contextlib.suppress(ConnectionError):
            while piece := sock.recv(65536):
                heard += piece
    return Heard(heard, True)


KEPT = ask(CHAT, "Connection: keep-alive")
HEALTH = b"GET /health HTTP/1.1\r\nHost: {GW}\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(ask(CHAT), id="a-request"),
        pytest.param(KEPT + KEPT, id="two"),
        pytest.param(HEALTH + HEALTH, id="one-more-after-the-last"),
        pytest.param(KEPT[:60], id="a-part-of-a-head"),
        pytest.param(KEPT[:-9], id="a-part-of-a-body"),
        pytest.param(ask("/nowhere", "Connection: keep-alive") + KEPT, id="refused-and-another"),
        pytest.param(KEPT + b"GARBAGE\r\n\r\n", id="one-and-garbage"),
    ],
)
def test_a_client_that_half_closes_leaves_nothing_open(scene: Scene, data: bytes) -> None:
    """B16: it is taken for gone (RFC 9112 9.6 lets it): answered or not, the connection ends."""
    scene.run(ask(CHAT))  # warm
    scene.oracles.begin()
    scene.oracles.mark()
    for number in range(12):
        heard = half_closed(scene, data, 0.004 * (number % 4))
        assert all(status in (200, 400, 404) for status, _ in answers_in(heard.data))
        scene.oracles.check(heard.data, alive=False)
    scene.oracles.check()
    scene.oracles.settle()


def over_tls(scene: Scene, data: bytes, *protocols: str) -> tuple[str | None, bytes]:
    """What a client hears that speaks TLS to our own port, and the protocol agreed on."""
    authority = scene.gateway.folder / "mitm" / "mitmproxy-ca-cert.pem"
    trust = ssl.create_default_context(cafile=authority)
    if protocols:
        trust.set_alpn_protocols(list(protocols))
    with Wire.to(scene.gateway.port) as wire:
        sock = trust.wrap_socket(wire.sock, server_hostname="localhost")
        inner = Wire(sock)
        inner.send(scene.fill(data))
        return sock.selected_alpn_protocol(), inner.rest()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.mark.parametrize(
    "protocols", [("h2", "http/1.1"), ("h2",), ()], ids=["both", "h2-alone", "none"]
)
def test_http_2_is_not_spoken_whatever_a_client_offers(
    scene: Scene, protocols: tuple[str, ...]
) -> None:
    """B21, B23: so no pseudo-header can name another place, and no frame be read in two ways."""
    scene.oracles.mark()
    agreed: str | None = None
    heard = b""
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        agreed, heard = over_tls(scene, PREFACE, *protocols)
    assert agreed in (None, "http/1.1")
    assert heard == b"" or heard.startswith(b"HTTP/1.1 400 ")
    scene.oracles.check(heard)
    assert not scene.oracles.new()


def test_over_tls_our_own_port_serves_as_in_plain_text(scene: Scene) -> None:
    """B21: with HTTP/1.1, for a client that would rather speak HTTP/2."""
    scene.oracles.mark()
    agreed, heard = over_tls(scene, ask(CHAT), "h2", "http/1.1")
    assert (agreed, heard[:12]) == ("http/1.1", b"HTTP/1.1 200")
    scene.oracles.check(heard, 1)
    assert one(scene.oracles.new()).target == "/v1/chat/completions"


def connect(target: str, *lines: str) -> bytes:
    fields = [f"CONNECT {target} HTTP/1.1", f"Proxy-Authorization: Basic {CLIENT_KEY}", *lines]
    return "\r\n".join([*fields, "", ""]).encode()


OTHERS = [
    pytest.param(
        Case(connect("{EV}", "Host: {PR}:443"), (403,)), id="C03-a-tunnel-with-a-providers-Host"
    ),
    pytest.param(
        Case(connect("{PR}:443", "Host: {PR}", "Content-Length: 9") + b"GET / HTT", (400,)),
        id="C11-a-tunnel-with-a-body",
    ),
    pytest.param(
        Case(ask("http://{PR}/v1/models", host=None, version="HTTP/1.0"), (403,)),
        id="B19-http-1.0-without-a-host",
    ),
    pytest.param(
        Case(ask(CHAT, version="HTTP/2.0"), (400,), records=None), id="B19-http-2-in-plain-text"
    ),
    pytest.param(
        Case(ask(CHAT, version="HTTP/3"), (400,), records=None), id="B19-http-3-in-plain-text"
    ),
    pytest.param(
        Case(
            ask(CHAT, "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
            (200,),
            "/v1/chat/completions",
        ),
        id="B17-an-upgrade-that-Connection-does-not-name",
    ),
]


@pytest.mark.parametrize("case", OTHERS)
def test_what_a_client_may_not_say_is_refused_or_made_plain(scene: Scene, case: Case) -> None:
    check(scene, case)
