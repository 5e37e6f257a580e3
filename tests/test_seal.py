"""Sealing: the key goes on the wire to one origin, and nowhere else."""

import copy
import io as stdio
import pickle
from collections.abc import Callable

import pytest
from llm_passthrough.providers import Credential, Origin
from llm_passthrough.redact import forms
from llm_passthrough.seal import Seal, Sealed, opened, pass_on, plain, sign
from llm_passthrough.wire import Fields
from mitmproxy import http, io
from mitmproxy.addons import export
from mitmproxy.connection import Server
from mitmproxy.net.http import http1
from mitmproxy.test import taddons, tflow
from pydantic import SecretBytes, SecretStr

KEY = "sk-REAL/KEY+0123456789=abc"
LABEL = "[openai/key-1]"
ORIGIN = Origin("https", "api.openai.com", 443)
PLAIN = Origin("http", "127.0.0.1", 9000)
BEARER = Credential(b"Authorization", b"Bearer {key}")
HOST: Fields = ((b"Host", b"gateway:8080"),)


def sealed(credential: Credential = BEARER, fields: Fields = HOST) -> Sealed:
    return sign(fields, ORIGIN, credential, SecretStr(KEY), LABEL)


def server(
    address: tuple[str, int] = ("api.openai.com", 443),
    *,
    tls: bool = True,
    made: bool = True,
    sni: str | None = "api.openai.com",
) -> Server:
    made_for = Server(address=address, tls=tls, sni=sni)
    made_for.timestamp_tls_setup = 1.0 if made else None
    return made_for


# -- sign ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "credential", "extra", "expected"),
    [
        pytest.param(
            [(b"A", b"1"), (b"hOST", b"gateway"), (b"B", b"2")],
            BEARER,
            [],
            [
                (b"A", b"1"),
                (b"hOST", b"api.openai.com"),
                (b"B", b"2"),
                (b"Authorization", b"Bearer [openai/key-1]"),
            ],
            id="Host is the origin's, in its place; the credential comes last",
        ),
        pytest.param(
            [(b"A", b"1")],
            Credential(b"x-api-key"),
            [],
            [(b"Host", b"api.openai.com"), (b"A", b"1"), (b"x-api-key", b"[openai/key-1]")],
            id="without a Host",
        ),
        pytest.param(
            [(b"x-team", b"client's"), (b"A", b"1")],
            BEARER,
            [(b"X-Team", b"ours")],
            [
                (b"Host", b"api.openai.com"),
                (b"A", b"1"),
                (b"X-Team", b"ours"),
                (b"Authorization", b"Bearer [openai/key-1]"),
            ],
            id="a header of the configuration stands in the client's place",
        ),
        pytest.param(
            [(b"openai_organization", b"org-CLI")],
            Credential(b"Authorization", b"Bearer {key}", ((b"OpenAI-Organization", b"org-1"),)),
            [],
            [
                (b"Host", b"api.openai.com"),
                (b"OpenAI-Organization", b"org-1"),
                (b"Authorization", b"Bearer [openai/key-1]"),
            ],
            id="the key's own account",
        ),
        pytest.param(
            [(b"X-My-Token", b"CLI"), (b"x_my_token", b"CLI")],
            Credential(b"X-My-Token"),
            [(b"x-my-token", b"from extra_headers")],
            [(b"Host", b"api.openai.com"), (b"X-My-Token", b"[openai/key-1]")],
            id="exactly one credential, whatever header a route sends it in",
        ),
        pytest.param(
            [(b"A", b"1")],
            None,
            [(b"B", b"2")],
            [(b"Host", b"api.openai.com"), (b"A", b"1"), (b"B", b"2")],
            id="a route without a key",
        ),
    ],
)
def test_signing_puts_on_the_host_the_extra_headers_and_one_credential(
    fields: list[tuple[bytes, bytes]],
    credential: Credential | None,
    extra: list[tuple[bytes, bytes]],
    expected: list[tuple[bytes, bytes]],
) -> None:
    secret = SecretStr(KEY) if credential else None
    headers = sign(tuple(fields), ORIGIN, credential, secret, LABEL, tuple(extra))
    assert list(headers.fields) == expected


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        pytest.param(Origin("http", "localhost", 9000), b"localhost:9000", id="a port of its own"),
        pytest.param(Origin("http", "::1", 80), b"[::1]", id="IPv6"),
    ],
)
def test_host_is_the_origins_authority(origin: Origin, host: bytes) -> None:
    assert sign((), origin, BEARER, SecretStr(KEY), LABEL).fields[0] == (b"Host", host)


# -- Sealed --------------------------------------------------------------------------------------


def test_the_key_is_written_once_for_the_connection_it_is_for() -> None:
    headers = sealed()
    shown = b"Host: api.openai.com\r\nAuthorization: Bearer [openai/key-1]\r\n"
    assert bytes(headers) == shown
    assert headers.unlock(server())
    assert bytes(headers) == (
        b"Host: api.openai.com\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
    )
    assert bytes(headers) == shown


def test_mitmproxy_writes_the_key_into_the_head_of_the_request() -> None:
    request = tflow.tflow().request
    request.headers = sealed(fields=((b"Host", b"x"), (b"content-length", b"7")))
    assert KEY.encode() not in http1.assemble_request_head(request)
    assert request.headers.unlock(server())
    assert b"Authorization: Bearer " + KEY.encode() in http1.assemble_request_head(request)
    assert KEY.encode() not in http1.assemble_request_head(request)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(server(("evil.test", 443)), id="another host"),
        pytest.param(server(("api.openai.com", 8443)), id="another port"),
        pytest.param(server(("API.openai.com", 443)), id="another spelling of the host"),
        pytest.param(server(tls=False), id="no TLS"),
        pytest.param(server(made=False), id="TLS is not established"),
        pytest.param(server(sni="evil.test"), id="another name in the handshake"),
        pytest.param(server(sni=None), id="no name in the handshake"),
    ],
)
def test_the_seal_holds_on_any_other_connection(wrong: Server) -> None:
    headers = sealed()
    assert not headers.unlock(wrong)
    assert KEY.encode() not in bytes(headers)


def test_the_seal_holds_behind_another_proxy() -> None:
    chained = server()
    chained.via = ("http", ("proxy.test", 3128))
    headers = sealed()
    assert not headers.unlock(chained)
    assert KEY.encode() not in bytes(headers)


def test_the_seal_holds_without_an_address() -> None:
    assert not sealed().unlock(Server(address=None))


def test_a_wrong_connection_takes_an_opened_seal_back() -> None:
    headers = sealed()
    assert headers.unlock(server())
    assert not headers.unlock(server(("evil.test", 443)))
    assert KEY.encode() not in bytes(headers)


@pytest.mark.parametrize(
    ("connection", "fits"),
    [
        pytest.param(server(("127.0.0.1", 9000), tls=False, made=False, sni=None), True, id="http"),
        pytest.param(server(("127.0.0.1", 9000)), False, id="TLS where none is expected"),
    ],
)
def test_a_plain_origin_takes_a_plain_connection(connection: Server, fits: bool) -> None:
    assert sign((), PLAIN, BEARER, SecretStr(KEY), LABEL).unlock(connection) is fits


def test_headers_without_a_credential_are_bound_to_their_origin_all_the_same() -> None:
    headers = sign(HOST, ORIGIN, None, None, LABEL)
    assert not headers.unlock(server(("evil.test", 443)))
    assert headers.unlock(server())
    assert bytes(headers) == b"Host: api.openai.com\r\n"


def test_headers_that_nobody_sealed_are_for_no_connection() -> None:
    headers = Sealed(HOST)
    assert not headers.unlock(server())
    assert bytes(headers) == b"Host: gateway:8080\r\n"


def test_a_client_who_knows_the_placeholder_gets_no_key_into_another_header() -> None:
    guesses = (
        (b"x-ms-client-request-id", LABEL.encode()),
        (b"User-Agent", b"Bearer [openai/key-1]"),
    )
    for credential in (BEARER, Credential(b"x-api-key")):
        headers = sealed(credential, (*HOST, *guesses))
        assert headers.unlock(server())
        assert bytes(headers).count(KEY.encode()) == 1
        assert b"x-ms-client-request-id: [openai/key-1]\r\n" in bytes(headers)


def test_a_header_that_mitmproxy_adds_after_signing_does_no_harm() -> None:
    headers = sealed()
    headers["Transfer-Encoding"] = "chunked"
    assert headers.unlock(server())
    assert bytes(headers).endswith(
        b"Authorization: Bearer " + KEY.encode() + b"\r\nTransfer-Encoding: chunked\r\n"
    )


def _saved(flow: http.HTTPFlow) -> str:
    file = stdio.BytesIO()
    io.FlowWriter(file).add(flow)
    return file.getvalue().decode("latin-1")


def _exported(flow: http.HTTPFlow, form: str) -> str:
    exporter = export.Export()
    with taddons.context(exporter):
        return exporter.export_str(form, flow)


def _backed_up(flow: http.HTTPFlow) -> str:
    flow.backup()
    flow.request.path = "/changed"
    flow.revert()
    return repr(flow.request.headers.fields) + str(flow.get_state())


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda flow: str(flow.request.headers.fields), id="the fields"),
        pytest.param(lambda flow: repr(flow.request.headers), id="repr"),
        pytest.param(lambda flow: str(dict(flow.request.headers.items(multi=True))), id="items"),
        pytest.param(lambda flow: str(vars(flow.request.headers)), id="vars"),
        pytest.param(lambda flow: str(flow.get_state()), id="the flow's state"),
        pytest.param(lambda flow: str(flow.copy().get_state()), id="a copied flow"),
        pytest.param(_backed_up, id="backup and revert"),
        pytest.param(_saved, id="a saved flow"),
        pytest.param(lambda flow: _exported(flow, "curl"), id="exported as curl"),
        pytest.param(lambda flow: _exported(flow, "httpie"), id="exported as httpie"),
        pytest.param(lambda flow: _exported(flow, "raw_request"), id="exported raw"),
        pytest.param(lambda flow: repr(flow), id="the flow's repr"),
    ],
)
def test_who_looks_at_a_flow_sees_the_placeholder(look: Callable[[http.HTTPFlow], str]) -> None:
    flow = tflow.tflow()
    flow.request.headers = headers = sealed()
    assert headers.unlock(server())
    text = look(flow)
    assert not [form for form in forms(KEY) if form in text]


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(copy.copy, id="copy.copy"),
        pytest.param(copy.deepcopy, id="copy.deepcopy"),
        pytest.param(lambda headers: headers.copy(), id="headers.copy()"),
        pytest.param(lambda headers: Sealed.from_state(headers.get_state()), id="from_state"),
        pytest.param(lambda headers: http.Headers(headers.fields), id="from its fields"),
    ],
)
def test_a_copy_holds_no_key(copied: Callable[[Sealed], http.Headers]) -> None:
    headers = sealed()
    assert headers.unlock(server())
    twin = copied(headers)
    assert twin.fields == headers.fields
    assert KEY.encode() not in bytes(twin)
    assert not isinstance(twin, Sealed) or not twin.unlock(server())


def test_sealed_headers_are_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(sealed())


def test_a_saved_flow_comes_back_with_the_placeholder() -> None:
    flow = tflow.tflow()
    flow.request.headers = sealed()
    file = stdio.BytesIO()
    io.FlowWriter(file).add(flow)
    file.seek(0)
    (loaded,) = io.FlowReader(file).stream()
    assert isinstance(loaded, http.HTTPFlow)
    assert loaded.request.headers["authorization"] == "Bearer [openai/key-1]"
    assert type(loaded.request.headers) is http.Headers


def test_a_seal_does_not_show_its_secret() -> None:
    seal = Seal(ORIGIN, ((b"x-api-key", b"[k]", SecretBytes(KEY.encode())),))
    assert KEY not in repr(seal)
    assert KEY not in str(seal)


def test_the_texts_for_the_redactor_are_the_configured_secrets() -> None:
    assert plain([SecretStr("one"), SecretStr("two")]) == ["one", "two"]


def test_the_command_line_gets_the_headers_with_their_secret() -> None:
    assert opened(sealed()) == {"Host": "api.openai.com", "Authorization": f"Bearer {KEY}"}
    assert opened(Sealed(HOST)) == {"Host": "gateway:8080"}


@pytest.mark.parametrize(
    ("key", "form"),
    [
        pytest.param("a{key}b", b"Bearer {key}", id="a key that looks like a form"),
        pytest.param("\\1\\g<0>", b"{key}", id="a key that looks like a replacement"),
        pytest.param("café", b"Bearer {key}", id="a key beyond ASCII goes as UTF-8"),
    ],
)
def test_a_key_is_put_in_as_it_is(key: str, form: bytes) -> None:
    headers = sign(HOST, ORIGIN, Credential(b"Authorization", form), SecretStr(key), LABEL)
    assert headers.unlock(server())
    sent = form.replace(b"{key}", key.encode())
    assert bytes(headers).endswith(b"Authorization: " + sent + b"\r\n")


# -- the client's own credentials, passed on -------------------------------------------------------

PASSED = (
    (b"Accept", b"*/*"),
    (b"Host", b"wrong.test"),
    (b"Cookie", b"a=CLIENT-1"),
    (b"X-Api-Key", b"CLIENT-2"),
    (b"cookie", b"b=CLIENT-3"),
    (b"Proxy-Authorization", b"Basic CLIENT-4"),
    (b"Connection", b"keep-alive, X-Hop"),
    (b"X-Hop", b"1"),
    (b"X-Passthrough-Capture", b"none"),
    (b"Via", b"1.1 x"),
)


def made_to(origin: Origin, peer: str) -> Server:
    server = Server(address=(origin.host, origin.port))
    server.peername = (peer, origin.port)
    server.timestamp_start = 1.0
    return server


def test_a_request_that_is_passed_on_shows_none_of_its_credentials_and_sends_them_all() -> None:
    origin = Origin("http", "other.test", 80)
    headers = pass_on(PASSED, origin, public=True)
    assert b"CLIENT" not in repr(headers.fields).encode()
    assert headers.unlock(made_to(origin, "93.184.216.34"))
    assert bytes(headers) == (
        b"Accept: */*\r\nHost: other.test\r\nCookie: a=CLIENT-1\r\nX-Api-Key: CLIENT-2\r\n"
        b"cookie: b=CLIENT-3\r\nVia: 1.1 x\r\n"
    )


@pytest.mark.parametrize(
    ("peer", "public", "opens"),
    [
        pytest.param("93.184.216.34", True, True, id="public"),
        pytest.param("10.0.0.1", True, False, id="private"),
        pytest.param("10.0.0.1", False, True, id="private, with leave"),
    ],
)
def test_it_is_sealed_to_an_address_that_may_be_reached(
    peer: str, public: bool, opens: bool
) -> None:
    origin = Origin("http", "other.test", 80)
    assert pass_on(PASSED, origin, public).unlock(made_to(origin, peer)) is opens


def test_where_the_address_is_not_known_it_does_not_open() -> None:
    origin = Origin("http", "other.test", 80)
    server = made_to(origin, "93.184.216.34")
    server.peername = None
    assert not pass_on(PASSED, origin, public=True).unlock(server)
