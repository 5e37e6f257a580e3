"""Who may ask: our own names, no web page of another origin, no method that we do not know."""

import base64
import hashlib
import math

import pytest
from llm_passthrough.clients import (
    Clients,
    Door,
    Identity,
    check_fields,
    is_local,
    is_loopback,
    session,
)
from llm_passthrough.errors import Refusal
from llm_passthrough.policy import Client

DOOR = Door.of(["127.0.0.1", "gateway.local"], ["https://app.test"])
HOST = {"host": "127.0.0.1:8080"}


def refusal(
    host: str = "127.0.0.1", method: str = "POST", door: Door = DOOR, **headers: str
) -> str | None:
    """The code of the refusal, or None for who may come in; `_` in a name stands for `-`."""
    fields = HOST | {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        door.check_host(host)
        door.check(method, fields)
    except Refusal as refused:
        return refused.code
    return None


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "::1", "[::1]", "gateway.local"],
)
def test_we_answer_to_our_own_names(host: str) -> None:
    assert refusal(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "evil-localhost", "local",
        "api.openai.com", "169.254.169.254", "0.0.0.0", "127.0.0.2", "127.1", "2130706433", "::",
        "gateway.local.evil.test", "mitm.it",
    ],
)  # fmt: skip
def test_no_other_name_is_ours(host: str) -> None:
    assert refusal(host) == "misdirected"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_these_methods_are_served(method: str) -> None:
    assert refusal(method=method) is None


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "connect", "get", "PROPFIND", "X" * 5000])
def test_other_methods_are_not(method: str) -> None:
    with pytest.raises(Refusal) as caught:
        DOOR.check(method, HOST)
    assert caught.value.code == "method_not_allowed"
    assert caught.value.message == "methods: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no browser"),
        pytest.param({"origin": "http://127.0.0.1:8080"}, id="a page of ours"),
        pytest.param({"origin": "https://127.0.0.1:8080"}, id="a page of ours, over TLS"),
        pytest.param({"origin": "https://app.test"}, id="an allowed origin"),
        pytest.param(
            {"origin": "https://app.test", "sec_fetch_site": "cross-site"},
            id="allowed, and says so",
        ),
        pytest.param({"sec_fetch_site": "same-origin"}, id="same origin"),
        pytest.param({"sec_fetch_site": "none"}, id="typed by a person"),
        pytest.param({"referer": "http://127.0.0.1:8080/x"}, id="a link of ours"),
        pytest.param({"referer": "http://localhost:8080/"}, id="another name of ours"),
        pytest.param({"method": "OPTIONS"}, id="OPTIONS that is no preflight"),
    ],
)
def test_who_is_no_foreign_page_may_ask(headers: dict[str, str]) -> None:
    assert refusal(**headers) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"origin": "https://evil.test"}, id="another origin"),
        pytest.param({"origin": "null"}, id="a sandboxed page"),
        pytest.param({"origin": ""}, id="an empty origin"),
        pytest.param({"origin": "http://127.0.0.1:3000"}, id="another port"),
        pytest.param({"origin": "http://127.0.0.1"}, id="no port"),
        pytest.param({"origin": "http://localhost:8080"}, id="a name that was not dialled"),
        pytest.param({"origin": "http://x@127.0.0.1:8080"}, id="a user"),
        pytest.param({"origin": "http://127.0.0.1:8080.evil.test"}, id="begins alike"),
        pytest.param({"origin": "http://[::1"}, id="no origin at all"),
        pytest.param({"origin": "https://app.test.evil.test"}, id="begins like an allowed one"),
        pytest.param({"origin": "https://APP.test"}, id="not as it was allowed"),
        pytest.param({"origin": "https://app.test:8443"}, id="another port than allowed"),
        pytest.param({"sec_fetch_site": "cross-site"}, id="across sites, no origin"),
        pytest.param({"sec_fetch_site": "Cross-Site"}, id="in capitals"),
        pytest.param({"sec_fetch_site": "same-site"}, id="another port of this machine"),
        pytest.param({"referer": "https://evil.test/x"}, id="an old browser's link"),
        pytest.param({"referer": "https://127.0.0.1.evil.test/"}, id="a name that begins alike"),
        pytest.param({"referer": "http://127.0.0.1:3000/"}, id="a link on another port"),
        pytest.param({"referer": "http://127.0.0.1/"}, id="a link without a port"),
        pytest.param({"referer": ""}, id="an empty one"),
        pytest.param({"referer": "http://[::1"}, id="no URL"),
        pytest.param(
            {"origin": "http://127.0.0.1:8080", "sec_fetch_site": "cross-site"}, id="both"
        ),
        pytest.param(
            {"method": "OPTIONS", "access_control_request_method": "POST"}, id="a preflight"
        ),
        pytest.param(
            {"method": "OPTIONS", "origin": "https://evil.test"}, id="OPTIONS of another origin"
        ),
    ],
)
def test_a_page_of_another_origin_may_not(headers: dict[str, str]) -> None:
    assert refusal(**headers) == "foreign_origin"  # type: ignore[arg-type]


def test_a_refused_page_learns_which_option_would_let_it_in() -> None:
    with pytest.raises(Refusal, match=r"listen\.allowed_origins") as caught:
        DOOR.check("POST", {"origin": "https://evil.test"})
    assert caught.value.status == 403


def test_a_refused_name_learns_which_option_would_make_it_ours() -> None:
    with pytest.raises(Refusal, match=r"listen\.allowed_hosts") as caught:
        DOOR.check_host("evil.test")
    assert caught.value.status == 421


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::1%lo", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("localhost", False),
        ("127.1", False),
        ("", False),
    ],
)
def test_loopback_is_known_by_its_address(address: str, is_one: bool) -> None:
    assert is_loopback(address) is is_one


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_this_machine_is_known_by_its_names_and_addresses(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", ["", "localhost.test", "10.0.0.1", "example.com"])
def test_another_machine_is_not_this_one(host: str) -> None:
    assert not is_local(host)


def test_at_a_host_that_we_stand_for_its_own_pages_alone_may_ask() -> None:
    door = DOOR.at("api.openai.com")
    own = HOST | {"host": "api.openai.com", "origin": "https://api.openai.com"}
    door.check_host("API.openai.com.")
    door.check("POST", own)
    assert refusal("api.openai.com", door=door, origin="https://app.test") is None
    assert refusal("api.openai.com", door=door, origin="https://evil.test") == "foreign_origin"
    assert refusal("localhost", door=door) == "misdirected"


# -- who it is ------------------------------------------------------------------------------------

TOKEN = "token-of-alice-0123456789"
LATER = "token-of-alice-from-now-on"
ALICE = Client("alice")


def identity(token: str, expires: float = math.inf, client: Client = ALICE) -> Identity:
    return Identity(client, hashlib.sha256(token.encode()).digest(), expires)


def clients(*identities: Identity) -> Clients:
    return Clients({one.digest: one for one in identities})


CLIENTS = clients(identity(TOKEN))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_without_clients_everybody_is_the_default_one() -> None:
    for made in (
        Clients({}).identify([]),
        Clients({}).identify(["Bearer whatever"], proxy=True),
        Clients({}).again(identity(TOKEN)),
    ):
        assert made.client.name == "default"
        made.check(10**12)


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(TOKEN, id="as a header's whole value"),
        pytest.param(f"Bearer {TOKEN}", id="as a bearer token"),
        pytest.param(f"bearer  {TOKEN} ", id="with more space"),
        pytest.param(basic("alice", TOKEN), id="as a password"),
        pytest.param(basic(TOKEN, ""), id="as a user"),
        pytest.param(basic(TOKEN, "x"), id="as a user with any password"),
    ],
)
def test_a_client_is_known_by_its_token_wherever_it_stands(credential: str) -> None:
    assert CLIENTS.identify(["something else", credential]).client is ALICE


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param("", id="nothing"),
        pytest.param(TOKEN[:-1], id="one character too few"),
        pytest.param(TOKEN + "x", id="one too many"),
        pytest.param(TOKEN.upper(), id="in capitals"),
        pytest.param(basic("alice", "wrong"), id="a wrong password"),
        pytest.param("Basic !!!", id="no base64"),
        pytest.param("Basic", id="a scheme alone"),
        pytest.param("\u00ff\u20ac", id="no ASCII"),
    ],
)
@pytest.mark.parametrize(
    ("proxy", "status"), [pytest.param(False, 401, id="route"), pytest.param(True, 407, id="proxy")]
)
def test_who_is_not_known_is_refused_without_a_word_of_what_he_sent(
    credential: str, proxy: bool, status: int
) -> None:
    with pytest.raises(Refusal) as caught:
        CLIENTS.identify([credential], proxy)
    assert caught.value.status == status
    assert not credential or credential not in caught.value.message


@pytest.mark.parametrize(
    ("proxy", "status"), [pytest.param(False, 401, id="route"), pytest.param(True, 407, id="proxy")]
)
def test_a_token_is_good_until_it_expires(proxy: bool, status: int) -> None:
    known = clients(identity(TOKEN, 100.0)).identify([TOKEN], proxy, 99.0)
    known.check(99.0, proxy)
    with pytest.raises(Refusal, match="client alice has expired") as caught:
        known.check(100.0, proxy)
    assert caught.value.status == status


def test_of_two_tokens_the_one_that_is_still_good_counts() -> None:
    made = clients(identity(TOKEN, 100.0), identity(LATER))
    assert made.identify([TOKEN, LATER], wall=100.0).expires == math.inf
    assert made.identify([TOKEN], wall=100.0).expires == 100.0
    assert made.all == [ALICE]


def test_a_client_that_is_switched_off_is_told_so() -> None:
    with pytest.raises(Refusal, match="client alice is not enabled") as caught:
        identity(TOKEN, client=Client("alice", enabled=False)).check(0.0)
    assert caught.value.status == 403


def test_who_named_itself_before_is_whom_the_configuration_knows_now() -> None:
    before, now = identity(TOKEN), identity(TOKEN, client=Client("alice", enabled=False))
    assert clients(now).again(before) is now
    with pytest.raises(Refusal) as caught:
        clients(identity(LATER)).again(before)
    assert caught.value.code == "unknown_client"


def test_a_client_of_several_tokens_is_one_client() -> None:
    alice, bob = Client("alice"), Client("bob")
    several = clients(
        identity(TOKEN, client=alice), identity(LATER, client=alice), identity("bobs", client=bob)
    )
    assert several.all == [alice, bob]


@pytest.mark.parametrize(
    ("credential", "known"),
    [
        pytest.param(f"Bearer {TOKEN}", True, id="a token of a client's"),
        pytest.param(basic("anybody", TOKEN), True, id="as a password"),
        pytest.param("Bearer sk-of-somebody", False, id="a key"),
        pytest.param("Basic %%%", False, id="no base64"),
    ],
)
def test_a_credential_that_is_for_us_is_known(credential: str, known: bool) -> None:
    assert CLIENTS.knows(credential) is known


# -- header values, sessions --------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"a\0b", b"a\x1b[31m", b"a\x7f", b"a\r\n b", b"\x01"])
def test_a_control_character_in_a_header_is_refused(value: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        check_fields([(b"x-ok", b"a\tb"), (b"x-bad", value)])
    assert (caught.value.code, "x-bad" in caught.value.message) == ("bad_request", True)


def test_a_second_host_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        check_fields([(b"Host", b"a"), (b"x", b"1"), (b"HOST", b"a")])
    assert "more than one Host" in caught.value.message


def test_a_tab_and_any_visible_byte_are_let_through() -> None:
    check_fields([(b"x", b"a\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)))])


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        pytest.param([], None, id="none"),
        pytest.param([(b"Session_Id", b"s-1")], "s-1", id="with an underscore"),
        pytest.param(
            [(b"x-session-id", b"b"), (b"X-Claude-Code-Session-Id", b"a")], "a", id="the first kind"
        ),
    ],
)
def test_the_session_is_the_one_that_a_tool_names(
    fields: list[tuple[bytes, bytes]], found: str | None
) -> None:
    assert session(fields) == found
