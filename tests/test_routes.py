"""Routes: a prefix at a segment boundary, the rest byte for byte, and nothing that climbs."""

import itertools
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough import config
from llm_passthrough.build import build
from llm_passthrough.errors import ErrorShape, Refusal
from llm_passthrough.keyring import Key, KeyRing
from llm_passthrough.providers import PROVIDERS, Base
from llm_passthrough.routes import Routes, Upstream, check, need_path
from pydantic import SecretStr

OWN = {"prefix": "/groq", "upstream": "https://api.groq.com/openai", "dialect": "anthropic"}
ALIASES = {"openai": ["/openai", "/openai/inner"]}


def routes(**document: object) -> Routes:
    return build(config.parse(document, "test")[0], {}, "test").routes


ROUTES = routes(routes=[OWN], prefixes=ALIASES)


@pytest.mark.parametrize(
    ("target", "prefix", "path", "query"),
    [
        pytest.param(b"/openai_passthrough/v1/x", "/openai_passthrough", b"/v1/x", None, id="a"),
        pytest.param(b"/anthropic_passthrough/v1", "/anthropic_passthrough", b"/v1", None, id="b"),
        pytest.param(b"/azure_passthrough/openai", "/azure_passthrough", b"/openai", None, id="c"),
        pytest.param(b"/genai_passthrough/v1beta", "/genai_passthrough", b"/v1beta", None, id="d"),
        pytest.param(b"/groq/v1/chat", "/groq", b"/v1/chat", None, id="one's own"),
        pytest.param(b"/openai/v1/x", "/openai", b"/v1/x", None, id="an alias"),
        pytest.param(b"/openai/inner/x", "/openai/inner", b"/x", None, id="the longest prefix"),
        pytest.param(b"/openai/innerX", "/openai", b"/innerX", None, id="the shorter otherwise"),
        pytest.param(b"/groq", "/groq", b"", None, id="bare"),
        pytest.param(b"/groq/", "/groq", b"/", None, id="bare, with a slash"),
        pytest.param(b"/groq?a=1", "/groq", b"", b"a=1", id="bare, with a query"),
        pytest.param(b"/groq/x?", "/groq", b"/x", b"", id="an empty query is one"),
        pytest.param(b"/groq/x??a=/../", "/groq", b"/x", b"?a=/../", id="marks and dots in it"),
        pytest.param(b"/groq/x?@evil.test", "/groq", b"/x", b"@evil.test", id="an at sign in it"),
        pytest.param(b"/groq/x?a=1&a=2&&b=&c", "/groq", b"/x", b"a=1&a=2&&b=&c", id="repeated"),
        pytest.param(b"/groq/x?a=%20+%2B%zz", "/groq", b"/x", b"a=%20+%2B%zz", id="any escapes"),
        pytest.param(b"/groq/a%2Fb%2f", "/groq", b"/a%2Fb%2f", None, id="encoded slashes"),
        pytest.param(b"/groq//evil.test/v1", "/groq", b"//evil.test/v1", None, id="two slashes"),
        pytest.param(b"/groq///x//", "/groq", b"///x//", None, id="empty segments"),
        pytest.param(b"/groq/my%20dep+x", "/groq", b"/my%20dep+x", None, id="plus and space"),
        pytest.param(b"/groq/m@1:raw;v=1,2", "/groq", b"/m@1:raw;v=1,2", None, id="marks"),
        pytest.param(b"/groq/./x/.", "/groq", b"/./x/.", None, id="single dots"),
        pytest.param(b"/groq/...", "/groq", b"/...", None, id="three dots are a name"),
        pytest.param(b"/groq/a..b/..c/d..", "/groq", b"/a..b/..c/d..", None, id="dots in names"),
        pytest.param(b"/groq/%C3%A4/%00%0d%0a", "/groq", b"/%C3%A4/%00%0d%0a", None, id="escapes"),
        pytest.param(b"/groq/x/groq/y", "/groq", b"/x/groq/y", None, id="the prefix again"),
    ],
)  # fmt: skip
def test_what_is_behind_the_prefix_goes_on_byte_for_byte(
    target: bytes, prefix: str, path: bytes, query: bytes | None
) -> None:
    route, rest, asked = ROUTES.choose(target)
    assert (route.prefix, rest, asked) == (prefix, path, query)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/", id="the root"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"*", id="the server as a whole"),
        pytest.param(b"/favicon.ico", id="a browser's wish"),
        pytest.param(b"/metrics", id="no page of ours"),
        pytest.param(b"/bedrock_passthrough/x", id="a provider that we do not have"),
        pytest.param(b"/openai_passthroughX/v1", id="begins alike"),
        pytest.param(b"/openai_passthrough@evil.test/v1/x", id="at sign"),
        pytest.param(b"/openai_passthrough:1@evil.test/", id="port and at sign"),
        pytest.param(b"/openai_passthrough.evil.test/v1", id="dot"),
        pytest.param(b"/openai_passthrough-evil.test/", id="hyphen"),
        pytest.param(b"/openai_passthrough%2Fv1/x", id="encoded slash"),
        pytest.param(b"/openai_passthrough;x/v1", id="semicolon"),
        pytest.param(b"/openai_passthrough&x", id="ampersand"),
        pytest.param(b"/%6fpenai_passthrough/v1", id="encoded prefix"),
        pytest.param(b"/OPENAI_PASSTHROUGH/v1", id="capitals"),
        pytest.param(b"//openai_passthrough/v1", id="two slashes"),
        pytest.param(b"/./openai_passthrough/v1", id="a dot before"),
        pytest.param(b"openai_passthrough/v1", id="no slash"),
        pytest.param(b"evil.test/openai_passthrough", id="another host's"),
        pytest.param(b"http://evil.test/openai_passthrough/v1", id="a URL"),
        pytest.param(b"/?/openai_passthrough/v1", id="in the query"),
    ],
)
def test_what_is_no_prefix_at_a_segment_boundary_is_no_route(target: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        ROUTES.choose(target)
    assert (caught.value.code, caught.value.status) == ("no_route", 404)
    assert caught.value.message == (
        "no route for this path; routes: /anthropic_passthrough, /azure_passthrough, "
        "/genai_passthrough, /groq, /openai, /openai/inner, /openai_passthrough"
    )


# -- what is no plain target ------------------------------------------------------------------

DOTS = ["..", "%2e%2e", "%2E.", ".%2e", "%252e%252E", "%2e%252e", ".%25252e", "%25%32%65."]
SLASHES = ["/", "%2f", "%2F", "\\", "%5c", "%255C", "%252f"]


@pytest.mark.parametrize("dots", DOTS)
@pytest.mark.parametrize(
    "form", ["/{}/azure_passthrough/x", "/v1/{}", "/v1/{}/", "/{}", "/v1/{};a/x", "/v1/{}%3Ba/x"]
)
def test_a_path_never_climbs_in_any_spelling(dots: str, form: str) -> None:
    with pytest.raises(Refusal) as caught:
        check(("/openai_passthrough" + form.format(dots)).encode())
    assert (caught.value.code, caught.value.status) == ("bad_target", 400)
    assert caught.value.message == "the path has a '..' segment; send it resolved"


@pytest.mark.parametrize(("before", "after"), [*itertools.product(SLASHES, repeat=2)])
def test_nor_between_any_two_spellings_of_a_slash(before: str, after: str) -> None:
    with pytest.raises(Refusal) as caught:
        check(f"/groq/v1{before}..{after}x".encode())
    assert caught.value.code == "bad_target"


@given(
    st.text(max_size=6),
    st.sampled_from(["..", "..;x"]),
    st.sampled_from(["/", "\\"]),
    st.text(max_size=6),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.integers(0, 3),
)
def test_a_segment_that_climbs_is_found_under_three_encodings(
    head: str, dots: str, slash: str, tail: str, mask: list[bool], times: int
) -> None:
    """Any character of the segment may be escaped, and the whole up to three times over."""
    segment = f"/{head}{slash}{dots}{slash}{tail}"
    raw = "".join(
        f"%{ord(c):02x}"
        if times and c in "./\\;" and mask[i % len(mask)]
        else quote(c, safe="./\\;")
        for i, c in enumerate(segment)
    )
    for _ in range(times - 1):
        raw = quote(raw, safe="/\\")
    with pytest.raises(Refusal) as caught:
        check(raw.encode())
    assert caught.value.code == "bad_target"


@pytest.mark.parametrize("form", [b"/groq/v1%sx", b"/groq/v1?q=%sx", b"%s/groq"])
def test_a_byte_that_no_url_has_is_refused(form: bytes) -> None:
    for byte in [*range(0x21), *range(0x7F, 0x100), *b"\\#"]:
        with pytest.raises(Refusal) as caught:
            ROUTES.choose(form % bytes([byte]))
        assert (caught.value.code, caught.value.status) == ("bad_target", 400)


PLAIN = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in "\\#?%.")


@given(st.text(PLAIN + ".", max_size=30), st.none() | st.text(PLAIN + "?%.", max_size=30))
def test_every_other_target_goes_on_as_it_is(path: str, query: str | None) -> None:
    rest = "/" + path.replace("..", "")
    target = f"/groq{rest}" + ("" if query is None else f"?{query}")
    route, sent, asked = ROUTES.choose(target.encode())
    assert route.prefix == "/groq"
    assert sent == rest.encode()
    assert asked == (None if query is None else query.encode())


def test_a_path_of_escapes_is_judged_in_few_steps() -> None:
    check(b"/groq/" + b"%25" * 20_000)  # each step takes one level; three are looked at


# -- which provider ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "authorization", "hint", "provider", "rule"),
    [
        pytest.param(b"/v1beta1/publishers/google/models/m:x", "", None, "vertex", "path", id="1"),
        pytest.param(b"/v1beta/files", "Bearer ya29.x", None, "gemini", "path", id="2 before 4"),
        pytest.param(b"/v1beta/files", "", "publishers/a", "gemini", "path", id="2 before 3"),
        pytest.param(b"/v1/models/m:x", "", "publishers/google/m", "vertex", "body", id="3"),
        pytest.param(b"/v1/models/m:x", "Bearer ya29.x", "publishers/a", "vertex", "body", id="34"),
        pytest.param(b"/v1/models/m:x", "Bearer ya29.x", None, "vertex", "token", id="4"),
        pytest.param(b"/v1/models/m:x", "Bearer AIza", None, "gemini", "default", id="5"),
        pytest.param(b"/v1/models/m:x", "", None, "gemini", "default", id="5, no credential"),
    ],
)  # fmt: skip
def test_the_first_rule_that_fits_chooses_gemini_or_vertex(
    path: bytes, authorization: str, hint: str | None, provider: str, rule: str
) -> None:
    route = ROUTES.choose(b"/genai_passthrough" + path)[0]
    upstream, detected_by = route.upstream(path, authorization, hint)
    assert (upstream.provider.name, detected_by) == (provider, rule)
    assert route.decided_by_path(path) is (rule == "path")


def test_a_route_with_one_provider_asks_nothing() -> None:
    route = ROUTES.choose(b"/openai_passthrough/v1beta1/publishers/x")[0]
    upstream, rule = route.upstream(b"/v1beta1/publishers/x", "Bearer ya29.x", "publishers/a")
    assert (upstream.provider.name, rule) == ("openai", "prefix")
    assert not route.asks_body
    assert route.decided_by_path(b"/anything")


@pytest.mark.parametrize(
    ("prefix", "shape"),
    [
        ("/openai_passthrough", "openai"),
        ("/anthropic_passthrough", "anthropic"),
        ("/azure_passthrough", "openai"),
        ("/genai_passthrough", "google"),
        ("/groq", "anthropic"),
    ],
)
def test_a_routes_refusals_have_the_shape_of_its_sdks(prefix: str, shape: ErrorShape) -> None:
    assert ROUTES.choose(prefix.encode())[0].error_shape == shape


# -- upstreams --------------------------------------------------------------------------------

ONE = Key("one", "azure", SecretStr("a"))
TWO = Key("two", "azure", SecretStr("b"))
BASE = Base.parse("https://base.test")
ENDPOINT = Base.parse("https://one.test")


def upstream(
    *keys: Key,
    base: Base | None = None,
    endpoints: dict[str, Base] | None = None,
    forward: bool = False,
    keyless: bool = False,
) -> Upstream:
    ring = KeyRing("azure", keys, "set AZURE_OPENAI_API_KEY")
    return Upstream(
        PROVIDERS["azure"],
        ring,
        base,
        1.0,
        1.0,
        forward=forward,
        endpoints=endpoints or {},
        keyless=keyless,
    )


@pytest.mark.parametrize(
    ("up", "key", "base"),
    [
        pytest.param(
            upstream(ONE, base=BASE, endpoints={"one": ENDPOINT}), ONE, ENDPOINT, id="own"
        ),
        pytest.param(upstream(TWO, base=BASE, endpoints={"one": ENDPOINT}), TWO, BASE, id="other"),
        pytest.param(upstream(base=BASE), None, BASE, id="without a key"),
    ],
)
def test_a_key_goes_to_its_own_endpoint_or_to_the_base_url(
    up: Upstream, key: Key | None, base: Base
) -> None:
    assert up.base_for(key) == base


@pytest.mark.parametrize("key", [TWO, None])
def test_a_key_without_an_endpoint_says_what_to_set(key: Key | None) -> None:
    with pytest.raises(Refusal) as caught:
        upstream(ONE, TWO, endpoints={"one": ENDPOINT}).base_for(key)
    assert (caught.value.code, caught.value.status) == ("no_endpoint", 503)
    assert caught.value.message == "azure has no endpoint: set AZURE_OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("up", "missing"),
    [
        pytest.param(upstream(ONE, base=BASE), None, id="ready"),
        pytest.param(upstream(ONE, endpoints={"one": ENDPOINT}), None, id="ready, own endpoint"),
        pytest.param(upstream(forward=True), None, id="the client brings his own"),
        pytest.param(upstream(keyless=True), None, id="none is needed"),
        pytest.param(upstream(base=BASE), "set AZURE_OPENAI_API_KEY", id="no key"),
        pytest.param(
            upstream(ONE, TWO, endpoints={"one": ENDPOINT}),
            "a key has no endpoint: set AZURE_OPENAI_API_KEY",
            id="no endpoint",
        ),
    ],
)
def test_an_upstream_knows_what_it_still_needs(up: Upstream, missing: str | None) -> None:
    assert up.missing == missing


# -- nothing behind the prefix ------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", b"/"])
@pytest.mark.parametrize(
    ("prefix", "hinted"), [("/openai_passthrough", False), ("/genai_passthrough", True)]
)
def test_a_request_without_a_path_is_refused_with_its_mend(
    prefix: str, hinted: bool, rest: bytes
) -> None:
    route = ROUTES.choose(prefix.encode())[0]
    with pytest.raises(Refusal) as caught:
        need_path(route, rest)
    assert caught.value.code == "no_route"
    assert prefix in caught.value.message
    assert ("project=" in caught.value.message) is hinted


def test_a_path_behind_the_prefix_is_enough() -> None:
    need_path(ROUTES.choose(b"/openai_passthrough/x")[0], b"/x")


def test_all_rings_are_found() -> None:
    assert {"openai", "gemini", "vertex"} <= {ring.provider for ring in ROUTES.rings}


@pytest.mark.parametrize(
    ("target", "has"),
    [
        (b"/groq", True),
        (b"/groq/v1/x?a=1", True),
        (b"/groq?a", True),
        (b"/groqX", False),
        (b"/", False),
        (b"/x/groq", False),
    ],
)
def test_it_is_known_whether_a_target_is_below_a_prefix(target: bytes, has: bool) -> None:
    assert ROUTES.has(target) is has


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        pytest.param(b"/anthropic_passthrough/v1/messages", "anthropic", id="a route"),
        pytest.param(b"/anthropic_passthrough", "anthropic", id="bare"),
        pytest.param(b"/genai_passthrough?\x00#", "google", id="no good"),
        pytest.param(b"/anthropic_passthroughX", "openai", id="no segment boundary"),
        pytest.param(b"", "openai", id="nothing"),
    ],
)
def test_the_shape_of_errors_is_known_for_any_target(target: bytes, shape: ErrorShape) -> None:
    assert ROUTES.shape(target) == shape
