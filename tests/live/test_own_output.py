"""Own output: whatever makes mitmproxy print what it read shows no secret and no control character.

Rule R23 and the threat catalogue's F07, F19, I15 (the log's side), K08. The gateway is mitmweb at
its usual verbosity: what it prints, and what its list of events and its flows hold.
"""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live.harness import (
    BIN,
    CLIENT_KEY,
    KEYS,
    Gateway,
    Upstream,
    Web,
    Wire,
    borrow,
    clean_environment,
    config_for,
    free_port,
    raw,
    request,
    status_of,
)
from live.oracles import DEADLINE, found, talk

CHAT = "/openai_passthrough/v1/chat/completions"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SECRETS = (*KEYS.values(), CLIENT_KEY)
CLI = CLIENT_KEY.encode()
KEY = KEYS["openai"].encode()
HOST = b"Host: localhost\r\n"

RAISING = r"""
import logging, os
from mitmproxy import ctx

def response(flow):
    if "raise" in flow.request.path:
        raise ValueError("Authorization: Bearer %s \x1b[31m" % os.environ["CLI"])
    logging.warning("an \x1b]0;title\x07 \r\n[12:00:00] x-api-key: %s", os.environ["CLI"])
    ctx.log.warn("of old \x1b[31m api-key: " + os.environ["CLI"])
"""


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("own-output")
    script = folder / "raising.py"
    script.write_text(RAISING)
    gateway = Gateway(
        folder / "g",
        config_for(upstream.url),
        "mitmweb",
        args=("-s", str(script), "--set", "termlog_verbosity=debug"),
        env={"CLI": CLIENT_KEY},
    )
    yield gateway
    gateway.stop()


def check(gateway: Gateway, output: str | None = None) -> None:
    """No secret, no control character, no long line: at the terminal, in events, in flows."""
    web = Web(gateway)
    events = [entry["message"] for entry in json.loads(web.get("/events"))]
    printed = gateway.output if output is None else output
    assert not found(SECRETS, printed.encode()), found(SECRETS, printed.encode())
    for line in (*printed.split("\n"), *(line for text in events for line in text.split("\n"))):
        assert line.isprintable(), repr(line)
        assert len(line) < 2200
        assert not re.match(r"\s*\[12:00:00\]", line)
    errors = [flow["error"]["msg"] for flow in web.flows() if flow.get("error")]
    for text in (*errors, web.get("/events").decode(), web.get("/options").decode()):
        assert not found(SECRETS, text.encode()), text
    assert all(text.isprintable() for text in errors), errors


def _leave(*pieces: bytes) -> Callable[[int], None]:
    """A client that sends and goes."""

    def leave(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
            for piece in pieces:
                sock.sendall(piece)
                time.sleep(0.05)

    return leave


def _say(data: bytes) -> Callable[[int], None]:
    """A client that waits for what comes back."""
    return lambda port: (raw(port, data, 0.4), None)[1]


def _head(*lines: bytes, target: bytes = CHAT.encode()) -> bytes:
    return b"POST " + target + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines)


def _ping(port: int) -> None:
    """A WebSocket client whose pings, close reason and broken frames hold a credential."""
    target = "/openai_passthrough/v1/realtime?model=m"
    with Wire.to(port) as wire:
        wire.send(
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        wire.until(b"\r\n\r\n")
        for kind in (9, 10, 8):
            body = (b"\x03\xe8" if kind == 8 else b"") + b"Bearer " + CLI + b"\x1b[31m"
            mask = bytes(4)
            wire.send(struct.pack("BB", 0x80 | kind, 0x80 | len(body)) + mask + body)
            time.sleep(0.05)


BY_CLIENT = {
    "an unfinished head": _leave(_head(b"Authorization: Bearer " + CLI)),
    "an unfinished line": _leave(b"POST /?key=" + CLI),
    "an unfinished head of a mebibyte": _leave(_head(b"X: " + CLI * 40_000)),
    "a line without a colon": _say(_head(b"Authorization Bearer " + CLI, b"")),
    "a bad request line": _say(b"GET /?key=" + CLI + b" x y HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an unknown version": _say(b"GET /?key=" + CLI + b" HTTP/" + CLI + b"\r\n" + HOST + b"\r\n"),
    "a folded first line": _say(b"GET / HTTP/1.1\r\n Authorization: Bearer " + CLI + b"\r\n\r\n"),
    "a length that is none": _say(_head(b"Content-Length: " + CLI, b"")),
    "an unknown coding": _say(_head(b"Transfer-Encoding: " + CLI, b"")),
    "two lengths": _say(_head(b"Content-Length: 1", b"Content-Length: 1" + CLI, b"")),
    "a name that is none": _say(_head(b"Author(ization " + CLI + b": x", b"")),
    "no HTTP at all": _say(b"\x1b[31m" + CLI + b"\r\n\r\n"),
    "bytes of every kind": _say(bytes(range(256)) + CLI + b"\r\n\r\n"),
    "a handshake that is none": _say(b"\x16\x03\x01\x00\x30" + CLI + b"\r\n\r\n" + bytes(60)),
    "HTTP/2": _say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + CLI),
    "a tunnel to nowhere": _say(b"CONNECT " + CLI + b"@x:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "userinfo": _say(b"GET http://u:" + CLI + b"@localhost/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a chunk that is none": _say(_head(b"Transfer-Encoding: chunked", b"", CLI, b"", b"")),
    "a chunk without its end": _leave(
        _head(b"Transfer-Encoding: chunked", b"", b"5;x=" + CLI, b"ab")
    ),
    "an expectation": _say(_head(b"Expect: " + CLI, b"Content-Length: 0", b"")),
    "more than was announced": _say(_head(b"Content-Length: 0", b"") + CLI + b"\r\n\r\n"),
    "pings": _ping,
    "a script that raises": _say(request("/openai_passthrough/raise")),
    "a script that logs": _say(request(CHAT)),
}


def plain(wire: Wire) -> None:
    """A provider that answers, and greets a WebSocket."""
    head = wire.until(b"\r\n\r\n")
    if b"websocket" in head:
        wire.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        body = b"Bearer " + KEY + b"\x1b"
        wire.send(struct.pack("BB", 0x89, len(body)) + body)
        wire.rest()
        return
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")


@pytest.mark.parametrize("what", BY_CLIENT)
def test_what_a_client_sends_is_not_printed(
    gateway: Gateway, upstream: Upstream, what: str
) -> None:
    upstream.talk = plain
    before = gateway.log_path.stat().st_size
    BY_CLIENT[what](gateway.port)
    assert talk(gateway.port, HEALTH).status == 200
    check(gateway)
    assert gateway.log_path.stat().st_size - before < 20_000  # I15


OK = b"HTTP/1.1 200 OK\r\n"
ECHO = b"Bearer " + KEY + b"\x1b[31m"
BY_PROVIDER = {
    "bytes after its answer": OK + b"Content-Length: 2\r\n\r\n{}" + ECHO,
    "bytes after a long answer": OK + b"Content-Length: 2\r\n\r\n{}" + ECHO * 9000,
    "a line without a colon": OK + b"Authorization " + ECHO + b"\r\n\r\n",
    "a bad status line": b"HTTP/1.1 " + ECHO + b"\r\n\r\n",
    "no HTTP at all": ECHO + b"\r\n\r\n",
    "a length that is none": OK + b"Content-Length: " + ECHO + b"\r\n\r\n",
    "an unknown coding": OK + b"Transfer-Encoding: " + ECHO + b"\r\n\r\n",
    "a chunk that is none": OK + b"Transfer-Encoding: chunked\r\n\r\n" + ECHO + b"\r\n\r\n",
    "an unfinished head": OK + b"Authorization: " + ECHO,
    "another protocol": b"HTTP/1.1 101 Go\r\nUpgrade: " + KEY + b"\r\n\r\n" + ECHO,
    "trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + ECHO + b"\r\n\r\n",
    "a reason": b"HTTP/1.1 200 " + ECHO + b"\r\nContent-Length: 0\r\n\r\n",
    "an early hint": b"HTTP/1.1 103 x\r\nX: " + ECHO + b"\r\n\r\n",
}


@pytest.mark.parametrize("what", BY_PROVIDER)
def test_what_a_provider_sends_is_not_printed(
    gateway: Gateway, upstream: Upstream, what: str
) -> None:
    def talk_(wire: Wire) -> None:
        wire.message()
        wire.send(BY_PROVIDER[what])
        time.sleep(0.1)

    upstream.talk = talk_
    raw(gateway.port, request(CHAT), 1)
    assert talk(gateway.port, HEALTH).status == 200
    check(gateway)


def test_the_same_line_is_not_printed_over_and_over(gateway: Gateway) -> None:
    before = gateway.output.count("\n")
    for _ in range(300):
        _leave_at_once(gateway.port)
    assert talk(gateway.port, HEALTH).status == 200
    assert gateway.output.count("\n") - before < 400  # five kinds of lines, fifty of each
    check(gateway)


def _leave_at_once(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nAuthorization: Bearer " + CLI + b"\r\n")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_dump_of_its_state_shows_no_secret(
    gateway: Gateway, upstream: Upstream, number: signal.Signals
) -> None:
    """F19: with a request in flight; mitmproxy prints its tasks, threads and stacks."""
    over = []

    def silent(wire: Wire) -> None:
        wire.message()
        while not over:
            time.sleep(0.02)

    upstream.talk = silent
    with Wire.to(gateway.port) as client:
        client.send(request(CHAT))
        time.sleep(0.2)
        before = len(gateway.output)
        gateway.process.send_signal(number)
        end = time.monotonic() + DEADLINE
        while len(gateway.output) < before + 500 and time.monotonic() < end:
            time.sleep(0.05)
    over.append(True)
    assert len(gateway.output) > before + 200
    assert not found(SECRETS, gateway.output.encode())
    assert talk(gateway.port, HEALTH).status == 200


# -- K08: what it prints to is gone ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "where"),
    [
        ("serve", "a full disk"),  # mitmdump ends before any script is loaded
        ("serve", "a pipe that nobody reads any more"),
        ("mitmdump", "a pipe that nobody reads any more"),
    ],
)
def test_it_goes_on_when_nothing_can_be_printed(
    tmp_path: Path, upstream: Upstream, program: str, where: str
) -> None:
    """K08."""
    upstream.talk = plain
    reads, writes = os.pipe()
    output = Path("/dev/full" if where == "a full disk" else f"/dev/fd/{writes}")
    config = config_for(upstream.url, console="on")
    gateway = Gateway(tmp_path, config, program, wait=False, output=output)
    gateway.wait_ready()
    os.close(reads)
    os.close(writes)
    assert status_of(raw(gateway.port, request(CHAT))) == 200
    gateway.process.send_signal(signal.SIGHUP)
    for _ in range(3):
        _leave_at_once(gateway.port)
    assert talk(gateway.port, HEALTH).status == 200
    gateway.records(1)
    assert gateway.stop() == 0


def test_it_starts_and_serves_without_any_standard_stream(
    tmp_path: Path, upstream: Upstream
) -> None:
    """K08: as a daemon that was given none."""
    upstream.talk = plain
    file, port = tmp_path / "gateway.yaml", free_port()
    log = {"path": str(tmp_path / "records.jsonl")}
    file.write_text(json.dumps(config_for(upstream.url, log=log)))
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", str(BIN / "llm-passthrough"), "serve"]
    borrow(tmp_path / "mitm")
    command += ["--port", str(port), "--config", str(file), "--set", f"confdir={tmp_path}/mitm"]
    env = clean_environment() | {"HOME": str(tmp_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=env) as process:
        try:
            status = None
            while status is None and process.poll() is None:
                time.sleep(0.1)
                with contextlib.suppress(OSError):
                    status = status_of(raw(port, request(CHAT)))
            assert status == 200
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert (tmp_path / "records.jsonl").read_bytes().count(b"\n") == 1
