"""Connections to a provider take up each other's TLS sessions, and nobody else's.

The provider's end tells of each connection whether it did; what a client hears shows that nobody
is trusted whose certificate was not verified by the name that the configuration gives.
"""

import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live.authorities import Authority
from live.harness import (
    KEYS,
    Gateway,
    Upstream,
    Wire,
    as_serve,
    config_for,
    request,
)
from live.oracles import Heard, Oracles, found, talk

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
KEY = "sk-resumed-0123456789-abcdef"
# What every flavour says of this file when it is read, before it is heeded, in one go.
READ = "gateway.yaml: other users can read it"
# What is not the provider, though it is where the provider was.
STRANGERS = ("of another name", "that has expired", "of an unknown authority")


class Far:
    """A provider with a certificate for `localhost`: whether each connection took up a session,
    and what came through its TLS."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, ("localhost",))
        (folder / "strange").mkdir()
        strange = Authority(folder / "strange", ("localhost",))
        self.contexts = {
            "its own": self.authority.context,
            "of another name": self.authority.server_context(("evil.test",)),
            "that has expired": self.authority.server_context(("localhost",), days=-1),
            "of an unknown authority": strange.context,
        }
        self.context = self.authority.context
        self.resumed: list[bool | None] = []
        self.inside: list[bytes] = []
        self.upstream = Upstream(self.talk)

    def talk(self, wire: Wire) -> None:
        try:
            sock = self.context.wrap_socket(wire.sock, server_side=True)
        except OSError:
            return  # our certificate was not believed
        self.resumed.append(sock.session_reused)
        with Wire(sock) as inner:
            try:
                while True:
                    self.inside.append(inner.message()[0])
                    inner.send(OK)
            except (EOFError, OSError):
                pass


class Desk:
    """A gateway, and the provider behind TLS by its name and by its address."""

    def __init__(self, folder: Path, program: str) -> None:
        self.far = Far(folder)
        port = self.far.upstream.port
        routes = [
            {"prefix": f"/{name}", "upstream": f"https://{host}:{port}", "keys": [key]}
            for name, host, key in (
                ("named", "localhost", {"name": "named", "value": KEY}),
                ("bare", "127.0.0.1", {"name": "bare", "value": KEY}),
            )
        ]
        args = ("--set", f"ssl_verify_upstream_trusted_ca={self.far.authority.ca_file}")
        if program == "serve":
            args = as_serve(args)[1]
        config = config_for("http://127.0.0.1:1", routes=routes)
        self.gateway = Gateway(folder / "gateway", config, program, args=args)
        self.oracles = Oracles(self.gateway, (), keys=KEYS | {"named": KEY})

    def ask(self, prefix: str = "/named") -> Heard:
        """One call on a connection of its own."""
        return talk(self.gateway.port, request(f"{prefix}/v1/x"))

    def calls(self, count: int, prefix: str = "/named") -> list[bool | None]:
        """Whether the connections of some calls, all of which are answered, were resumed."""
        before = len(self.far.resumed)
        assert [self.ask(prefix).status for _ in range(count)] == [200] * count
        return self.far.resumed[before:]

    def read_again(self) -> None:
        before = self.gateway.output.count(READ)
        self.gateway.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 15
        while self.gateway.output.count(READ) == before:
            assert time.monotonic() < end, self.gateway.output
            time.sleep(0.02)

    def stop(self) -> None:
        self.gateway.stop()
        self.far.upstream.stop()


@pytest.fixture(scope="module", params=["mitmdump", "serve", "web"])
def open_desk(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("resumption"), request.param)
    yield desk
    desk.stop()


@pytest.fixture
def desk(open_desk: Desk) -> Desk:
    """With nothing kept."""
    open_desk.far.context = open_desk.far.contexts["its own"]
    open_desk.read_again()
    open_desk.oracles.mark()
    return open_desk


def test_a_connection_a_call_is_one_session(desk: Desk) -> None:
    """And one that was resumed is sealed, signed and recorded like one that was not."""
    desk.far.inside.clear()
    assert desk.calls(4) == [False, True, True, True]
    assert all(head.count(KEY.encode()) == 1 for head in desk.far.inside)
    records = desk.oracles.new_records(4)
    assert {(record["outcome"], record["key"]) for record in records} == {("ok", "named")}
    assert all(record["timing_ms"]["tls"] > 0 for record in records)
    assert not found([KEY], repr(records).encode())


def test_a_configuration_that_is_read_again_ends_the_session(desk: Desk) -> None:
    assert desk.calls(2) == [False, True]
    desk.read_again()
    assert desk.calls(2) == [False, True]


@pytest.mark.parametrize("kind", STRANGERS)
def test_somebody_else_in_the_providers_place_gets_no_byte_of_a_request(
    desk: Desk, kind: str
) -> None:
    """C10: though the provider's own session is at hand."""
    assert desk.calls(2) == [False, True]
    desk.far.context = desk.far.contexts[kind]
    before = len(desk.far.inside)
    for _ in range(2):
        heard = desk.ask()
        assert (heard.status, heard.header("x-passthrough-error")) == (502, "upstream_tls")
    assert not any(desk.far.inside[before:])
    desk.far.context = desk.far.contexts["its own"]
    assert desk.calls(2) == [False, True]


def test_a_session_says_nothing_of_another_name_at_the_same_address(desk: Desk) -> None:
    """The certificate is for the name only: by the address it is the wrong one."""
    assert desk.calls(2) == [False, True]
    before = len(desk.far.inside)
    heard = desk.ask("/bare")
    assert (heard.status, heard.header("x-passthrough-error")) == (502, "upstream_tls")
    assert not any(desk.far.inside[before:])
    assert desk.calls(1) == [True]


def test_an_older_tls_is_resumed_too(desk: Desk) -> None:
    context = desk.far.authority.server_context(("localhost",))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    desk.far.context = context
    assert desk.calls(3) == [False, True, True]
