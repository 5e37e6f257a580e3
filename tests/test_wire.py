"""What leaves and what comes back: stripping, and the cleaning of answers."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.redact import forms
from llm_passthrough.wire import (
    Stripped,
    ask_to_retry,
    clean_answer,
    clean_reason,
    digest,
    lowered,
    map_urls,
    onward,
    strip,
    whole_path,
    with_length,
)
from pydantic import SecretStr

KEY = "sk-REAL/KEY+0123456789=abc"


def stripped(*fields: tuple[bytes, bytes], target: bytes = b"/v1/x") -> Stripped:
    return strip(fields, target)


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
    "name", [b"\rAuthorization", b"X-Api-Key ", b"x-api\x00-key", b"Cookie\xff"]
)
def test_a_credential_under_a_name_that_is_none_is_one_too(name: bytes) -> None:
    """Such a request is refused; it is recorded all the same."""
    assert stripped((name, b"CLI-1")).fields == ()


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
            [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Upgrade", b"h2c")],
            [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")],
            id="a WebSocket and something else",
        ),
        pytest.param(
            [(b"Upgrade", b"websocket"), (b"Connection", b"close")],
            [(b"Connection", b"close")],
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
        pytest.param(b"/x?/y?api%5Fkey=CLI&a", b"/x?a", [b"CLI"], id="behind a second mark"),
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


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        pytest.param(b"a\r\n b", b"a   b", id="a fold"),
        pytest.param(b"a\x00b\rc\nd\x1be\x7f", b"a b c d e ", id="control characters"),
        pytest.param(b"a\tb\xe9", b"a\tb\xe9", id="what a value may hold"),
    ],
)
def test_what_could_end_a_line_of_an_answer_becomes_a_space(value: bytes, plain: bytes) -> None:
    fields = ((b"x-a", value), (b"x-other", b"1"))
    assert clean_answer(fields, 200, None) == ((b"x-a", plain), (b"x-other", b"1"))


@pytest.mark.parametrize(
    ("reason", "clean"),
    [
        (b"OK", b"OK"),
        (b"", b""),
        (f"no such key: {KEY}".encode(), b""),
        (b"OK\x1b[2J", b""),
        (b"Nicht m\xf6glich", b"Nicht m\xf6glich"),
    ],
)
def test_a_reason_goes_on_unless_it_holds_our_key_or_what_is_no_text(
    reason: bytes, clean: bytes
) -> None:
    assert clean_reason(reason, SecretStr(KEY)) == clean
    if KEY.encode() not in reason:
        assert clean_reason(reason, None) == clean


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


# -- an answer's and a body's own headers -------------------------------------------------------


def test_names_are_lowered_and_values_are_not() -> None:
    assert lowered(((b"X-A", b"B"), (b"c", b"\xe9"))) == [("x-a", "B"), ("c", "é")]


def test_the_length_of_a_changed_body_takes_the_place_of_the_old_one() -> None:
    fields = ((b"A", b"1"), (b"content-LENGTH", b"2"))
    assert with_length(fields, 30) == ((b"A", b"1"), (b"content-LENGTH", b"30"))


def test_a_hint_to_retry_takes_the_place_of_the_providers() -> None:
    fields = ((b"Retry-After", b"60"), (b"a", b"b"), (b"X-Should-Retry", b"false"))
    assert ask_to_retry(fields) == (
        (b"a", b"b"),
        (b"x-should-retry", b"true"),
        (b"retry-after-ms", b"1"),
    )


# -- passed on -------------------------------------------------------------------------------------


def test_what_is_passed_on_loses_what_is_for_this_hop_alone() -> None:
    fields = (
        (b"Authorization", b"Bearer mine"),
        (b"Proxy-Authorization", b"Basic x"),
        (b"Connection", b"close, X-Hop"),
        (b"X-Hop", b"1"),
        (b"TE", b"trailers"),
        (b"Upgrade", b"h2c"),
        (b"Via", b"1.1 x"),
        (b"X-Passthrough-Key", b"a"),
    )
    assert onward(fields) == (
        (b"Authorization", b"Bearer mine"),
        (b"Connection", b"close"),
        (b"Via", b"1.1 x"),
    )


def test_a_websocket_that_is_passed_on_stays_one() -> None:
    fields = ((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"WebSocket"))
    assert onward(fields) == ((b"Connection", b"Upgrade"), (b"Upgrade", b"WebSocket"))


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [(b"/a", b"/a", None), (b"/a?", b"/a", b""), (b"/a?b?c", b"/a", b"b?c")],
)
def test_a_target_is_a_path_and_perhaps_a_query(
    target: bytes, path: bytes, query: bytes | None
) -> None:
    assert whole_path(target) == (path, query)


def test_a_proxy_is_told_who_asks_by_what_is_meant_for_it() -> None:
    found = stripped((b"Authorization", b"Bearer a"), (b"Proxy-Authorization", b"Basic b"))
    assert list(found.credentials) == ["Bearer a", "Basic b"]
    assert list(found.proxy_credentials) == ["Basic b"]


def test_a_token_is_known_by_its_digest() -> None:
    assert digest(SecretStr("token")) == hashlib.sha256(b"token").digest()
