"""Resumption: a TLS session with a provider is taken up again where its certificate was verified.

Each connection of a client brings a connection to an upstream of its own. One that takes up the
session of another (RFC 8446 2.2, RFC 5077) is made without certificates and signatures: it is the
same peer, as nobody else can know the session's secret. That it is the peer that the certificate
was verified for by that very name, is on us:

* A session is offered only where all is as it was when the certificate was verified: mitmproxy's
  context (what is trusted, the client's certificate, the versions of TLS), address and name.
* It is taken from, and offered to, connections to the origin alone that the client's present
  request is signed for; never for a host that is only passed on to.
* What a session hands on was verified an hour ago at most, however often it is handed on, and its
  certificate has not expired.
* A handshake that fails, a configuration that is read again and an option about certificates that
  changes end all that is kept.

Nothing of a request is sent before the handshake is over (no early data). An addon at the end of
mitmproxy's list: it needs what `tlsconfig` has made.
"""

import datetime
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from mitmproxy import http
from mitmproxy.connection import Client, Connection, Server
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from llm_passthrough.guard import quiet, unraised
from llm_passthrough.providers import Origin

_LONGEST = 3600.0
"""Seconds after which a certificate is looked at again (RFC 8446 4.6.1)."""
_PLACES, _EACH = 32, 32
"""How many origins are remembered, and how many sessions of each: one serves one connection (RFC
8446 C.4), and leaves one behind, so that as many connections at once find theirs."""
# mitmproxy's options that say what is trusted, and how it is spoken with.
_OPTIONS = frozenset(
    "ssl_insecure ssl_verify_upstream_trusted_ca ssl_verify_upstream_trusted_confdir client_certs "
    "tls_version_server_min tls_version_server_max tls_ecdh_curve_server ciphers_server".split()
)

type _Place = tuple[SSL.Context, Origin]


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Link:
    """A connection to an upstream. `until` is when what was verified has to be verified again;
    None until it is known."""

    conn: SSL.Connection
    place: _Place
    until: float | None
    made: bool = False
    asked: bool = False


class Resumption:
    """The sessions that are kept. `origin` says where a client's present request may go."""

    name = "llm_passthrough_resumption"

    def __init__(
        self, clock: Callable[[], float], origin: Callable[[Client], Origin | None]
    ) -> None:
        self._clock = clock
        self._origin = origin
        self._kept: OrderedDict[_Place, list[tuple[SSL.Session, float]]] = OrderedDict()
        self._links: WeakKeyDictionary[Connection, _Link] = WeakKeyDictionary()

    def forget(self) -> None:
        """Keep nothing of what was verified before."""
        self._kept.clear()
        for link in self._links.values():
            link.asked = True

    # -- hooks ----------------------------------------------------------------------------------

    def configure(self, updated: set[str]) -> None:
        """What is trusted may be something else now."""
        if updated & _OPTIONS:
            self.forget()

    @unraised
    def tls_start_server(self, data: TlsData) -> None:
        """Offer a session, if one is kept."""
        place = self._place(data)
        if place is None or data.ssl_conn is None:
            return
        session, until = self._newest(place)
        if session is not None:
            data.ssl_conn.set_session(session)
        self._links[data.conn] = _Link(data.ssl_conn, place, until)

    @unraised
    def tls_established_server(self, data: TlsData) -> None:
        """The certificate was verified, now or before."""
        if link := self._links.get(data.conn):
            link.made = True
            if link.until is None:
                link.until = self._clock() + _left(data.conn)

    @unraised
    def tls_failed_server(self, data: TlsData) -> None:
        """Who is there may be somebody else."""
        if link := self._links.pop(data.conn, None):
            self._kept.pop(link.place, None)

    @quiet
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Keep the session of a connection that is of use: tickets come behind the handshake."""
        link = self._links.get(flow.server_conn)
        if link is not None and link.made and not link.asked:
            link.asked = True
            session = link.conn.get_session()
            if session is not None and link.until is not None:
                self._keep(link.place, session, link.until)

    @unraised
    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        """OpenSSL drops the session of a connection that goes without a word, as mitmproxy's do.

        That is no longer asked for (RFC 5246 7.2.1). What is still said on it is let go.
        """
        link = self._links.pop(data.server, None)
        if link is not None and link.made:
            link.conn.set_shutdown(SSL.SENT_SHUTDOWN)
            link.conn.sendall = lambda *_: 0  # type: ignore[method-assign]

    # -- how it is done -------------------------------------------------------------------------

    def _place(self, data: TlsData) -> _Place | None:
        """What a session is kept for; None for a connection that gets none."""
        conn, server = data.ssl_conn, data.conn
        origin = self._origin(data.context.client)
        if conn is None or origin is None or not isinstance(server, Server) or server.via:
            return None
        if not origin.is_at(server.address, True) or server.sni != origin.host:
            return None
        if not conn.get_verify_mode() & SSL.VERIFY_PEER:
            return None
        return conn.get_context(), origin

    def _newest(self, place: _Place) -> tuple[SSL.Session, float] | tuple[None, None]:
        kept, now = self._kept.get(place), self._clock()
        while kept:
            session, until = kept.pop()
            if now < until:
                return session, until
        return None, None

    def _keep(self, place: _Place, session: SSL.Session, until: float) -> None:
        kept = self._kept.setdefault(place, [])
        self._kept.move_to_end(place)
        kept.append((session, until))
        del kept[:-_EACH]
        if len(self._kept) > _PLACES:
            self._kept.popitem(last=False)


def _left(server: Connection) -> float:
    """For how many seconds a certificate that was just verified need not be looked at again."""
    if not server.certificate_list:
        return 0.0
    expires = server.certificate_list[0].notafter
    return min(_LONGEST, (expires - datetime.datetime.now(datetime.UTC)).total_seconds())
