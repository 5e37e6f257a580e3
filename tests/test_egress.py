"""Egress: only this machine connects to us, and only a request's own origin is dialled."""

import pytest
from llm_passthrough.egress import Egress
from llm_passthrough.exchange import Exchange
from llm_passthrough.providers import Origin
from llm_passthrough.tunnels import Tunnels
from llm_passthrough.wire import strip
from mitmproxy.connection import Client, Server
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import taddons, tflow
from mitmproxy.tls import TlsData

TLS = Origin("https", "api.test", 443)
PLAIN = Origin("http", "127.0.0.1", 9000)


class Clock:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def client(address: str = "127.0.0.1") -> Client:
    return Client(peername=(address, 50_000), sockname=("127.0.0.1", 8080))


def exchange(origin: Origin | None) -> Exchange:
    one = Exchange("1", 0.0, 0.0, "POST", b"/x", strip((), b"/x"))
    one.origin = origin
    return one


def dial(egress: Egress, who: Client, address: tuple[str, int], tls: bool) -> Server:
    server = Server(address=address, tls=tls)
    egress.server_connect(ServerConnectionHookData(server, who))
    return server


@pytest.mark.parametrize(
    ("address", "served"),
    [
        pytest.param("127.0.0.1", True, id="loopback"),
        pytest.param("127.8.9.10", True, id="all of 127/8"),
        pytest.param("::1", True, id="IPv6 loopback"),
        pytest.param("::ffff:127.0.0.1", True, id="loopback in IPv6"),
        pytest.param("192.168.1.7", False, id="the local network"),
        pytest.param("::ffff:10.0.0.1", False, id="another machine in IPv6"),
        pytest.param("fe80::1%eth0", False, id="link-local"),
        pytest.param("", False, id="nobody"),
        pytest.param("nonsense", False, id="no address"),
    ],
)
def test_only_this_machine_is_served(address: str, served: bool) -> None:
    who = client(address)
    Egress(Clock(), Tunnels()).client_connected(who)
    assert (who.error is None) is served


def test_where_everybody_names_itself_other_machines_may_connect() -> None:
    who = client("192.168.1.7")
    Egress(Clock(), Tunnels(), lambda: True).client_connected(who)
    assert who.error is None


def test_a_client_without_an_address_is_not_served() -> None:
    who = client()
    who.peername = ()  # type: ignore[assignment]
    Egress(Clock(), Tunnels()).client_connected(who)
    assert who.error


@pytest.mark.parametrize(
    ("origin", "address", "tls", "allowed"),
    [
        pytest.param(TLS, ("api.test", 443), True, True, id="its origin"),
        pytest.param(PLAIN, ("127.0.0.1", 9000), False, True, id="its origin in clear"),
        pytest.param(TLS, ("api.test", 443), False, False, id="without TLS"),
        pytest.param(TLS, ("api.test", 8443), True, False, id="another port"),
        pytest.param(TLS, ("evil.test", 443), True, False, id="another host"),
        pytest.param(TLS, ("API.test", 443), True, False, id="another spelling"),
        pytest.param(None, ("api.test", 443), True, False, id="nothing is signed yet"),
    ],
)
def test_only_what_a_request_is_signed_for_is_dialled(
    origin: Origin | None, address: tuple[str, int], tls: bool, allowed: bool
) -> None:
    egress, who = Egress(Clock(), Tunnels()), client()
    egress.allow(who, exchange(origin))
    server = dial(egress, who, address, tls)
    assert (server.error is None) is allowed


@pytest.mark.parametrize("end", ["withdraw", "client_disconnected"])
def test_a_request_that_is_over_allows_nothing_any_more(end: str) -> None:
    egress, who = Egress(Clock(), Tunnels()), client()
    egress.allow(who, exchange(TLS))
    getattr(egress, end)(who)
    assert dial(egress, who, ("api.test", 443), True).error


def test_one_client_may_not_dial_what_another_ones_request_is_signed_for() -> None:
    egress, mine, other = Egress(Clock(), Tunnels()), client(), client()
    egress.allow(mine, exchange(TLS))
    assert dial(egress, other, ("api.test", 443), True).error
    assert dial(egress, mine, ("api.test", 443), True).error is None


def test_the_next_request_of_a_connection_is_for_its_own_origin() -> None:
    egress, who = Egress(Clock(), Tunnels()), client()
    egress.allow(who, exchange(TLS))
    egress.allow(who, exchange(PLAIN))
    assert dial(egress, who, ("api.test", 443), True).error
    assert dial(egress, who, ("127.0.0.1", 9000), False).error is None


async def _connected(egress: Egress, who: Client, server: Server) -> None:
    with taddons.context() as context:
        context.master.addons.add(_Proxyserver())
        egress.server_connected(ServerConnectionHookData(server, who))


class _Proxyserver:
    """mitmproxy's addon by name and by what is asked of it, with no open connection."""

    name = "proxyserver"

    def __init__(self) -> None:
        self.connections: dict[str, object] = {}


async def test_connecting_has_its_own_deadline_and_ends_with_the_connection() -> None:
    clock = Clock()
    egress, who, one = Egress(clock, Tunnels()), client(), exchange(PLAIN)
    egress.allow(who, one)
    clock.now = 1.0
    server = dial(egress, who, ("127.0.0.1", 9000), False)
    assert (one.waiting_for, one.since) == ("connect", 1.0)
    clock.now = 3.0
    await _connected(egress, who, server)
    assert (one.waiting_for, one.since) == ("first_byte", 3.0)
    assert (one.connect, one.tls) == (2.0, None)


async def test_with_tls_the_handshake_belongs_to_connecting() -> None:
    clock = Clock()
    egress, who, one = Egress(clock, Tunnels()), client(), exchange(TLS)
    egress.allow(who, one)
    server = dial(egress, who, ("api.test", 443), True)
    clock.now = 2.0
    await _connected(egress, who, server)
    assert (one.waiting_for, one.since) == ("connect", 0.0)
    clock.now = 5.0
    egress.tls_established_server(TlsData(server, Context(who, Options())))
    assert (one.waiting_for, one.since) == ("first_byte", 5.0)
    assert (one.connect, one.tls) == (2.0, 3.0)


async def test_a_connection_that_is_not_open_can_be_hung_up_without_harm() -> None:
    with taddons.context() as context:
        context.master.addons.add(_Proxyserver())
        Egress(Clock(), Tunnels()).hang_up(tflow.tflow())


async def test_hanging_up_ends_the_connection_that_is_being_made() -> None:
    """While it is dialled a flow does not yet name its new server."""

    class Handle:
        ended = ""

        def cancel(self, why: str) -> None:
            Handle.ended = why

    class Io:
        handler = Handle()

    class Handler:
        transports: dict[Server, Io]

    egress, flow = Egress(Clock(), Tunnels()), tflow.tflow()
    egress.allow(flow.client_conn, exchange(TLS))
    dialled = dial(egress, flow.client_conn, ("api.test", 443), True)
    handler, proxyserver = Handler(), _Proxyserver()
    handler.transports = {dialled: Io()}
    proxyserver.connections[flow.client_conn.id] = handler
    with taddons.context() as context:
        context.master.addons.add(proxyserver)
        egress.hang_up(flow)
    assert Handle.ended == "deadline"
