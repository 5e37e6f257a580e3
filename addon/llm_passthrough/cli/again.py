"""Sends a request to a running gateway, and hears its answer out to the last byte."""

import base64
import contextlib
import http.client
import json
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from llm_passthrough.dialects import reader
from llm_passthrough.exchange import new_id
from llm_passthrough.listen import Ear
from llm_passthrough.record import Body, Facts, Fault, Outcome
from llm_passthrough.resend import Resend, ResendError

_CONNECT = 10.0
# Longer than the gateway itself waits for a provider that thinks.
_SILENCE = 900.0
_PIECE = 1 << 16
_LONGEST = 64 << 20
_SHAPES = {"anthropic": "anthropic", "gemini": "google", "vertex": "google"}
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class NoGatewayError(Exception):
    """No gateway answers there: one line with the mend."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway is."""

    url: SplitResult

    @classmethod
    def of(cls, url: str) -> "Place":
        """The place of a URL. Raises NoGatewayError for what is none."""
        parts = urlsplit(url)
        with contextlib.suppress(ValueError):
            if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
                return cls(parts)
        raise NoGatewayError("--gateway must be a URL such as http://127.0.0.1:8080")

    @property
    def name(self) -> str:
        """Its URL without a path."""
        return f"{self.url.scheme}://{self.url.netloc}"

    def connected(self) -> http.client.HTTPConnection:
        """A connection to it. Raises NoGatewayError."""
        is_tls, host = self.url.scheme == "https", self.url.hostname or ""
        kind = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
        connection = kind(host, self.url.port or (443 if is_tls else 80), timeout=_CONNECT)
        try:
            connection.connect()
        except OSError as error:
            raise NoGatewayError(
                f"no gateway at {self.name}: {error.strerror or error}; "
                "start one (llm-passthrough serve), or name it with --gateway"
            ) from None
        return connection

    def check(self) -> None:
        """No stranger gets a prompt: NoGatewayError where it is no gateway."""
        connection = self.connected()
        try:
            connection.request("GET", "/health")
            health = json.loads(connection.getresponse().read())
            is_ours = {"status", "providers", "log"} <= set(health)
        except (OSError, http.client.HTTPException, ValueError, TypeError):
            is_ours = False
        finally:
            connection.close()
        if not is_ours:
            raise NoGatewayError(
                f"what answers at {self.url.netloc} is no llm-passthrough gateway; "
                "name it with --gateway"
            )


def ask(place: Place, made: Resend, control: dict[str, str], token: str, provider: str) -> Facts:
    """Send a request and read its answer to the end: what can be known of it on this side.

    `control` are x-passthrough-* headers, `token` is what a client says who it is, or empty.
    Raises NoGatewayError, ResendError.
    """
    started, at = time.time(), time.monotonic()
    connection = place.connected()
    connection.sock.settimeout(_SILENCE)
    facts = Facts(
        id=new_id(),
        started=started,
        at=at,
        method=made.method,
        client_path=made.path.encode("latin-1", "replace"),
        path=made.path.encode("latin-1", "replace"),
        url=made.target if made.host else f"{place.name}{made.path}",
        provider=provider,
        body_limit=_LONGEST,
        request_headers=made.fields,
        request=Body(made.body, len(made.body)),
        shape=_SHAPES.get(provider, "openai"),
        secrets=(token,) if token else (),
    )
    try:
        _send(connection, place, made, {**control, **_naming(made, token)})
        _hear(connection.getresponse(), facts)
    except (http.client.HTTPException, OSError) as error:
        facts.outcome = "upstream_abort"
        facts.fault = Fault(
            "connection", f"the answer broke off: {type(error).__name__}", "gateway"
        )
    finally:
        connection.close()
    facts.total = time.monotonic() - at
    return facts


def _naming(made: Resend, token: str) -> dict[str, str]:
    """How a client says who it is: as a key on a prefix, as a proxy's user for a host."""
    if not token:
        return {}
    if made.host is None:
        return {"Authorization": f"Bearer {token}"}
    user = base64.b64encode(f"{token}:".encode()).decode()
    return {"Proxy-Authorization": f"Basic {user}"}


def _send(
    connection: http.client.HTTPConnection, place: Place, made: Resend, more: dict[str, str]
) -> None:
    try:
        connection.putrequest(made.method, made.target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", made.host or place.url.netloc.rpartition("@")[2])
        for name, value in made.fields:
            connection.putheader(name.decode("latin-1"), value)
        for key, text in more.items():
            connection.putheader(key, text)
        if made.body or made.method in _WITH_BODY:
            connection.putheader("Content-Length", str(len(made.body)))
    except ValueError:  # UnicodeError and http.client.InvalidURL too
        raise ResendError("its path or a header cannot be sent as it was recorded") from None
    # Who refuses a long body does so before its end: the answer is there all the same.
    with contextlib.suppress(ConnectionError):
        connection.endheaders(made.body or None)


def _hear(answer: http.client.HTTPResponse, facts: Facts) -> None:
    """Note the answer in `facts`, also when it breaks off."""
    facts.status, facts.first_byte = answer.status, time.monotonic() - facts.at
    pairs = answer.getheaders()
    facts.response_headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs
    ]
    names = {name.lower(): value for name, value in reversed(pairs)}
    facts.outcome = _outcome(answer.status, names)
    kind = names.get("content-type", "")
    lowered = [(name.lower(), value) for name, value in pairs]
    found = reader(facts.path, facts.provider, facts.shape, kind, answer.status, lowered)
    ear = Ear(found, names.get("content-encoding")) if found else None
    body = bytearray()
    try:
        while chunk := answer.read1(_PIECE):
            body += chunk
            if ear is not None:
                ear(chunk, time.monotonic())
    finally:
        facts.response = Body(bytes(body), len(body))
        facts.reading = ear.end() if ear else None


def _outcome(status: int, names: dict[str, str]) -> Outcome:
    if "x-passthrough-error" in names:
        return "refused"
    return "upstream_error" if status >= 400 else "ok"
