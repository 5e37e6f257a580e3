"""A TLS session is taken up again for the origin that it was verified for, and for nothing else."""

import contextlib
import datetime
import gc
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from live.authorities import Authority
from llm_passthrough.providers import Origin
from llm_passthrough.resumption import Resumption
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.certs import Cert
from mitmproxy.connection import Client, Server
from mitmproxy.net.server_spec import ServerSpec
from mitmproxy.net.tls import create_proxy_server_context
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import taddons, tflow
from mitmproxy.tls import TlsData
from OpenSSL import SSL

NAME, OTHER = "api.test", "other.test"
ORIGIN = Origin("https", NAME, 443)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), (NAME, OTHER))


@pytest.fixture
def far(authority: Authority) -> ssl.SSLContext:
    """A provider."""
    return authority.server_context((NAME, OTHER))


def handshake(conn: SSL.Connection, context: ssl.SSLContext) -> ssl.SSLObject:
    """The provider's end of a connection on which an answer has come. Raises SSL.Error."""
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    far = context.wrap_bio(inward, outward, server_side=True)
    made = [False, False]
    for _ in range(4):
        for end, step in enumerate((conn.do_handshake, far.do_handshake)):
            try:
                step()
                made[end] = True
            except (SSL.WantReadError, ssl.SSLWantReadError):
                pass
            carry(conn, inward, outward)
    assert all(made)
    far.write(b"HTTP/1.1 200 OK\r\n\r\n")
    carry(conn, inward, outward)
    assert conn.recv(65536)
    return far


def carry(conn: SSL.Connection, inward: ssl.MemoryBIO, outward: ssl.MemoryBIO) -> None:
    with contextlib.suppress(SSL.WantReadError):
        inward.write(conn.bio_read(65536))
    if data := outward.read():
        conn.bio_write(data)


def certificate(minutes: int) -> Cert:
    """One that is valid for so long."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(minutes=minutes))
    return Cert(builder.sign(key, hashes.SHA256()))


class Near:
    """Our side: mitmproxy's addon that makes TLS connections, and behind it ours."""

    def __init__(self, options: taddons.context, tls: TlsConfig, authority: Authority) -> None:
        self.now = 0.0
        self.origin: Origin | None = ORIGIN
        self.options, self.tls, self.authority = options, tls, authority
        self.resumption = Resumption(lambda: self.now, lambda client: self.origin)

    def set(self, **options: object) -> None:
        self.options.configure(self.tls, **options)

    def begin(self, at: Origin = ORIGIN, via: ServerSpec | None = None) -> TlsData:
        """A connection, before its handshake."""
        client = Client(peername=("127.0.0.1", 50_000), sockname=("127.0.0.1", 8080))
        server = Server(address=(at.host, at.port), sni=at.host, via=via)
        data = TlsData(server, Context(client, Options()))
        self.tls.tls_start_server(data)
        self.resumption.tls_start_server(data)
        return data

    def visit(self, far: ssl.SSLContext, at: Origin = ORIGIN, **more: ServerSpec) -> bool | None:
        """One call on a connection of its own: whether its session was another's; None where the
        handshake failed. As mitmproxy does it, without a word at the end."""
        data = self.begin(at, **more)
        assert data.ssl_conn
        assert isinstance(data.conn, Server)
        gone = ServerConnectionHookData(data.conn, data.context.client)
        try:
            end = handshake(data.ssl_conn, far)
        except SSL.Error:
            self.resumption.tls_failed_server(data)
            self.resumption.server_disconnected(gone)
            return None
        self.answered(data)
        self.resumption.server_disconnected(gone)
        return end.session_reused

    def answered(self, data: TlsData, chain: list[Cert] | None = None) -> None:
        """What mitmproxy tells of a connection whose handshake is over and that is used."""
        assert data.ssl_conn
        if chain is None:
            chain = [
                Cert.from_pyopenssl(cert) for cert in data.ssl_conn.get_peer_cert_chain() or []
            ]
        data.conn.certificate_list = chain
        self.resumption.tls_established_server(data)
        flow = tflow.tflow(resp=True)
        assert isinstance(data.conn, Server)
        flow.server_conn = data.conn
        self.resumption.responseheaders(flow)


@pytest.fixture
def near(authority: Authority) -> Iterator[Near]:
    create_proxy_server_context.cache_clear()
    tls = TlsConfig()
    with taddons.context(tls) as options:
        near = Near(options, tls, authority)
        near.set(ssl_verify_upstream_trusted_ca=str(authority.ca_file))
        yield near


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_next_connection_takes_up_the_session(
    near: Near, far: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    far.maximum_version = version
    assert [near.visit(far) for _ in range(4)] == [False, True, True, True]


def test_a_session_outlives_its_connection(near: Near, far: ssl.SSLContext) -> None:
    """mitmproxy lets go of connections without a word, and OpenSSL of their sessions with them."""
    found = []
    for _ in range(3):
        found.append(near.visit(far))
        gc.collect()
    assert found == [False, True, True]


def test_what_is_said_on_a_connection_that_is_over_is_let_go(
    near: Near, far: ssl.SSLContext
) -> None:
    data = near.begin()
    assert data.ssl_conn
    handshake(data.ssl_conn, far)
    near.answered(data)
    assert isinstance(data.conn, Server)
    near.resumption.server_disconnected(ServerConnectionHookData(data.conn, data.context.client))
    data.ssl_conn.sendall(b"late")
    with pytest.raises(SSL.WantReadError):
        data.ssl_conn.bio_read(1)


def test_a_session_is_offered_once(near: Near, far: ssl.SSLContext) -> None:
    near.visit(far)
    first, second = near.begin(), near.begin()
    assert first.ssl_conn
    assert second.ssl_conn
    assert handshake(second.ssl_conn, far).session_reused is False
    assert handshake(first.ssl_conn, far).session_reused is True


def test_an_answer_tells_no_more_than_the_one_before_it(near: Near, far: ssl.SSLContext) -> None:
    """Or a connection that is used a thousand times would be all that is kept."""
    data = near.begin()
    assert data.ssl_conn
    handshake(data.ssl_conn, far)
    for _ in range(3):
        near.answered(data)
    assert [near.begin().ssl_conn.get_session() is None for _ in range(2)] == [False, True]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("at", "origin"),
    [
        pytest.param(Origin("https", OTHER, 443), None, id="another name at the same address"),
        pytest.param(Origin("https", NAME, 8443), None, id="another port"),
        pytest.param(ORIGIN, Origin("https", OTHER, 443), id="not where the request may go"),
        pytest.param(ORIGIN, Origin("http", NAME, 443), id="a request that is for plain HTTP"),
        pytest.param(ORIGIN, "nobody", id="no request of ours"),
    ],
)
def test_a_session_is_for_one_origin(
    near: Near, far: ssl.SSLContext, at: Origin, origin: Origin | str | None
) -> None:
    near.visit(far)
    near.origin = None if isinstance(origin, str) else origin or at
    assert near.visit(far, at) is False
    near.origin = ORIGIN
    assert near.visit(far) is True  # it lies where it lay


def test_a_session_is_not_for_a_connection_through_another_proxy(
    near: Near, far: ssl.SSLContext
) -> None:
    near.visit(far)
    assert near.visit(far, via=("https", ("proxy.test", 443))) is False


@pytest.mark.parametrize(
    ("names", "days"),
    [
        pytest.param((OTHER,), 1, id="of another name"),
        pytest.param((NAME,), -1, id="that has expired"),
        pytest.param(None, 1, id="of an unknown authority"),
    ],
)
def test_somebody_else_at_the_same_address_is_found_out_and_ends_what_is_kept(
    near: Near, far: ssl.SSLContext, tmp_path: Path, names: tuple[str, ...] | None, days: int
) -> None:
    strange = near.authority.server_context(names, days) if names else Authority(tmp_path).context
    near.visit(far)
    data = near.begin()
    assert data.ssl_conn
    assert data.ssl_conn.get_session() is not None
    with pytest.raises(SSL.Error):
        handshake(data.ssl_conn, strange)
    near.visit(far)
    assert near.visit(strange) is None
    assert near.visit(far) is False


def test_what_nobody_verified_is_not_kept(near: Near, far: ssl.SSLContext, tmp_path: Path) -> None:
    strange = Authority(tmp_path, (NAME,)).context
    near.set(ssl_insecure=True)
    assert [near.visit(strange), near.visit(strange)] == [False, False]
    near.set(ssl_insecure=False)
    assert near.visit(strange) is None


@pytest.mark.parametrize(
    "option",
    [
        pytest.param("ssl_insecure", id="what is verified"),
        pytest.param("ssl_verify_upstream_trusted_ca", id="who is trusted"),
        pytest.param("ssl_verify_upstream_trusted_confdir", id="who is trusted, a folder"),
        pytest.param("client_certs", id="who we are"),
        pytest.param("tls_version_server_min", id="what is spoken"),
    ],
)
def test_an_option_about_certificates_that_changes_ends_what_is_kept(
    near: Near, far: ssl.SSLContext, option: str
) -> None:
    near.visit(far)
    near.resumption.configure({"listen_port"})
    assert near.visit(far) is True
    near.resumption.configure({option, "listen_port"})
    assert near.visit(far) is False


def test_other_authorities_are_others_sessions(
    near: Near, far: ssl.SSLContext, tmp_path: Path
) -> None:
    """Even where nobody was told of the change."""
    near.visit(far)
    near.set(ssl_verify_upstream_trusted_ca=str(Authority(tmp_path).ca_file))
    assert near.visit(far) is None


def test_connections_of_before_bring_nothing_behind_a_reload(
    near: Near, far: ssl.SSLContext
) -> None:
    near.visit(far)
    data = near.begin()
    assert data.ssl_conn
    handshake(data.ssl_conn, far)
    near.resumption.forget()
    near.answered(data)
    assert near.visit(far) is False


def test_a_certificate_is_looked_at_again_after_an_hour(near: Near, far: ssl.SSLContext) -> None:
    """However often its session was handed on."""
    found = []
    for near.now in (0, 3000, 3500, 3700, 6000, 7400):
        found.append(near.visit(far))
    assert found == [False, True, True, False, True, False]


@pytest.mark.parametrize(
    ("minutes", "later", "resumed"),
    [
        pytest.param([10], 500, True, id="while its certificate is valid"),
        pytest.param([10], 700, False, id="not beyond"),
        pytest.param([1000], 3700, False, id="nor for longer than an hour"),
        pytest.param([], 0, False, id="nor where nobody can say for how long"),
    ],
)
def test_a_session_does_not_outlive_its_certificate(
    near: Near, far: ssl.SSLContext, minutes: list[int], later: float, resumed: bool
) -> None:
    data = near.begin()
    assert data.ssl_conn
    handshake(data.ssl_conn, far)
    near.answered(data, [certificate(number) for number in minutes])
    near.now = later
    assert near.visit(far) is resumed


def test_few_sessions_of_an_origin_are_kept(near: Near, far: ssl.SSLContext) -> None:
    many = [near.begin() for _ in range(40)]
    for data in many:
        assert data.ssl_conn
        handshake(data.ssl_conn, far)
        near.answered(data)
    offered = [near.begin().ssl_conn for _ in range(40)]
    assert sum(conn is not None and conn.get_session() is not None for conn in offered) == 32


def test_few_origins_are_remembered_and_the_oldest_is_forgotten(
    near: Near, far: ssl.SSLContext
) -> None:
    for port in range(1, 34):
        near.origin = Origin("https", NAME, port)
        assert near.visit(far, near.origin) is False
    found = []
    for port in (1, 2):
        near.origin = Origin("https", NAME, port)
        found.append(near.visit(far, near.origin))
    assert found == [False, False]  # the second gave way to the first, who came back
    near.origin = Origin("https", NAME, 33)
    assert near.visit(far, near.origin) is True
