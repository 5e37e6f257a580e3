"""A tunnel to another host is dialled before it is granted: within a deadline of ours, and told."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from live.harness import Gateway, Upstream, Wire, config_for, free_port, status_of

DEADLINE = 1
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = config_for("https://nobody.test", timeouts={"connect": DEADLINE})
    config["forward"] = {"other": "tunnel", "allow_private": [HOST]}
    gateway = Gateway(tmp_path_factory.mktemp("tunnels"), config)
    yield gateway
    gateway.stop()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port on which nobody answers: its queue is full, so that Linux drops whoever comes."""
    with contextlib.ExitStack() as held:
        server = held.enter_context(socket.socket())
        server.bind((HOST, 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(4):
            one = held.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex((HOST, port))
        time.sleep(0.1)
        with socket.socket() as probe:
            probe.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                probe.connect((HOST, port))
                pytest.skip("this system takes more connections than it was asked to")
        yield port


def ask(gateway: Gateway, port: int) -> Wire:
    wire = Wire.to(gateway.port)
    wire.send(f"CONNECT {HOST}:{port} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
    return wire


def test_who_does_not_answer_is_a_504_to_the_connect(gateway: Gateway, silent: int) -> None:
    told = len(gateway.records())
    with ask(gateway, silent) as wire:
        head, body = wire.message()
    assert status_of(head) == 504
    assert b"x-passthrough-error: upstream_timeout" in head.lower()
    said = f"{HOST}:{silent} took too long (connect after {DEADLINE} s)"
    assert json.loads(body)["error"]["message"] == said
    (record,) = gateway.records(told + 1)[told:]
    assert (record["outcome"], record["response"]["status"]) == ("timeout", 504)
    fault = {"type": "upstream_timeout", "message": said, "origin": "upstream", "code": None}
    assert record["error"] == fault
    assert record["route"] == f"host:{HOST}"
    assert record["timing_ms"]["total"] >= DEADLINE * 1000


def test_who_leaves_before_somebody_answers_has_left(gateway: Gateway, silent: int) -> None:
    told = len(gateway.records())
    with ask(gateway, silent) as wire:
        time.sleep(0.2)
        wire.reset()
    (record,) = gateway.records(told + 1)[told:]
    assert record["outcome"] == "client_abort"


def test_where_nobody_is_at_home_the_connect_is_told_so(gateway: Gateway) -> None:
    told = len(gateway.records())
    with ask(gateway, free_port()) as wire:
        head, _ = wire.message()
    assert status_of(head) == 502
    assert b"x-passthrough-error: upstream_unreachable" in head.lower()
    (record,) = gateway.records(told + 1)[told:]
    assert (record["outcome"], record["error"]["type"]) == (
        "upstream_error", "upstream_unreachable",
    )  # fmt: skip


def test_who_speaks_first_is_heard_and_a_tunnel_has_no_deadline(gateway: Gateway) -> None:
    """SSH and mail servers do; the silence that follows is longer than a connection may take."""

    def greet(wire: Wire) -> None:
        wire.send(b"220 hello\r\n")
        wire.send(wire.until(b"\r\n").upper())

    upstream = Upstream(greet)
    told = len(gateway.records())
    with ask(gateway, upstream.port) as wire:
        assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert wire.until(b"\r\n") == b"220 hello\r\n"
        time.sleep(DEADLINE + 0.6)
        wire.send(b"ehlo\r\n")
        assert wire.rest() == b"EHLO\r\n"
    upstream.stop()
    (record,) = gateway.records(told + 1)[told:]
    assert (record["outcome"], record["request"]["bytes"], record["response"]["bytes"]) == (
        "ok", 6, 17,
    )  # fmt: skip


def test_who_hangs_up_at_once_ends_the_tunnel(gateway: Gateway) -> None:
    upstream = Upstream(lambda wire: None)
    with ask(gateway, upstream.port) as wire:
        assert status_of(wire.rest()) == 200  # and then the end, without a word of the client's
    upstream.stop()
