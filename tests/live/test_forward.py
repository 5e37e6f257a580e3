"""Clients that know us as their proxy only: the same providers, keys and records as by a prefix.

Names are led to loopback inside the gateway's own process; nothing leaves this machine.
"""

import base64
import contextlib
import json
import socket
import ssl
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from llm_passthrough.cli import clients_file
from websockets.sync.client import connect

from live.authorities import NAMES, Authority
from live.harness import CLIENT_KEY, KEYS, Gateway, Provider, Upstream, Wire, credentials, status_of
from live.oracles import Listener, Oracles

TOKEN = "client-token-0123456789abcdef"
GROQ_KEY = "gsk-REAL-KEY-0123456789"
OTHER, REBIND = "other.test", "rebind.test"
ALL_NAMES = (*NAMES, "api.groq.com", OTHER)
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}


def addon(folder: Path, port: int) -> Path:
    """A script for mitmproxy under which provider names lead to `port`, and others where this
    table says; what is dialled stands in `dialled.txt`."""
    file = folder / "names.py"
    source = f"""
        import asyncio, socket
        NAMES, PORT = {ALL_NAMES!r}, {port}
        RESOLVED = {{
            "{OTHER}": "127.0.0.1", "{OTHER.upper()}": "127.0.0.1",
            "{REBIND}": "93.184.216.34", "private.test": "10.1.2.3",
            "metadata.google.internal": "169.254.169.254", "self.test": "127.0.0.1",
            "public.test": "93.184.216.34",
        }}
        dial, resolve = asyncio.open_connection, socket.getaddrinfo
        async def open_connection(host=None, port=None, **kw):
            with open({str(folder / "dialled.txt")!r}, "a") as log:
                log.write(f"{{host}}:{{port}}\\n")
            if host in NAMES and port == 443:
                return await dial("127.0.0.1", PORT, **kw)
            if host == "{REBIND}":
                return await dial("127.0.0.1", port, **kw)
            if host in ("{OTHER}", "{OTHER.upper()}", "localhost") or str(host).startswith("127."):
                return await dial(host, port, **kw)
            raise socket.gaierror(-2, "Name or service not known")
        def getaddrinfo(host, *args, **kw):
            host = host.decode() if isinstance(host, bytes) else host
            return resolve(RESOLVED.get(host, host), *args, **kw)
        asyncio.open_connection, socket.getaddrinfo = open_connection, getaddrinfo
    """
    file.write_text(textwrap.dedent(source))
    return file


def config(**more: Any) -> dict[str, Any]:
    """Keys for all providers, at their own hosts."""
    providers: dict[str, Any] = {
        name: {"keys": [{"name": f"{name}-main", "value": value}]} for name, value in KEYS.items()
    }
    providers["azure"]["keys"][0]["azure_key_config"] = {
        "endpoint": "https://my-resource.openai.azure.com"
    }
    groq = {
        "prefix": "/groq",
        "upstream": "https://api.groq.com/openai",
        "keys": [{"name": "groq-main", "value": GROQ_KEY}],
    }
    return {"providers": providers, "routes": [groq]} | more


def own_address() -> str | None:
    """An address of this machine's that is not loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing
        found = str(probe.getsockname()[0])
        return None if found.startswith("127.") else found
    return None


class Desk:
    """A gateway as a proxy, the providers behind TLS, and somebody who should not be reached."""

    def __init__(self, folder: Path, **more: Any) -> None:
        folder.mkdir(parents=True)
        self.authority = Authority(folder, ALL_NAMES)
        self.provider = Provider(ssl_context=self.authority.context)
        self.evil = Listener("127.0.0.66")
        self.folder = folder
        args = ("-s", str(addon(folder, self.provider.port)))
        args += ("--set", f"ssl_verify_upstream_trusted_ca={self.authority.ca_file}")
        self.gateway = Gateway(folder / "gateway", config(**more), args=args)
        self.trust = ssl.create_default_context(
            cafile=self.gateway.folder / "mitm" / "mitmproxy-ca-cert.pem"
        )
        self.oracles = Oracles(
            self.gateway,
            (self.provider,),
            self.evil,
            None,
            keys=KEYS | {"groq": GROQ_KEY},
            clients=(CLIENT_KEY, TOKEN),
        )

    def client(self, **more: Any) -> httpx.Client:
        """A client that knows the proxy only."""
        return httpx.Client(proxy=self.gateway.url, verify=self.trust, timeout=20, **more)

    def connect(self, target: str, *headers: str) -> tuple[Wire, bytes]:
        """CONNECT, and the head of the answer."""
        wire = Wire.to(self.gateway.port)
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", *headers, "", ""]
        wire.send("\r\n".join(lines).encode())
        return wire, wire.until(b"\r\n\r\n")

    def inside(self, host: str, *headers: str, sni: str | None = None) -> Wire:
        """A TLS connection through a tunnel to port 443 of a host."""
        wire, head = self.connect(f"{host}:443", *headers)
        assert status_of(head) == 200
        context = ssl.create_default_context(
            cafile=self.gateway.folder / "mitm" / "mitmproxy-ca-cert.pem"
        )
        context.check_hostname = sni is None
        name = host if sni is None else sni or None
        return Wire(context.wrap_socket(wire.sock, server_hostname=name))

    def dialled(self) -> list[str]:
        file = self.folder / "dialled.txt"
        return file.read_text().split() if file.exists() else []

    def stop(self) -> None:
        self.gateway.stop()
        self.provider.stop()
        self.evil.stop()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """As it comes, but that one host may be private."""
    desk = Desk(tmp_path_factory.mktemp("forward") / "a", forward={"allow_private": [OTHER]})
    yield desk
    desk.stop()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """With clients that have to name themselves, other hosts opened, plain HTTP upgraded."""
    forward = {"other": "inspect", "plain_http": "upgrade", "allow_private": [OTHER]}
    clients = [{"name": "alice", "tokens": [TOKEN]}]
    listen = {"host": "0.0.0.0", "allowed_hosts": [own_address() or "x.test"]}
    more = {"forward": forward, "clients": clients, "listen": listen}
    desk = Desk(tmp_path_factory.mktemp("forward") / "b", **more)
    yield desk
    desk.stop()


# -- the hosts that we stand for ------------------------------------------------------------------

BEARER = {"Authorization": f"Bearer {CLIENT_KEY}"}
GEMINI = {"contents": [{"parts": [{"text": "hello"}]}]}
CLAUDE = {"model": "claude-haiku-4-5", "max_tokens": 20} | {"messages": CHAT["messages"]}
EXPRESS = "/v1beta1/publishers/google/models/gemini-2.5-flash:generateContent"


@pytest.mark.parametrize(
    ("url", "body", "provider", "signed"),
    [
        pytest.param(
            "https://api.openai.com/v1/chat/completions", CHAT,
            "openai", ("authorization", f"Bearer {KEYS['openai']}"), id="openai",
        ),
        pytest.param(
            "https://api.anthropic.com/v1/messages?beta=true", CLAUDE,
            "anthropic", ("x-api-key", KEYS["anthropic"]), id="anthropic",
        ),
        pytest.param(
            "https://my-resource.openai.azure.com/openai/deployments/gpt-4o/chat/completions"
            "?api-version=2024-10-21", CHAT,
            "azure", ("api-key", KEYS["azure"]), id="azure",
        ),
        pytest.param(
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
            GEMINI, "gemini", ("x-goog-api-key", KEYS["gemini"]), id="gemini",
        ),
        pytest.param(
            f"https://aiplatform.googleapis.com{EXPRESS}", GEMINI,
            "vertex", ("x-goog-api-key", KEYS["vertex"]), id="vertex",
        ),
        pytest.param(
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1"
            "/publishers/google/models/gemini-2.5-flash:generateContent", GEMINI,
            "vertex", ("x-goog-api-key", KEYS["vertex"]), id="vertex in a region",
        ),
        pytest.param(
            "https://api.groq.com/openai/v1/chat/completions", CHAT,
            "groq", ("authorization", f"Bearer {GROQ_KEY}"), id="a route of the configuration",
        ),
    ],
)  # fmt: skip
def test_a_request_to_a_provider_gets_our_key_and_a_record(
    desk: Desk, url: str, body: Any, provider: str, signed: tuple[str, str]
) -> None:
    """C01."""
    desk.oracles.mark()
    with desk.client() as client:
        answer = client.post(url, json=body, headers=BEARER)
    assert answer.status_code == 200, answer.text
    (seen,) = desk.oracles.new()
    host, _, target = url.removeprefix("https://").partition("/")
    assert seen.target == f"/{target}"
    assert json.loads(seen.body) == body
    assert credentials(seen.headers) == [signed]
    assert dict(seen.headers)["Host"] == host
    (record,) = desk.oracles.new_records(1)
    assert (record["route"], record["provider"]) == (f"host:{host}", provider)
    assert (record["detected_by"], record["outcome"]) == ("host", "ok")
    assert record["request"]["url"] == url
    assert record["usage"]["input_tokens"] > 0
    desk.oracles.check(answer.content)


def test_the_stock_openai_sdk_works_without_a_key_and_without_a_base_url(desk: Desk) -> None:
    openai = pytest.importorskip("openai")
    desk.oracles.mark()
    with desk.client() as http, openai.OpenAI(api_key="none", http_client=http) as client:
        answer = client.chat.completions.create(**CHAT)
        pieces = list(client.chat.completions.create(**CHAT, stream=True))
    assert answer.choices[0].message.content
    assert len(pieces) > 2
    assert [r["stream"] for r in desk.oracles.new_records(2)] == [False, True]
    desk.oracles.check()


def test_a_realtime_conversation_goes_through_a_tunnel(desk: Desk) -> None:
    desk.oracles.mark()
    with connect(
        "wss://api.openai.com/v1/realtime?model=gpt-realtime",
        proxy=desk.gateway.url,
        ssl=desk.trust,
        additional_headers=BEARER,
        subprotocols=["realtime", f"openai-insecure-api-key.{CLIENT_KEY}"],  # type: ignore[list-item]
    ) as wire:
        item = {"type": "message", "role": "user"}
        item |= {"content": [{"type": "input_text", "text": "hello"}]}
        wire.send(json.dumps({"type": "conversation.item.create", "item": item}))
        wire.send(json.dumps({"type": "response.create"}))
        while json.loads(wire.recv(timeout=10))["type"] != "response.done":
            pass
    turn, own = desk.oracles.new_records(2)
    for record in (turn, own):
        assert (record["route"], record["operation"]) == ("host:api.openai.com", "realtime")
    assert turn["usage"]["output_tokens"] > 0
    assert own["usage"] is None
    desk.oracles.check()


def test_a_provider_gets_the_path_as_the_client_wrote_it(desk: Desk) -> None:
    target = "/dashboard/%2F//x?a=1&a=%20&b"
    desk.oracles.mark()
    with desk.inside("api.openai.com") as wire:
        wire.send(f"GET {target} HTTP/1.1\r\nHost: api.openai.com\r\n\r\n".encode())
        wire.message()
    assert desk.oracles.new()[0].target == target
    desk.oracles.check(records=1)


@pytest.mark.parametrize(
    ("host", "sni"),
    [
        pytest.param("evil.test", None, id="another Host"),
        pytest.param("api.anthropic.com", None, id="another provider's Host"),
        pytest.param("api.openai.com", "evil.test", id="another SNI"),
        pytest.param("api.openai.com", "API.OpenAI.com", id="an SNI in capitals"),
        pytest.param("api.openai.com", "", id="no SNI"),
        pytest.param("API.OPENAI.COM:443", "api.anthropic.com", id="both"),
    ],
)
def test_whatever_name_stands_inside_a_tunnel_its_own_host_gets_the_request(
    desk: Desk, host: str, sni: str | None
) -> None:
    """C03, C12."""
    desk.oracles.mark()
    dialled = len(desk.dialled())
    with desk.inside("api.openai.com", sni=sni) as wire:
        wire.send(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head, _ = wire.message()
    assert status_of(head) == 200
    (seen,) = desk.oracles.new()
    assert dict(seen.headers)["Host"] == "api.openai.com"
    assert credentials(seen.headers) == [("authorization", f"Bearer {KEYS['openai']}")]
    assert desk.dialled()[dialled:] == ["api.openai.com:443"]
    desk.oracles.check(head, 1)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        pytest.param("GET https://evil.test/x", 400, id="a URL"),
        pytest.param("GET https://api.openai.com/v1/models", 400, id="its own URL"),
        pytest.param("CONNECT api.openai.com:443", 400, id="a tunnel in a tunnel"),
        pytest.param("GET /a/../b", 400, id="dots"),
        pytest.param("TRACE /v1/models", 405, id="a method"),
    ],
)
def test_inside_a_tunnel_a_request_names_a_path(desk: Desk, line: str, status: int) -> None:
    """C05, C11."""
    desk.oracles.mark()
    with desk.inside("api.openai.com") as wire:
        wire.send(f"{line} HTTP/1.1\r\nHost: api.openai.com\r\n\r\n".encode())
        head = wire.until(b"\r\n\r\n")
    assert status_of(head) == status
    assert not desk.oracles.new()
    desk.oracles.check(head)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\n\r\n", id="plain HTTP"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", id="SSH"),
        pytest.param(b"\x00\x01\x02\x03\r\n\r\n", id="bytes"),
    ],
)
def test_what_is_not_encrypted_in_a_tunnel_to_a_provider_goes_nowhere(
    desk: Desk, data: bytes
) -> None:
    """C09."""
    desk.oracles.mark()
    dialled = desk.dialled()
    wire, head = desk.connect("api.openai.com:443")
    assert status_of(head) == 200
    with wire:
        wire.send(data)
        with contextlib.suppress(OSError):
            wire.sock.shutdown(socket.SHUT_WR)
        answer = wire.rest()
    assert not answer or status_of(answer) in (400, 403)
    assert desk.dialled() == dialled
    desk.oracles.check(answer)


def test_a_tunnel_speaks_http_1_alone(desk: Desk) -> None:
    wire, _ = desk.connect("api.openai.com:443")
    context = ssl.create_default_context(
        cafile=desk.gateway.folder / "mitm" / "mitmproxy-ca-cert.pem"
    )
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(wire.sock, server_hostname="api.openai.com") as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"


def test_a_page_of_another_origin_cannot_spend_keys_through_the_proxy(desk: Desk) -> None:
    desk.oracles.mark()
    with desk.client() as client:
        answer = client.post(
            "https://api.openai.com/v1/chat/completions",
            json=CHAT,
            headers={"Origin": "https://evil.test"},
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
    assert not desk.oracles.new()
    desk.oracles.check(answer.content, 1)


# -- absolute-form --------------------------------------------------------------------------------


def absolute(desk: Desk, url: str, *headers: str) -> bytes:
    host = url.partition("://")[2].partition("/")[0]
    lines = [f"GET {url} HTTP/1.1", f"Host: {host}", *headers, "Connection: close", "", ""]
    with Wire.to(desk.gateway.port) as wire:
        wire.send("\r\n".join(lines).encode())
        return wire.rest()


def test_our_own_prefixes_may_be_asked_for_through_the_proxy(desk: Desk) -> None:
    desk.oracles.mark()
    url = f"http://127.0.0.1:{desk.gateway.port}/openai_passthrough/v1/models"
    answer = absolute(desk, url, f"Authorization: Bearer {CLIENT_KEY}")
    assert status_of(answer) == 200
    (record,) = desk.oracles.new_records(1)
    assert record["route"] == "/openai_passthrough"
    desk.oracles.check(answer)


def test_our_own_port_may_be_asked_for_by_a_tunnel(desk: Desk) -> None:
    desk.oracles.mark()
    wire, head = desk.connect(f"localhost:{desk.gateway.port}")
    assert status_of(head) == 200
    with wire:
        wire.send(b"GET /openai_passthrough/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer, _ = wire.message()
    assert status_of(answer) == 200
    assert desk.oracles.new_records(1)[0]["route"] == "/openai_passthrough"
    desk.oracles.check(answer)


def test_plain_http_to_a_provider_is_refused_with_the_mend(desk: Desk) -> None:
    desk.oracles.mark()
    answer = absolute(desk, "http://api.openai.com/v1/models", f"X-Api-Key: {CLIENT_KEY}")
    assert status_of(answer) == 403
    assert b"forward.plain_http" in answer
    assert not desk.oracles.new()
    desk.oracles.check(answer, 1)


def test_plain_http_to_a_provider_goes_on_encrypted_where_that_is_configured(strict: Desk) -> None:
    strict.oracles.mark()
    proxy = "Proxy-Authorization: Basic " + base64.b64encode(f"x:{TOKEN}".encode()).decode()
    answer = absolute(strict, "http://api.openai.com/v1/models", proxy)
    assert status_of(answer) == 200
    (seen,) = strict.oracles.new()
    assert credentials(seen.headers) == [("authorization", f"Bearer {KEYS['openai']}")]
    assert strict.dialled()[-1] == "api.openai.com:443"
    strict.oracles.check(answer, 1)


def test_an_https_url_in_the_clear_is_sent_on_encrypted(desk: Desk) -> None:
    desk.oracles.mark()
    answer = absolute(desk, "https://api.openai.com/v1/models", f"X-Api-Key: {CLIENT_KEY}")
    assert status_of(answer) == 200
    assert desk.oracles.new_records(1)[0]["route"] == "host:api.openai.com"
    desk.oracles.check(answer)


# -- hosts that are nobody's that we know ---------------------------------------------------------

NOWHERE = [
    pytest.param("169.254.169.254:80", id="a cloud's metadata"),
    pytest.param("metadata.google.internal:80", id="its name"),
    pytest.param("[fd00:ec2::254]:80", id="IPv6 metadata"),
    pytest.param("168.63.129.16:80", id="Azure's host agent"),
    pytest.param("private.test:443", id="a name on a private network"),
    pytest.param("10.0.0.1:443", id="a private address"),
    pytest.param("192.168.1.1:443", id="another"),
    pytest.param("100.100.100.200:80", id="a shared address"),
    pytest.param("127.0.0.66:{EVIL}", id="loopback"),
    pytest.param("2130706498:{EVIL}", id="loopback as one number"),
    pytest.param("0x7f000042:{EVIL}", id="loopback in hex"),
    pytest.param("127.66:{EVIL}", id="loopback, short"),
    pytest.param("[::ffff:127.0.0.66]:{EVIL}", id="loopback in IPv6"),
    pytest.param("[64:ff9b::7f00:42]:{EVIL}", id="loopback by NAT64"),
    pytest.param("0.0.0.0:{EVIL}", id="any address"),
    pytest.param("localhost:{WEB}", id="mitmweb"),
    pytest.param("127.0.0.1:{WEB}", id="mitmweb by address"),
    pytest.param("127.0.0.2:{GW}", id="ourselves by another address"),
    pytest.param("self.test:{GW}", id="ourselves by another name"),
    pytest.param("127.1:{GW}", id="ourselves, short"),
    pytest.param(f"{OTHER}:{{GW}}", id="ourselves by a name that may be private"),
    pytest.param("224.0.0.1:80", id="multicast"),
    pytest.param("nowhere.invalid:443", id="no such host"),
    pytest.param("api.openai.com.evil.test:443", id="begins like a provider"),
    pytest.param("evil-aiplatform.googleapis.com.test:443", id="looks like Vertex"),
    pytest.param("api.openai.com:22", id="a provider's other port"),
    pytest.param("api.openai.com:80", id="its plain port"),
    pytest.param("api.openai.com:8443", id="one more"),
]


def filled(desk: Desk, place: str) -> str:
    ports = {"EVIL": desk.evil.port, "WEB": 8081, "GW": desk.gateway.port}
    return place.format(**ports)


@pytest.mark.parametrize("place", NOWHERE)
@pytest.mark.parametrize("form", ["CONNECT", "absolute"])
def test_no_proxy_client_gets_to_where_it_must_not(desk: Desk, place: str, form: str) -> None:
    """C08, D01, D03."""
    place = filled(desk, place)
    desk.oracles.mark()
    dialled = desk.dialled()
    if form == "CONNECT":
        wire, answer = desk.connect(place)
        wire.close()
    else:
        answer = absolute(desk, f"http://{place}/latest/meta-data/", f"Cookie: {CLIENT_KEY}")
    assert status_of(answer) in (403, 502), answer
    assert b"x-passthrough-error: " in answer
    assert desk.dialled() == dialled
    desk.oracles.check(answer, 1)


def other_server(desk: Desk, talk: Any) -> Upstream:
    """Somebody behind OTHER who speaks TLS with a certificate of the tests' own authority."""

    def serve(wire: Wire) -> None:
        talk(Wire(desk.authority.context.wrap_socket(wire.sock, server_side=True)))

    return Upstream(serve)


def echo(wire: Wire) -> None:
    head, body = wire.message()
    content = head + body
    answer = f"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: {len(content)}\r\n\r\n"
    wire.send(answer.encode() + content)


@pytest.mark.parametrize("name", [OTHER, OTHER.upper()])
def test_a_tunnel_to_another_host_is_not_opened_and_its_bytes_are_counted(
    desk: Desk, name: str
) -> None:
    upstream = other_server(desk, echo)
    desk.oracles.mark()
    wire, head = desk.connect(f"{name}:{upstream.port}")
    assert status_of(head) == 200
    trust = ssl.create_default_context(cafile=desk.authority.ca_file)  # its own certificate
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the tests' authority is a plain one
    with trust.wrap_socket(wire.sock, server_hostname=OTHER) as sock:
        sock.sendall(f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: {CLIENT_KEY}\r\n\r\n".encode())
        heard = Wire(sock).message()[1]
        assert CLIENT_KEY.encode() in heard  # the client's own, for whom it was meant
    upstream.stop()
    (record,) = desk.oracles.new_records(1)
    assert (record["route"], record["provider"], record["key"]) == (f"host:{OTHER}", None, None)
    assert (record["request"]["method"], record["outcome"]) == ("CONNECT", "ok")
    assert record["request"]["url"] == f"{OTHER}:{upstream.port}"
    assert record["request"]["bytes"] > 200
    assert record["response"]["bytes"] > 200
    assert (record["request"]["body"], record["request"]["headers"]) == (None, None)
    desk.oracles.check()


def test_a_name_that_leads_elsewhere_when_it_is_dialled_gets_nothing(desk: Desk) -> None:
    heard: list[bytes] = []
    upstream = Upstream(lambda wire: heard.append(wire.rest()))
    desk.oracles.mark()
    answer = absolute(desk, f"http://{REBIND}:{upstream.port}/", f"Cookie: {CLIENT_KEY}")
    assert status_of(answer) == 502
    wire, head = desk.connect(f"{REBIND}:{upstream.port}")
    with wire:
        wire.send(b"hello\r\n\r\n")
        assert b"HTTP/1.1 400 " in wire.rest()  # read as a request, and closed
    assert status_of(head) == 502  # the tunnel was allowed by its name, and led elsewhere
    upstream.stop()
    assert b"".join(heard) == b""
    assert len(desk.oracles.new_records(2)) == 2
    desk.oracles.check(answer)


def test_plain_http_to_another_host_goes_on_as_it_came_and_is_not_looked_at(desk: Desk) -> None:
    upstream = Upstream(echo)
    desk.oracles.mark()
    url = f"http://{OTHER}:{upstream.port}/a%2Fb?key={CLIENT_KEY}"
    answer = absolute(desk, url, f"Authorization: Bearer {CLIENT_KEY}", "X-Odd:  1", "Via: 1.1 x")
    upstream.stop()
    head, _, heard = answer.partition(b"\r\n\r\n")
    assert b"Set-Cookie: a=b" in head
    lines = heard.decode().splitlines()
    assert lines[0] == f"GET /a%2Fb?key={CLIENT_KEY} HTTP/1.1"
    assert f"Authorization: Bearer {CLIENT_KEY}" in lines
    assert "Via: 1.1 x" in lines
    assert f"Host: {OTHER}:{upstream.port}" in lines
    (record,) = desk.oracles.new_records(1)
    assert record["request"]["url"] == f"http://{OTHER}:{upstream.port}"
    assert record["request"]["headers"] is None
    desk.oracles.check()


# -- clients that have to name themselves; other hosts opened --------------------------------------


def basic(user: str, password: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param((), id="nothing"),
        pytest.param((basic("alice", "wrong"),), id="a wrong password"),
        pytest.param((f"Authorization: Bearer {TOKEN}",), id="a token that is for another place"),
        pytest.param(("Proxy-Authorization: Basic !",), id="no base64"),
    ],
)
def test_a_proxy_client_that_is_not_known_gets_407(strict: Desk, headers: tuple[str, ...]) -> None:
    strict.oracles.mark()
    wire, head = strict.connect("api.openai.com:443", *headers)
    wire.close()
    answer = absolute(strict, "http://api.openai.com/v1/models", *headers)
    for one in (head, answer):
        assert status_of(one) == 407
        assert b'proxy-authenticate: Basic realm="llm-passthrough"' in one
    assert not strict.oracles.new()
    strict.oracles.check(head + answer, 2)


def test_another_machine_may_come_in_with_a_token(strict: Desk) -> None:
    """D08: and without one it is refused."""
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    url = f"http://{address}:{strict.gateway.port}"
    strict.oracles.mark()
    models = "/openai_passthrough/v1/models"
    assert httpx.get(url + models).status_code == 401
    assert httpx.get(url + models, headers={"Authorization": TOKEN}).status_code == 200
    assert strict.oracles.new_records(2)[1]["client"] == "alice"
    for more in ("keys", "clients"):
        assert more in httpx.get(f"{strict.gateway.url}/health?{more}").json()
        assert more not in httpx.get(f"{url}/health?{more}").json()
    strict.oracles.check()


def test_a_prefix_client_that_is_not_known_gets_401(strict: Desk) -> None:
    strict.oracles.mark()
    answer = httpx.post(f"{strict.gateway.url}/openai_passthrough/v1/x", headers=BEARER, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unknown_client")
    strict.oracles.check(answer.content, 1)


@pytest.mark.parametrize("login", [("alice", TOKEN), (TOKEN, "")], ids=["password", "user"])
def test_a_known_client_is_named_in_the_record_and_its_token_goes_nowhere(
    strict: Desk, login: tuple[str, str]
) -> None:
    strict.oracles.mark()
    with strict.inside("api.openai.com", basic(*login)) as wire:
        wire.send(b"GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\n\r\n")
        head, _ = wire.message()
    assert status_of(head) == 200
    assert strict.oracles.new_records(1)[0]["client"] == "alice"
    strict.oracles.check(head)


def test_a_record_says_what_connecting_took_where_a_connection_was_made(desk: Desk) -> None:
    desk.oracles.mark()
    with desk.inside("api.openai.com") as wire:
        for _ in range(2):
            wire.send(b"GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\n\r\n")
            wire.message()
    first, second = (record["timing_ms"] for record in desk.oracles.new_records(2))
    assert first["connect"] > 0
    assert first["tls"] > 0
    assert first["gateway"] + first["connect"] + first["tls"] < first["total"]
    assert (second["connect"], second["tls"]) == (None, None)
    desk.oracles.check()


def test_another_host_may_be_opened_to_be_looked_at(strict: Desk) -> None:
    upstream = other_server(strict, echo)
    strict.oracles.mark()
    wire, head = strict.connect(f"{OTHER}:{upstream.port}", basic("alice", TOKEN))
    assert status_of(head) == 200
    with strict.trust.wrap_socket(wire.sock, server_hostname=OTHER) as sock:
        sock.sendall(
            b"POST /x?access_token=abcdefgh HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 2\r\n"
            + f"Cookie: c={CLIENT_KEY}\r\nX-Api-Key: {CLIENT_KEY}\r\n\r\n{{}}".encode()
        )
        heard = Wire(sock).message()[1].decode().splitlines()
    upstream.stop()
    assert heard[0] == "POST /x?access_token=abcdefgh HTTP/1.1"
    assert heard[1:5] == [
        f"Host: {OTHER}:{upstream.port}",
        "Content-Length: 2",
        f"Cookie: c={CLIENT_KEY}",
        f"X-Api-Key: {CLIENT_KEY}",
    ]
    assert TOKEN not in "".join(heard)
    (record,) = strict.oracles.new_records(1)
    assert (record["route"], record["provider"]) == (f"host:{OTHER}", None)
    assert record["request"]["url"].startswith(f"https://{OTHER}:{upstream.port}/x?access_token=")
    assert "abcdefgh" not in json.dumps(record)
    assert ["X-Api-Key", "[client/2]"] in record["request"]["headers"]
    strict.oracles.check()


def test_without_leave_an_opened_host_must_have_a_certificate_that_is_right(strict: Desk) -> None:
    context = strict.authority.server_context(("wrong.test",))
    upstream = Upstream(lambda wire: context.wrap_socket(wire.sock, server_side=True))
    strict.oracles.mark()
    wire, _ = strict.connect(f"{OTHER}:{upstream.port}", basic("alice", TOKEN))
    with strict.trust.wrap_socket(wire.sock, server_hostname=OTHER) as sock:
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: other.test\r\n\r\n")
        head, _ = Wire(sock).message()
    upstream.stop()
    assert status_of(head) == 502
    strict.oracles.check(head, 1)


def test_an_open_tunnel_is_of_no_use_to_a_client_that_is_no_more(strict: Desk) -> None:
    """Who is asked about each request inside is the client as it is configured then."""
    token, hashed = clients_file.new_token()
    file = strict.gateway.folder / "gateway.yaml"
    rules = {"routes": ["api.openai.com"], "models": ["gpt-4o"]}

    def add(clients: list[Any]) -> None:
        clients.append({"name": "short", "tokens": [hashed]} | rules)

    def until(status: bytes) -> None:
        while strict.connect("api.openai.com:443", basic("x", token))[1].split()[1] != status:
            time.sleep(0.1)

    clients_file.change(file, add)
    until(b"200")
    refused = strict.connect("api.anthropic.com:443", basic("x", token))[1]
    assert b"x-passthrough-error: route_denied" in refused
    with strict.inside("api.openai.com", basic("x", token)) as wire:

        def ask(model: str) -> bytes:
            body = json.dumps(CHAT | {"model": model}).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\n"
            wire.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            return wire.message()[0]

        assert status_of(ask("gpt-4o")) == 200
        assert b"x-passthrough-error: model_denied" in ask("gpt-4o-mini")
        clients_file.change(file, clients_file.remove("short"))
        until(b"407")
        assert b"x-passthrough-error: unknown_client" in ask("gpt-4o")
