"""What leaves and what comes back: stripping, sealing, and the cleaning of answers."""

import copy
import io as stdio
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.providers import Credential, Origin
from llm_passthrough.redact import forms
from llm_passthrough.seal import Seal, Sealed, plain, sign
from llm_passthrough.wire import Fields, Stripped, clean_answer, map_urls, strip
from mitmproxy import http, io
from mitmproxy.addons import export
from mitmproxy.connection import Server
from mitmproxy.net.http import http1
from mitmproxy.test import taddons, tflow
from pydantic import SecretStr

KEY = "sk-REAL/KEY+0123456789=abc"
LABEL = "[openai/key-1]"
ORIGIN = Origin("https", "api.openai.com", 443)
PLAIN = Origin("http", "127.0.0.1", 9000)
BEARER = Credential(b"Authorization", b"Bearer {key}")
HOST: Fields = ((b"Host", b"gateway:8080"),)


def stripped(*fields: tuple[bytes, bytes], target: bytes = b"/v1/x") -> Stripped:
    return strip(fields, target)


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


# -- strip ---------------------------------------------------------------------------------------


def test_what_no_rule_names_keeps_its_order_its_spelling_and_its_duplicates() -> None:
    fields = (
        (b"Host", b"gateway:8080"),
        (b"x-ODD", b"  spaces \t inside "),
        (b"Accept", b"a"),
        (b"aCCept", b"b"),
        (b"X_Under_Score", b"1"),
        (b"anthropic-beta", b"one,two"),
        (b"Content-Length", b"2"),
        (b"X-Latin", b"caf\xe9"),
        (b"x-apikey", b"not one of the names"),
        (b"X-Empty", b""),
    )
    result = stripped(*fields)
    assert result.fields == fields
    assert result.taken == ()
    assert result.control == {}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"Authorization", id="authorization"),
        pytest.param(b"AUTHORIZATION", id="upper case"),
        pytest.param(b"aUtHoRiZaTiOn", id="mixed case"),
        pytest.param(b"Proxy-Authorization", id="proxy-authorization"),
        pytest.param(b"Proxy_Authorization", id="proxy_authorization"),
        pytest.param(b"api-key", id="api-key"),
        pytest.param(b"API_KEY", id="API_KEY"),
        pytest.param(b"x-api-key", id="x-api-key"),
        pytest.param(b"X_Api_Key", id="X_Api_Key"),
        pytest.param(b"x-api_key", id="x-api_key, mixed separators"),
        pytest.param(b"X-Goog-Api-Key", id="x-goog-api-key"),
        pytest.param(b"x_goog_api_key", id="x_goog_api_key"),
        pytest.param(b"Ocp-Apim-Subscription-Key", id="ocp-apim-subscription-key"),
        pytest.param(b"Cookie", id="cookie"),
        pytest.param(b"OpenAI-Organization", id="account: openai-organization"),
        pytest.param(b"openai_project", id="account: openai_project"),
        pytest.param(b"X-Goog-User-Project", id="account: x-goog-user-project"),
    ],
)
def test_a_credential_is_taken_off_in_every_spelling_and_as_often_as_it_stands(name: bytes) -> None:
    result = stripped((name, b"CLI-1"), (b"Accept", b"*/*"), (name.lower(), b"CLI-2"))
    assert result.fields == ((b"Accept", b"*/*"),)
    assert [value for _, value in result.taken] == [b"CLI-1", b"CLI-2"]
    assert {key for key, _ in result.taken} == {name.lower().replace(b"_", b"-")}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, id=name.decode())
        for name in (
            b"Keep-Alive",
            b"TE",
            b"Trailer",
            b"HTTP2-Settings",
            b"Proxy-Connection",
            b"Proxy_Something",
            b"Via",
            b"Forwarded",
            b"X-Forwarded-For",
            b"X-Forwarded-Host",
            b"x_forwarded_proto",
            b"X-Original-URL",
            b"X-Rewrite-URL",
            b"X-HTTP-Method-Override",
            b"X_HTTP_Method_Override",
        )
    ],
)
def test_what_is_for_this_hop_or_asks_to_be_believed_stays_here(name: bytes) -> None:
    result = stripped((name, b"x"), (b"Accept", b"*/*"))
    assert result.fields == ((b"Accept", b"*/*"),)
    assert result.taken == ()


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        pytest.param(
            [(b"Connection", b"keep-alive, authorization"), (b"Authorization", b"Bearer CLI")],
            [],
            id="a credential is taken off whether it is named or not",
        ),
        pytest.param(
            [(b"Connection", b"X-Mine"), (b"x-mine", b"1"), (b"x-other", b"2")],
            [(b"x-other", b"2")],
            id="a header that is named goes, the nomination too",
        ),
        pytest.param(
            [(b"Connection", b"x_mine"), (b"X-Mine", b"1")],
            [],
            id="named with an underscore",
        ),
        pytest.param(
            [(b"connection", b"a"), (b"CONNECTION", b"b"), (b"a", b"1"), (b"B", b"2")],
            [],
            id="two Connection headers",
        ),
        pytest.param(
            [
                (b"Connection", b"content-length, transfer-encoding, host"),
                (b"Host", b"h"),
                (b"Content-Length", b"2"),
            ],
            [(b"Host", b"h"), (b"Content-Length", b"2")],
            id="what frames the message cannot be named away",
        ),
        pytest.param(
            [(b"Connection", b"keep-alive"), (b"Accept", b"*/*")],
            [(b"Accept", b"*/*")],
            id="keep-alive says nothing to the next hop",
        ),
        pytest.param(
            [(b"connection", b"Close, x-mine"), (b"X-Mine", b"1")],
            [(b"connection", b"close")],
            id="the end of the connection is passed on",
        ),
        pytest.param([(b"Connection", b" , ,")], [], id="nothing but commas"),
    ],
)
def test_connection_names_what_goes_no_further(
    fields: list[tuple[bytes, bytes]], kept: list[tuple[bytes, bytes]]
) -> None:
    assert list(strip(tuple(fields), b"/x").fields) == kept


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        pytest.param(
            [(b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"WebSocket")],
            [(b"Connection", b"Upgrade"), (b"Upgrade", b"WebSocket")],
            id="a WebSocket",
        ),
        pytest.param(
            [(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c")], [], id="h2c"
        ),
        pytest.param(
            [(b"Connection", b"upgrade"), (b"Upgrade", b"H2C, foo")], [], id="anything else"
        ),
        pytest.param(
            [(b"Upgrade", b"websocket"), (b"Connection", b"close")],
            [(b"Upgrade", b"websocket"), (b"Connection", b"close")],
            id="an upgrade that Connection does not name",
        ),
    ],
)
def test_only_a_websocket_may_upgrade(
    fields: list[tuple[bytes, bytes]], kept: list[tuple[bytes, bytes]]
) -> None:
    assert list(strip(tuple(fields), b"/x").fields) == kept


def test_our_control_headers_are_noted_and_never_leave() -> None:
    result = stripped(
        (b"X-Passthrough-Key", b"first"),
        (b"x_passthrough_key", b"second"),
        (b"x-passthrough-capture", b"none"),
        (b"x-passthroughs", b"somebody else's"),
    )
    assert result.fields == ((b"x-passthroughs", b"somebody else's"),)
    assert result.control == {b"x-passthrough-key": b"first", b"x-passthrough-capture": b"none"}


@pytest.mark.parametrize(
    ("value", "kept", "taken"),
    [
        pytest.param(b"realtime", b"realtime", [], id="no key"),
        pytest.param(b"a ,b,  c", b"a ,b,  c", [], id="no key: byte for byte"),
        pytest.param(
            b"realtime, openai-insecure-api-key.sk-CLI, openai-beta.realtime-v1",
            b"realtime, openai-beta.realtime-v1",
            [(b"subprotocol", b"sk-CLI")],
            id="a key between others",
        ),
        pytest.param(
            b"OpenAI-Insecure-Api-Key.sk-CLI.with.dots,realtime",
            b"realtime",
            [(b"subprotocol", b"sk-CLI.with.dots")],
            id="another spelling",
        ),
        pytest.param(
            b"openai-ephemeral-key.ek_CLI", None, [(b"subprotocol", b"ek_CLI")], id="only a key"
        ),
        pytest.param(
            b"realtime,openai-organization.org-CLI,openai-project.proj-CLI",
            b"realtime",
            [(b"openai-organization", b"org-CLI"), (b"openai-project", b"proj-CLI")],
            id="the caller's account",
        ),
        pytest.param(
            b"openai-insecure-api-key.sk-1, x, openai-insecure-api-key.sk-2",
            b"x",
            [(b"subprotocol", b"sk-1"), (b"subprotocol", b"sk-2")],
            id="two keys",
        ),
    ],
)
def test_websocket_subprotocols_lose_what_carries_a_key(
    value: bytes, kept: bytes | None, taken: list[tuple[bytes, bytes]]
) -> None:
    result = stripped((b"Sec-WebSocket-Protocol", value), (b"Accept", b"*/*"))
    expected = [(b"Sec-WebSocket-Protocol", kept)] if kept is not None else []
    assert list(result.fields) == [*expected, (b"Accept", b"*/*")]
    assert list(result.taken) == taken


@pytest.mark.parametrize(
    ("target", "kept", "taken"),
    [
        pytest.param(b"/v1/x", b"/v1/x", [], id="no query"),
        pytest.param(b"/v1/x?", b"/v1/x?", [], id="an empty query"),
        pytest.param(b"/v1/x?a=1", b"/v1/x?a=1", [], id="nothing to take"),
        pytest.param(b"/x?key=CLI", b"/x", [b"CLI"], id="key alone"),
        pytest.param(b"/x?KEY=CLI&a=1", b"/x?a=1", [b"CLI"], id="upper case"),
        pytest.param(b"/x?a=1&api_key=CLI", b"/x?a=1", [b"CLI"], id="api_key"),
        pytest.param(b"/x?a=1&Api-Key=CLI&b=2", b"/x?a=1&b=2", [b"CLI"], id="api-key"),
        pytest.param(b"/x?access_token=ya29.CLI&a", b"/x?a", [b"ya29.CLI"], id="access_token"),
        pytest.param(b"/x?subscription-key=CLI&", b"/x?", [b"CLI"], id="subscription-key"),
        pytest.param(b"/x?%6Bey=CLI&a=1", b"/x?a=1", [b"CLI"], id="an encoded letter"),
        pytest.param(b"/x?api%5Fkey=CLI&a=1", b"/x?a=1", [b"CLI"], id="an encoded underscore"),
        pytest.param(b"/x?%41PI%2dKEY=CLI&a=1", b"/x?a=1", [b"CLI"], id="encoded and upper case"),
        pytest.param(b"/x?key=a%2Fb%3D&z=1", b"/x?z=1", [b"a/b="], id="an encoded value"),
        pytest.param(b"/x?key&a=1", b"/x?a=1", [b""], id="without a value"),
        pytest.param(b"/x?key=1&KEY=2&a=1&key=3", b"/x?a=1", [b"1", b"2", b"3"], id="repeated"),
        pytest.param(
            b"/a%2Fb//c?q=%2F+%20&&a=1&a=2&=x&%zz&key=CLI&utf=\xc3\xa9",
            b"/a%2Fb//c?q=%2F+%20&&a=1&a=2&=x&%zz&utf=\xc3\xa9",
            [b"CLI"],
            id="the rest byte for byte",
        ),
        pytest.param(b"/x?a=?key=1", b"/x?a=?key=1", [], id="a question mark in a value"),
        pytest.param(b"/x?monkey=1&keys=2", b"/x?monkey=1&keys=2", [], id="other names"),
        pytest.param(b"/key=CLI", b"/key=CLI", [], id="a path is no query"),
    ],
)
def test_query_parameters_that_carry_a_key_are_taken_off(
    target: bytes, kept: bytes, taken: list[bytes]
) -> None:
    result = strip((), target)
    assert result.target == kept
    assert list(result.taken) == [(b"query", value) for value in taken]


_NAMES = st.sampled_from(
    [
        b"Authorization",
        b"X_Api_Key",
        b"Connection",
        b"Upgrade",
        b"Sec-WebSocket-Protocol",
        b"x-passthrough-key",
        b"Accept",
        b"TE",
        b"Via",
    ]
)
_VALUES = st.sampled_from(
    [b"CLI", b"close", b"upgrade, accept", b"websocket", b"a, openai-insecure-api-key.CLI", b""]
)
_QUERIES = st.lists(st.sampled_from([b"key=CLI", b"a=1", b"", b"%6bey=CLI", b"b"]))


@given(st.lists(st.tuples(_NAMES, _VALUES)), _QUERIES)
def test_stripping_twice_is_stripping_once(
    fields: list[tuple[bytes, bytes]], query: list[bytes]
) -> None:
    once = strip(tuple(fields), b"/x?" + b"&".join(query))
    again = strip(once.fields, once.target)
    kept = tuple(field for field in again.fields if field in once.fields)
    assert (kept, again.target, again.taken) == (again.fields, once.target, ())


def test_the_clients_credentials_are_told_with_and_without_their_scheme() -> None:
    result = stripped(
        (b"Authorization", b"Bearer sk-CLI"),
        (b"x-api-key", b"caf\xe9"),
        (b"OpenAI-Organization", b"org-1"),
        target=b"/x?key=k1",
    )
    assert list(result.secrets) == ["Bearer sk-CLI", "sk-CLI", "café", "café", "k1", "k1"]
    assert result.value(b"authorization") == "Bearer sk-CLI"
    assert result.value(b"query") == "k1"
    assert result.value(b"cookie") == ""


def test_headers_that_are_asked_for_come_as_texts() -> None:
    result = stripped((b"HOST", b"h"), (b"Origin", b"o"), (b"Accept", b"a"))
    assert result.texts(frozenset({b"host", b"origin"})) == {"host": "h", "origin": "o"}


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
    seal = Seal(ORIGIN, b"x-api-key", b"[k]", SecretStr(KEY))
    assert KEY not in repr(seal)
    assert KEY not in str(seal)


# -- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, id=name.decode())
        for name in (
            b"Set-Cookie",
            b"set_cookie",
            b"Alt-Svc",
            b"Strict-Transport-Security",
            b"Access-Control-Allow-Origin",
            b"access-control-expose-headers",
            b"Authorization",
            b"X-Goog-Api-Key",
            b"api-key",
            b"Keep-Alive",
            b"Trailer",
            b"TE",
            b"Upgrade",
            b"Proxy-Authenticate",
            b"Proxy-Connection",
            b"X-Passthrough-Error",
        )
    ],
)
def test_an_answer_loses_what_belongs_to_the_hop_the_browser_or_our_account(name: bytes) -> None:
    fields = ((b"Date", b"now"), (name, b"x"), (b"x-request-id", b"r"))
    assert clean_answer(fields, 200, SecretStr(KEY)) == (fields[0], fields[2])


def test_all_else_of_an_answer_stays_as_it_is() -> None:
    fields = (
        (b"Content-Type", b"text/event-stream"),
        (b"X-Request-ID", b"req_1"),
        (b"x-ratelimit-remaining-requests", b"1"),
        (b"RETRY-after", b"2"),
        (b"Via", b"1.1 google"),
        (b"X-Forwarded-For", b"odd, but theirs"),
        (b"x-dup", b"1"),
        (b"X-Dup", b"2"),
        (b"Transfer-Encoding", b"chunked"),
        (b"WWW-Authenticate", b"Bearer"),
        (b"Connection", b"close"),
    )
    assert clean_answer(fields, 200, SecretStr(KEY)) == fields
    assert clean_answer(fields, 200, None) == fields


def test_an_answers_connection_names_what_goes_no_further() -> None:
    fields = ((b"Connection", b"keep-alive, x-hop"), (b"X-Hop", b"1"), (b"x-other", b"2"))
    assert clean_answer(fields, 200, None) == ((b"x-other", b"2"),)


def test_a_switch_to_websocket_keeps_its_upgrade() -> None:
    fields = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))
    assert clean_answer(fields, 101, SecretStr(KEY)) == fields


@pytest.mark.parametrize("form", sorted(forms(KEY)))
def test_a_header_that_echoes_our_key_is_dropped_in_whatever_spelling(form: str) -> None:
    fields = ((b"x-echo", b"got: " + form.encode() + b";"), (b"x-other", b"1"))
    assert clean_answer(fields, 200, SecretStr(KEY)) == ((b"x-other", b"1"),)


def test_a_short_key_is_looked_for_as_it_is() -> None:
    fields = ((b"x-echo", b"-short-"), (b"x-other", b"sh"), (b"x-more", b"something longer"))
    assert clean_answer(fields, 200, SecretStr("short")) == fields[1:]


def test_urls_that_lead_past_us_are_mapped_or_dropped_and_nothing_else_is_touched() -> None:
    fields = (
        (b"Location", b"https://a/1"),
        (b"X-Goog-Upload-URL", b"https://a/2"),
        (b"x-goog-upload-control-url", b"https://evil/3"),
        (b"Content-Location", b"https://a/4"),
    )
    seen = []

    def swap(name: bytes, url: bytes) -> bytes | None:
        seen.append(name)
        return None if b"evil" in url else url.replace(b"https://a", b"http://gw/route")

    assert map_urls(fields, swap) == (
        (b"Location", b"http://gw/route/1"),
        (b"X-Goog-Upload-URL", b"http://gw/route/2"),
        (b"Content-Location", b"https://a/4"),
    )
    assert seen == [b"location", b"x-goog-upload-url", b"x-goog-upload-control-url"]


def test_the_texts_for_the_redactor_are_the_configured_secrets() -> None:
    assert plain([SecretStr("one"), SecretStr("two")]) == ["one", "two"]
