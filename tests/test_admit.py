"""Admission: credentials off, door and route judged, a body too long for the buffer streamed."""

import pytest
from llm_passthrough import config
from llm_passthrough.admit import KEY, PROVIDER, RECORD, edited, judged, opened
from llm_passthrough.build import Parts, build
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.sinks.writer import Tally
from llm_passthrough.status import State
from mitmproxy import http
from mitmproxy.test import tflow

LIMIT = 1000
CHAT = "/openai_passthrough/v1/chat/completions"
CLIENT_KEY = b"sk-CLIENT-0123456789"
HEALTHY = State(Tally(), 0.0)
FAILING = State(Tally(fault="jsonl: no space"), 0.0)


def parts(**document: object) -> Parts:
    given = {"limits": {"request_buffer": LIMIT}} | document
    return build(config.parse(given, "file")[0], {}, "file")


PARTS = parts()


def flow(
    target: str = CHAT,
    method: str = "POST",
    *fields: tuple[bytes, bytes],
    host: str = "localhost",
) -> http.HTTPFlow:
    made = tflow.tflow()
    made.client_conn.timestamp_tls_setup = None
    made.request.data.method = method.encode()
    made.request.data.path = target.encode("latin-1")
    made.request.data.host = host
    made.request.data.headers = http.Headers([(b"Host", host.encode()), *fields])
    return made


def admit(made: http.HTTPFlow, with_parts: Parts = PARTS, state: State = HEALTHY) -> Exchange:
    """Open and judge; what is asked is no page."""
    exchange = opened(made.request, with_parts.config.log, lambda: 1.0)
    assert judged(made, exchange, with_parts, state) is None
    return exchange


def refusal(made: http.HTTPFlow, with_parts: Parts = PARTS, state: State = HEALTHY) -> str:
    with pytest.raises(Refusal) as caught:
        admit(made, with_parts, state)
    return caught.value.code


def test_nothing_of_a_clients_credentials_stays_in_the_flow() -> None:
    made = flow(
        CHAT + "?key=" + CLIENT_KEY.decode(),
        "POST",
        (b"Authorization", b"Bearer " + CLIENT_KEY),
        (b"X-Api-Key", CLIENT_KEY),
        (b"X-Passthrough-Capture", b"usage"),
        (b"X-Other", b"stays"),
    )
    exchange = admit(made)
    assert made.request.headers.fields == ((b"Host", b"localhost"), (b"X-Other", b"stays"))
    assert made.request.data.path == CHAT.encode()
    assert CLIENT_KEY.decode() not in str(made.get_state())
    assert exchange.client_path == CHAT.encode()
    assert exchange.capture == "usage"
    assert exchange.stripped.value(b"x-api-key") == CLIENT_KEY.decode()


def test_an_admitted_exchange_knows_its_route_and_where_the_client_found_us() -> None:
    made = flow(CHAT + "?a=%2F&a=", host="127.0.0.1")
    exchange = admit(made)
    assert exchange.route is not None
    assert exchange.route.prefix == "/openai_passthrough"
    assert (exchange.path, exchange.query) == (b"/v1/chat/completions", b"a=%2F&a=")
    assert exchange.own_base == b"http://127.0.0.1/openai_passthrough"


@pytest.mark.parametrize(
    ("target", "method"),
    [
        pytest.param("/", "GET", id="the list of routes"),
        pytest.param("/health", "GET", id="health"),
        pytest.param("/openai_passthrough", "HEAD", id="a bare prefix"),
    ],
)
def test_a_page_of_ours_is_no_exchange_with_a_provider(target: str, method: str) -> None:
    made = flow(target, method)
    exchange = opened(made.request, PARTS.config.log, lambda: 1.0)
    page = judged(made, exchange, PARTS, HEALTHY)
    assert page is not None
    assert page[0] == 200
    assert exchange.route is None


def in_version(version: str) -> http.HTTPFlow:
    made = flow(CHAT, "POST")
    made.request.http_version = version
    return made


@pytest.mark.parametrize(
    ("made", "code"),
    [
        pytest.param(flow("/nowhere/x"), "no_route", id="no route"),
        pytest.param(flow("/openai_passthrough/", "POST"), "no_route", id="nothing behind it"),
        pytest.param(flow("/openai_passthrough/v1/../x"), "bad_target", id="a dot segment"),
        pytest.param(flow(host="evil.test"), "misdirected", id="another Host"),
        pytest.param(flow(CHAT, "TRACE"), "method_not_allowed", id="a method"),
        pytest.param(flow(CHAT, "post"), "method_not_allowed", id="a method in small letters"),
        pytest.param(
            flow(CHAT, "POST", (b"Origin", b"https://evil.test")), "foreign_origin", id="a page"
        ),
        pytest.param(flow(CHAT, "POST", (b"X-A", b"a\r\n b")), "bad_request", id="a fold"),
        pytest.param(flow(CHAT, "POST", (b"Host", b"localhost")), "bad_request", id="two Hosts"),
        pytest.param(in_version("HTTP/2.0"), "bad_request", id="another version in plain text"),
    ],
)
def test_who_may_not_ask_is_refused_after_his_credentials_are_off(
    made: http.HTTPFlow, code: str
) -> None:
    made.request.data.headers.fields += ((b"Authorization", CLIENT_KEY),)
    assert refusal(made) == code
    assert CLIENT_KEY not in repr(made.request.headers.fields).encode()


ID = "0123456789ab0123456789abcdef"


def repeated(scheme: str = "https", host: str = "api.openai.com", port: int = 443) -> http.HTTPFlow:
    made = flow("/v1/models", "GET", host=host)
    made.request.data.scheme, made.request.data.port = scheme.encode(), port
    made.is_replay = "request"
    made.metadata |= {RECORD: ID, PROVIDER: "openai"}
    return made


def test_a_flow_that_is_sent_again_gets_the_route_of_its_origin() -> None:
    exchange = admit(repeated())
    assert exchange.route is not None
    assert exchange.route.prefix == "host:api.openai.com"
    assert (exchange.path, exchange.replay_of) == (b"/v1/models", ID)
    assert exchange.identity.client.name == "mitmweb"


def test_of_providers_at_one_place_it_gets_its_own() -> None:
    at = {"network_config": {"base_url": "http://127.0.0.1:9"}}
    made = repeated("http", "127.0.0.1", 9)
    exchange = admit(made, parts(providers={"anthropic": at, "openai": at}))
    assert exchange.route is not None
    assert exchange.route.upstreams[0].provider.name == "openai"


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [
        pytest.param("https", "evil.test", 443, id="another host"),
        pytest.param("http", "api.openai.com", 443, id="without TLS"),
        pytest.param("https", "api.openai.com", 8443, id="another port"),
        pytest.param("http", "127.0.0.1", 8080, id="ourselves"),
    ],
)
def test_to_any_other_place_nothing_is_sent_again(scheme: str, host: str, port: int) -> None:
    assert refusal(repeated(scheme, host, port)) == "forward_blocked"


def test_metadata_that_is_no_id_is_not_believed() -> None:
    made = repeated()
    made.metadata |= {RECORD: "<script>", KEY: ["x"]}
    exchange = admit(made)
    assert (exchange.replay_of, exchange.preferred) == (None, "")


def test_what_is_sent_again_takes_the_key_that_it_had() -> None:
    made = repeated()
    made.metadata[KEY] = "team"
    assert admit(made).preferred == "team"
    asked = admit(flow(CHAT, "POST", (b"X-Passthrough-Prefer-Key", b"team")))
    assert asked.preferred == "team"


@pytest.mark.parametrize(("value", "noted"), [(ID.encode(), ID), (b"x", None), (b"", None)])
def test_a_client_may_say_which_call_it_repeats(value: bytes, noted: str | None) -> None:
    exchange = admit(flow(CHAT, "POST", (b"X-Passthrough-Replay", value)))
    assert exchange.replay_of == noted


def test_without_records_nothing_passes_where_they_are_required() -> None:
    required = parts(log={"required": True})
    assert refusal(flow(), required, FAILING) == "log_unavailable"
    assert admit(flow(), required, HEALTHY).route
    assert admit(flow(), PARTS, FAILING).route


@pytest.mark.parametrize(
    ("length", "streams"),
    [
        pytest.param(b"1000", False, id="as long as is buffered"),
        pytest.param(b"1001", True, id="longer"),
        pytest.param(b"junk", False, id="no length"),
    ],
)
def test_a_body_that_is_announced_too_long_streams_from_its_first_byte(
    length: bytes, streams: bool
) -> None:
    made = flow(CHAT, "POST", (b"Content-Length", length))
    admit(made)
    assert bool(made.request.stream) is streams


def test_an_untouched_request_is_not_edited() -> None:
    made = flow()
    exchange = admit(made)
    assert not edited(made.request, exchange)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda r: r.headers.update({"x-api-key": "sk-TYPED"}), id="a header"),
        pytest.param(lambda r: setattr(r, "path", CHAT + "?key=sk-TYPED"), id="the path"),
        pytest.param(lambda r: setattr(r, "method", "GET"), id="the method"),
        pytest.param(lambda r: setattr(r, "host", "evil.test"), id="the host"),
        pytest.param(lambda r: setattr(r, "port", 1), id="the port"),
    ],
)
def test_a_request_that_somebody_edited_is_stripped_anew(edit: object) -> None:
    made = flow()
    exchange = admit(made)
    assert callable(edit)
    edit(made.request)
    assert edited(made.request, exchange)
    assert "sk-TYPED" not in str(made.get_state())
    assert exchange.stripped.fields == made.request.headers.fields
    assert exchange.stripped.target == made.request.data.path


def test_what_a_person_typed_does_not_take_the_clients_own_credential_away() -> None:
    made = flow(CHAT, "POST", (b"X-Api-Key", CLIENT_KEY))
    exchange = admit(made)
    made.request.headers["x-api-key"] = "sk-TYPED"
    assert edited(made.request, exchange)
    assert exchange.stripped.value(b"x-api-key") == CLIENT_KEY.decode()


TOKEN = "token-of-alice-0123456789"


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        pytest.param(((b"Authorization", b"Bearer " + TOKEN.encode()),), "", id="alone"),
        pytest.param(
            (
                (b"X-Api-Key", TOKEN.encode()),
                (b"Authorization", b"Bearer " + CLIENT_KEY),
            ),
            f"Bearer {CLIENT_KEY.decode()}",
            id="beside the client's own credential",
        ),
    ],
)
def test_a_clients_token_is_for_us_and_is_no_credential_of_its_own(
    fields: tuple[tuple[bytes, bytes], ...], own: str
) -> None:
    known = parts(clients=[{"name": "alice", "tokens": [TOKEN]}])
    exchange = admit(flow(CHAT, "POST", *fields), known)
    assert exchange.identity.client.name == "alice"
    assert exchange.stripped.value(b"authorization") == own
    assert exchange.stripped.value(b"x-api-key") == ""
    assert TOKEN in "".join(exchange.stripped.secrets)
