"""The seam into mitmproxy's HTTP layer, without a socket: bytes in, bytes and hooks out."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from llm_passthrough import layer
from llm_passthrough.config import Limits
from llm_passthrough.errors import Refusal
from llm_passthrough.flows import Refused, arrived_absolute, client_failed
from llm_passthrough.layer import install
from llm_passthrough.providers import Credential, Origin
from llm_passthrough.replies import refused
from llm_passthrough.seal import sign
from llm_passthrough.uploads import UploadStream
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, HttpStream
from mitmproxy.test import taddons
from pydantic import SecretStr

KEY = "sk-REAL-KEY-0123456789"
ORIGIN = Origin("http", "127.0.0.1", 9000)
BUFFER = 1000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

type Hook = Callable[[http.HTTPFlow], None]


def signed(flow: http.HTTPFlow, origin: Origin = ORIGIN) -> None:
    """What the gateway does to a request that may go."""
    request = flow.request
    credential = Credential(b"Authorization", b"Bearer {key}")
    fields = request.headers.fields
    request.headers = sign(fields, origin, credential, SecretStr(KEY), "[openai/main]")
    request.data.authority = b""
    request.data.scheme, request.data.host, request.data.port = b"http", "127.0.0.1", 9000


def refuses(flow: http.HTTPFlow) -> None:
    flow.response = refused(Refusal("no_route", "say which"), "openai", "id", flow.request.method)


def nothing(flow: http.HTTPFlow) -> None:
    """Decides nothing."""


class Proxy:
    """One client's connection: what the hooks were, what went to whom, whom it dialled."""

    def __init__(self, sign: Hook = signed, **hooks: Hook) -> None:
        self.hooks = hooks | {"passthrough_sign": sign}
        self.called: list[str] = []
        self.flows: list[http.HTTPFlow] = []
        self.dialled: list[Server] = []
        self.dial_error: str | None = None
        self.out: dict[Connection, bytes] = {}
        self.client = Client(
            peername=("127.0.0.1", 1), sockname=("127.0.0.1", 8080), timestamp_start=0.0
        )
        self.client.state = ConnectionState.OPEN
        with taddons.context(Proxyserver()) as context:
            self._layer = HttpLayer(Context(self.client, context.options), HTTPMode.regular)
        self._run(events.Start())

    def says(self, data: bytes) -> None:
        """The client sends."""
        self._run(events.DataReceived(self.client, data))

    def leaves(self) -> None:
        """The client hangs up."""
        self.client.state = ConnectionState.CLOSED
        self._run(events.ConnectionClosed(self.client))

    def answers(self, data: bytes) -> None:
        """The upstream sends."""
        self._run(events.DataReceived(self.dialled[-1], data))

    def hangs_up(self) -> None:
        """The upstream ends its connection."""
        self.dialled[-1].state = ConnectionState.CLOSED
        self._run(events.ConnectionClosed(self.dialled[-1]))

    @property
    def heard(self) -> bytes:
        """What the client got."""
        return self.out.get(self.client, b"")

    @property
    def sent(self) -> bytes:
        """What upstreams got."""
        return b"".join(data for where, data in self.out.items() if where is not self.client)

    @property
    def statuses(self) -> list[int]:
        return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+)", self.heard)]

    def _run(self, event: events.Event) -> None:
        waiting = [event]
        while waiting:
            for command in self._layer.handle_event(waiting.pop(0)):
                waiting.extend(self._obey(command))

    def _obey(self, command: commands.Command) -> Iterator[events.Event]:
        if isinstance(command, commands.StartHook):
            (flow,) = command.args()
            self.called.append(command.name)
            if flow not in self.flows:
                self.flows.append(flow)
            self.hooks.get(command.name, nothing)(flow)
            if command.blocking:
                yield events.HookCompleted(command, None)
        elif isinstance(command, commands.OpenConnection):
            server = command.connection
            assert isinstance(server, Server)
            self.dialled.append(server)
            if self.dial_error is None:
                server.state = ConnectionState.OPEN
            else:
                server.error = self.dial_error
            yield events.OpenConnectionCompleted(command, self.dial_error)
        elif isinstance(command, commands.SendData):
            self.out[command.connection] = self.out.get(command.connection, b"") + command.data
        elif isinstance(command, commands.CloseConnection):
            command.connection.state = ConnectionState.CLOSED


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    buffered = UploadStream.request_buffer
    install(Limits(request_buffer=BUFFER))
    yield
    UploadStream.request_buffer = buffered


def ask(body: bytes = b"{}", *headers: str, path: str = "/own/v1/x", method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost:8080", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKED = b"POST /own/v1/x HTTP/1.1\r\nHost: localhost:8080\r\nTransfer-Encoding: chunked\r\n\r\n"


# -- the verdict ---------------------------------------------------------------------------------


def test_a_signed_request_leaves_with_its_key_and_the_flow_never_shows_it() -> None:
    proxy = Proxy()
    proxy.says(ask())
    assert b"Authorization: Bearer " + KEY.encode() in proxy.sent
    assert proxy.sent.endswith(b"\r\n\r\n{}")
    assert KEY not in str(proxy.flows[0].get_state())
    proxy.answers(OK)
    assert proxy.heard == OK


def test_the_verdict_is_the_last_word_before_a_connection_is_made() -> None:
    proxy = Proxy()
    proxy.says(ask())
    assert proxy.called == ["requestheaders", "request", "passthrough_sign"]
    assert len(proxy.dialled) == 1


def _to_another_origin(flow: http.HTTPFlow) -> None:
    signed(flow, Origin("http", "127.0.0.1", 9001))


def _plain_headers_after_signing(flow: http.HTTPFlow) -> None:
    signed(flow)
    flow.request.headers = http.Headers(flow.request.headers.fields)


def _moved_after_signing(flow: http.HTTPFlow) -> None:
    signed(flow)
    flow.request.port = 6666


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(nothing, id="no verdict"),
        pytest.param(_plain_headers_after_signing, id="headers that are not sealed"),
        pytest.param(_to_another_origin, id="a seal for another origin"),
        pytest.param(_moved_after_signing, id="moved after it was signed"),
    ],
)
def test_nothing_leaves_that_was_not_cleared_for_where_it_goes(sign: Hook) -> None:
    proxy = Proxy(sign)
    proxy.says(ask())
    assert proxy.sent == b""
    assert proxy.statuses == [502]
    assert KEY.encode() not in proxy.heard


def test_what_a_person_killed_does_not_leave() -> None:
    proxy = Proxy(request=lambda flow: flow.kill())
    proxy.says(ask())
    assert proxy.sent == b""
    assert proxy.client.state is ConnectionState.CLOSED


async def test_a_seal_that_cannot_be_opened_is_an_error_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(flow: http.HTTPFlow) -> None:
        signed(flow)
        flow.request.headers.seal = KEY  # type: ignore[attr-defined]

    proxy = Proxy(broken)
    proxy.says(ask())
    assert proxy.sent == b""
    assert proxy.statuses == [502]
    assert "AttributeError while a seal was opened" in caplog.text
    assert KEY not in caplog.text


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["requestheaders", "request", "passthrough_sign"])
def test_a_refused_request_is_answered_and_the_connection_serves_the_next_one(when: str) -> None:
    proxy = Proxy(**{"sign" if when == "passthrough_sign" else when: refuses})
    proxy.says(ask())
    assert proxy.statuses == [404]
    assert b"say which" in proxy.heard
    proxy.hooks[when] = signed if when == "passthrough_sign" else nothing
    proxy.says(ask())
    proxy.answers(OK)
    assert proxy.statuses == [404, 200]
    assert proxy.sent.count(b"POST ") == 1


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        pytest.param(ask(b"x" * 5000)[:-5000], b"x" * 5000, id="with a length"),
        pytest.param(CHUNKED, chunk(b"x" * 5000) + b"0\r\n\r\n", id="chunked"),
    ],
)
def test_who_is_refused_by_his_head_hears_it_before_he_sends_his_body(
    head: bytes, rest: bytes
) -> None:
    proxy = Proxy(requestheaders=refuses)
    proxy.says(head)
    assert proxy.statuses == [404]
    for at in range(0, len(rest), 700):
        proxy.says(rest[at : at + 700])
    assert proxy.client.state is ConnectionState.OPEN
    proxy.hooks["requestheaders"] = nothing
    proxy.says(ask())
    proxy.answers(OK)
    assert proxy.statuses == [404, 200]


def test_an_error_is_told_as_the_refusal_that_the_flow_holds_not_as_a_page() -> None:
    proxy = Proxy(error=refuses)
    proxy.dial_error = "refused"
    proxy.says(ask())
    assert proxy.statuses == [404]
    assert b"say which" in proxy.heard
    assert b"<html" not in proxy.heard


def test_an_answer_that_could_not_be_looked_at_is_replaced_and_its_upstream_ended() -> None:
    proxy = Proxy(responseheaders=refuses)
    proxy.says(ask())
    proxy.answers(OK[:-2])
    proxy.answers(b"{}")
    assert proxy.statuses == [404]
    assert proxy.dialled[0].state is ConnectionState.CLOSED
    assert b"200" not in proxy.heard


def test_a_begun_answer_is_not_followed_by_a_refusal() -> None:
    def streams(flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.stream = True

    proxy = Proxy(responseheaders=streams, error=refuses)
    proxy.says(ask())
    proxy.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    proxy.hangs_up()
    assert proxy.statuses == [200]
    assert proxy.heard.endswith(b"half")
    assert proxy.client.state is ConnectionState.CLOSED


def test_after_an_invitation_to_send_a_body_an_error_is_still_told() -> None:
    proxy = Proxy(error=refuses)
    proxy.dial_error = "refused"
    proxy.says(ask(b"{}", "Expect: 100-continue")[:-2])
    assert proxy.statuses == [100]
    proxy.says(b"{}")
    assert proxy.statuses == [100, 404]


# -- bodies --------------------------------------------------------------------------------------


def test_a_body_up_to_the_limit_leaves_when_it_is_whole() -> None:
    proxy = Proxy()
    whole = ask(b"x" * BUFFER)
    proxy.says(whole[:-1])
    assert proxy.dialled == []
    proxy.says(whole[-1:])
    assert proxy.sent.endswith(b"x" * BUFFER)


@pytest.mark.parametrize(
    ("head", "first", "last"),
    [
        pytest.param(ask(b"x" * 3000)[:-3000], b"x" * 1500, b"x" * 1500, id="with a length"),
        pytest.param(
            CHUNKED, chunk(b"x" * 600) + chunk(b"x" * 900), chunk(b"x" * 1500) + b"0\r\n\r\n",
            id="chunked",
        ),
    ],
)  # fmt: skip
def test_a_longer_body_is_on_its_way_before_it_is_whole(
    head: bytes, first: bytes, last: bytes
) -> None:
    proxy = Proxy()
    proxy.says(head)
    proxy.says(first)
    assert proxy.sent.count(b"x") >= 1500
    proxy.says(last)
    proxy.answers(OK)
    assert proxy.sent.count(b"x") >= 3000
    assert proxy.statuses == [200]
    assert proxy.flows[0].request.stream


def test_a_body_that_turns_out_too_long_for_who_is_refused_is_dropped() -> None:
    proxy = Proxy(refuses)
    body = b"x" * 4000
    proxy.says(ask(body)[:-2000])
    assert proxy.statuses == [404]
    proxy.says(body[:2000])
    proxy.hooks["passthrough_sign"] = signed
    proxy.says(ask())
    assert proxy.sent.endswith(b"{}")
    assert b"xx" not in proxy.sent


def test_an_early_answer_with_a_hang_up_lets_the_client_finish_his_upload() -> None:
    proxy = Proxy()
    body = b"x" * 4000
    proxy.says(ask(body)[:-2000])
    proxy.answers(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
    proxy.hangs_up()
    assert proxy.statuses == [413]
    assert "error" not in proxy.called
    proxy.says(body[:2000])
    proxy.says(ask())
    assert len(proxy.dialled) == 2
    proxy.answers(OK)
    assert proxy.statuses == [413, 200]


def test_an_upstream_that_hangs_up_inside_an_upload_without_a_word_has_failed() -> None:
    proxy = Proxy(error=refuses)
    proxy.says(ask(b"x" * 4000)[:-2000])
    proxy.hangs_up()
    assert proxy.statuses == [404]
    assert "error" in proxy.called


# -- connections ---------------------------------------------------------------------------------


def test_an_upstream_that_could_not_be_reached_is_dialled_again() -> None:
    proxy = Proxy(error=refuses)
    proxy.dial_error = "refused"
    proxy.says(ask())
    proxy.dial_error = None
    proxy.says(ask())
    proxy.answers(OK)
    assert proxy.statuses == [404, 200]
    assert len(proxy.dialled) == 2


def test_a_client_who_leaves_is_known_to_have_left() -> None:
    gone, there = Proxy(), Proxy(error=refuses)
    for proxy in (gone, there):
        proxy.says(ask())
    gone.leaves()
    there.hangs_up()
    assert client_failed(gone.flows[0])
    assert not client_failed(there.flows[0])
    assert gone.dialled[0].state is ConnectionState.CLOSED


@pytest.mark.parametrize(
    ("target", "absolute"),
    [
        pytest.param("/own/v1/x", False, id="a path"),
        pytest.param("http://localhost:8080/own/v1/x", True, id="a URL"),
    ],
)
def test_the_form_of_a_target_is_remembered(target: str, absolute: bool) -> None:
    found = []
    proxy = Proxy(requestheaders=lambda flow: found.append(arrived_absolute(flow.request)))
    proxy.says(ask(path=target))
    assert found == [absolute]
    assert proxy.sent.startswith(b"POST /own/v1/x HTTP/1.1\r\n")


# -- start ---------------------------------------------------------------------------------------


@contextmanager
def _other(owner: type, name: str, value: object, patch: pytest.MonkeyPatch) -> Iterator[None]:
    with patch.context() as changed:
        changed.setattr(owner, name, value)
        yield


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        pytest.param(HttpLayer, "make_stream", None, id="no streams are made"),
        pytest.param(HttpLayer, "make_stream", lambda self, ident: iter(()), id="made otherwise"),
        pytest.param(HttpStream, "make_server_connection", None, id="no place to ask"),
        pytest.param(HttpStream, "flow_done", None, id="no end of a flow"),
    ],
)
def test_a_mitmproxy_that_is_built_otherwise_is_not_started_with(
    owner: type, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        _other(owner, name, value, monkeypatch),
        pytest.raises(RuntimeError, match="is not one that this gateway knows"),
    ):
        install(Limits(request_buffer=BUFFER))


def test_a_new_limit_holds_from_the_next_request_on() -> None:
    proxy = Proxy()
    install(Limits(request_buffer=10))
    proxy.says(ask(b"x" * 100)[:-50])
    assert proxy.sent.count(b"x") >= 50


def test_our_own_answers_are_told_from_the_providers() -> None:
    assert isinstance(refused(Refusal("no_route", ""), "openai", "id", "GET"), Refused)
    assert not isinstance(http.Response.make(200), Refused)
    assert layer.PassthroughSignHook.name == "passthrough_sign"
