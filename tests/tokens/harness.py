"""A token endpoint on loopback over real TLS that speaks as Entra ID, Google and IMDS speak.

One port takes TLS, plain HTTP, and CONNECT: as a proxy it is every host, so that the libraries can
be let loose on the names that they have built in. What reached it stands in `seen`.
"""

import contextlib
import datetime
import ipaddress
import json
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = (
    "localhost",
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "oauth2.googleapis.com",
    "sts.googleapis.com",
    "iamcredentials.googleapis.com",
    "cloudresourcemanager.googleapis.com",
)
TENANT = "72f988bf-0000-4000-8000-2d7cd011db47"


class Authority:
    """A certificate authority and one server certificate, as strict clients want them."""

    def __init__(self, folder: Path) -> None:
        key, name = _key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "token tests")])
        public = key.public_key()
        basic = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        ca = (
            _builder(name, name, public)
            .add_extension(basic, critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(_pem(ca.sign(key, hashes.SHA256())))
        own, subject = _key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAMES[0])])
        names = [x509.DNSName(host) for host in NAMES]
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        server = (
            _builder(subject, name, own.public_key())
            .add_extension(x509.SubjectAlternativeName([*names, address]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(issuer, critical=False)
        )
        private = own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file = folder / "server.pem"
        file.write_bytes(_pem(server.sign(key, hashes.SHA256())) + private)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(file)


@dataclass(frozen=True)
class Seen:
    """A request that came: `form` is the body's fields, or those of the query."""

    host: str
    path: str
    form: dict[str, Any]
    headers: dict[str, str]


@dataclass
class TokenServer:
    """The endpoint. Its answers are set by the fields below while it runs.

    `failure` is status, content type and body for each request for a token; `gate` has to be open
    before one is answered; the n-th token is `<kind>-access-token-<n>`.
    """

    authority: Authority
    lifetime: int = 3600
    failure: tuple[int, str, str] | None = None
    extra_headers: tuple[tuple[str, str], ...] = ()
    seen: list[Seen] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    _made: int = 0

    def __post_init__(self) -> None:
        self.gate.set()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def plain_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_requests(self) -> list[Seen]:
        return [seen for seen in self.seen if _made(seen.path) is not None]

    def stop(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """As new, for the next test."""
        self.seen.clear()
        self.gate.set()
        self.asked.clear()
        self.lifetime, self.failure, self.extra_headers, self._made = 3600, None, (), 0

    def answer(self, seen: Seen) -> tuple[int, str, str]:
        with self._lock:
            self.seen.append(seen)
        shape = _made(seen.path)
        if shape is None:
            return _about(seen)
        self.asked.set()
        self.gate.wait(60)
        if self.failure is not None:
            return self.failure
        with self._lock:
            self._made += 1
            number = self._made
        kind, make = shape
        return 200, "application/json", json.dumps(make(f"{kind}-{number}", self.lifetime))


def _entra(token: str, lifetime: int) -> dict[str, Any]:
    """https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow"""
    return {
        "token_type": "Bearer",
        "expires_in": lifetime,
        "ext_expires_in": lifetime,
        "access_token": token,
    }


def _managed(token: str, lifetime: int) -> dict[str, Any]:
    """https://learn.microsoft.com/azure/app-service/overview-managed-identity"""
    return {
        "access_token": token,
        "expires_on": str(int(time.time()) + lifetime),
        "resource": "https://cognitiveservices.azure.com",
        "token_type": "Bearer",
        "client_id": "11111111-0000-4000-8000-000000000001",
    }


def _google(token: str, lifetime: int) -> dict[str, Any]:
    """https://developers.google.com/identity/protocols/oauth2/service-account"""
    return {"access_token": token, "expires_in": lifetime, "token_type": "Bearer"}


def _sts(token: str, lifetime: int) -> dict[str, Any]:
    """https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token"""
    kind = "urn:ietf:params:oauth:token-type:access_token"
    return _google(token, lifetime) | {"issued_token_type": kind}


def _impersonated(token: str, lifetime: int) -> dict[str, Any]:
    """https://cloud.google.com/iam/docs/reference/credentials/rest (generateAccessToken)"""
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=lifetime)
    return {"accessToken": token, "expireTime": end.strftime("%Y-%m-%dT%H:%M:%SZ")}


_SHAPES: tuple[tuple[str, str, Callable[[str, int], dict[str, Any]]], ...] = (
    (r"/[\w.-]+/oauth2/v2\.0/token", "entra-access-token", _entra),
    (r"/msi/token", "managed-access-token", _managed),
    (r"/token", "google-access-token", _google),
    (r"/v1/token", "sts-access-token", _sts),
    (r"/v1/projects/-/serviceAccounts/[^:/]+:generateAccessToken", "iam-token", _impersonated),
    (r"/computeMetadata/v1/instance/service-accounts/[^/]+/token", "metadata-token", _google),
)


def _made(path: str) -> tuple[str, Callable[[str, int], dict[str, Any]]] | None:
    return next(((kind, make) for form, kind, make in _SHAPES if re.fullmatch(form, path)), None)


def _about(seen: Seen) -> tuple[int, str, str]:
    """What stands around the token endpoints: discovery (OpenID Connect), metadata."""
    base = f"https://{seen.host}"
    document: dict[str, Any]
    if match := re.fullmatch(r"/([\w.-]+)/v2\.0/\.well-known/openid-configuration", seen.path):
        tenant = f"{base}/{match[1]}"
        document = {
            "issuer": f"{tenant}/v2.0",
            "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{tenant}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{tenant}/oauth2/v2.0/devicecode",
            "jwks_uri": f"{tenant}/discovery/v2.0/keys",
        }
        return 200, "application/json", json.dumps(document)
    if seen.path == "/common/discovery/instance":
        host = seen.host.split(":")[0]
        names = {"preferred_network": host, "preferred_cache": host, "aliases": [host]}
        document = {
            "tenant_discovery_endpoint": f"{base}/{TENANT}/v2.0/.well-known/openid-configuration",
            "api-version": "1.1",
            "metadata": [names],
        }
        return 200, "application/json", json.dumps(document)
    if seen.path.startswith("/computeMetadata/v1/instance/service-accounts/"):
        document = {"email": "vm@p.iam.gserviceaccount.com", "scopes": ["cloud-platform"]}
        return 200, "application/json", json.dumps(document)
    if seen.path in ("/", "/computeMetadata/v1/project/project-id"):
        return 200, "text/plain", "my-project-1"
    return 404, "application/json", json.dumps({"error": "not_found"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: TokenServer) -> None:
        super().__init__(address, _Handler)
        self.owner = owner

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(60)
        with contextlib.suppress(OSError):
            if request.recv(1, socket.MSG_PEEK) == b"C":
                _connect(request)
            if request.recv(1, socket.MSG_PEEK) == b"\x16":
                request = self.owner.authority.context.wrap_socket(request, server_side=True)
            _Handler(request, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no fault of a test."""


def _connect(sock: socket.socket) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (byte := sock.recv(1)):
            raise ConnectionError("the client left within its CONNECT")
        head += byte
    sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        url = urlsplit(self.path)
        pairs = parse_qs(body or url.query)
        seen = Seen(
            self.headers.get("host", ""),
            url.path,
            _fields(body) or {name: values[0] for name, values in pairs.items()},
            {name.lower(): value for name, value in self.headers.items()},
        )
        status, kind, text = self.server.owner.answer(seen)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.send_header("Metadata-Flavor", "Google")
        for name, value in self.server.owner.extra_headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it would be the tests' own noise on stderr."""


def _fields(body: str) -> dict[str, Any]:
    return dict(json.loads(body)) if body.startswith("{") else {}


class Clock:
    """A clock that is moved by hand; it starts where the libraries' own clock stands."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Records(logging.Handler):
    """Every log record, with all that hangs on it, as text."""

    def __init__(self) -> None:
        super().__init__(level=logging.NOTSET)
        self.texts: list[str] = []
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.names.append(record.name)
        self.texts.append(f"{logging.Formatter().format(record)} {record.__dict__!r}")


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
