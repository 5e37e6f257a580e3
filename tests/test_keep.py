"""Keeping keys: which one a request gets, token and all, and what an answer means for it."""

import gzip
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from llm_passthrough import keep
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.keyring import Key, KeyRing
from llm_passthrough.policy import Named
from llm_passthrough.providers import PROVIDERS, Base, generic
from llm_passthrough.routes import Route, Upstream
from llm_passthrough.tokens import Token, TokenError, TokenSource
from llm_passthrough.verdict import Question
from llm_passthrough.wire import Fields, Stripped, strip
from pydantic import SecretStr

BASE = Base.parse("https://provider.test")
FIELDS = ((b"Content-Type", b"application/json"),)
RETRY = {"x-should-retry": "true", "retry-after-ms": "1"}


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Endpoint:
    """A token endpoint in one function: gives `token-1`, `token-2`, ..., or fails."""

    def __init__(self, *failures: Exception, takes: float = 0, clock: Clock | None = None) -> None:
        self.failures = list(failures)
        self.calls = 0
        self._takes, self._clock = takes, clock

    def __call__(self) -> Token:
        self.calls += 1
        if self._clock is not None:
            self._clock.now += self._takes
        if self.failures:
            raise self.failures.pop(0)
        return Token(SecretStr(f"token-{self.calls}"), 10**10)


def key(name: str, fetch: Endpoint | None = None, weight: float = 1.0) -> Key:
    token = TokenSource(f"azure/{name}", fetch) if fetch else None
    secret = None if fetch else SecretStr(f"sk-{name}")
    return Key(name, "azure", secret, weight, token=token, bearer=fetch is not None)


def upstream_of(*keys: Key, provider: str = "azure") -> Upstream:
    made = PROVIDERS.get(provider) or generic(
        "own", "https://provider.test", "anthropic", "X-Key", "{key}"
    )
    return Upstream(made, KeyRing(provider, keys, "add a key"), BASE, 600, 300)


def question(upstream: Upstream, *headers: tuple[bytes, bytes]) -> Question:
    stripped = strip((*FIELDS, *headers), b"/p/openai/v1/models")
    return Question(Route("/p", (upstream,)), b"/openai/v1/models", None, "GET", stripped, b"")


async def chosen(upstream: Upstream, clock: Clock, *headers: tuple[bytes, bytes]) -> str:
    verdict, secret = await keep.choose(question(upstream, *headers), random.Random(1), clock)
    assert verdict.key is not None
    assert secret is not None
    return f"{verdict.key.name} {secret.get_secret_value()}"


# -- choosing --------------------------------------------------------------------------------------


async def test_a_key_without_a_token_is_its_secret(clock: Clock) -> None:
    assert await chosen(upstream_of(key("a")), clock) == "a sk-a"


async def test_another_key_than_the_preferred_one_is_told_of(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    upstream = upstream_of(key("a"), key("b", weight=0))
    asked = question(upstream)
    verdict, _ = await keep.choose(replace(asked, preferred="b"), random.Random(1), clock)
    assert (verdict.key and verdict.key.name, caplog.messages) == ("b", [])
    verdict, _ = await keep.choose(replace(asked, preferred="sk-gone"), random.Random(1), clock)
    assert verdict.key
    assert caplog.messages == [
        "a repeated call is signed with a: the key that it was signed with before is not there, "
        "or may not be used for it"
    ]


async def test_a_token_is_fetched_once_and_kept(clock: Clock) -> None:
    fetch = Endpoint()
    upstream = upstream_of(key("a", fetch))
    assert [await chosen(upstream, clock) for _ in range(3)] == ["a token-1"] * 3
    assert fetch.calls == 1


async def test_a_key_without_a_token_to_be_had_rests_and_another_is_tried(clock: Clock) -> None:
    upstream = upstream_of(key("a", Endpoint(TokenError("gone"))), key("b", Endpoint(), weight=0.0))
    assert await chosen(upstream, clock) == "b token-1"
    assert upstream.ring.describe(upstream.ring.keys[0], clock.now) == "rests 1 s: no token"
    assert await chosen(upstream, clock) == "b token-1"
    clock.now += 1
    assert await chosen(upstream, clock) == "a token-2"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        pytest.param(TokenError("invalid_client"), "no_token", id="the endpoint says no"),
        pytest.param(TokenError("no answer", late=True), "token_timeout", id="it says nothing"),
        pytest.param(ValueError("SECRET"), "no_token", id="a library's own error"),
        pytest.param(
            ValueError("SECRET: Read timed out."), "token_timeout", id="a library gives it up"
        ),
    ],
)
async def test_when_no_key_has_a_token_the_request_is_refused(
    clock: Clock, failure: Exception, code: str
) -> None:
    ends = [Endpoint(failure), Endpoint(failure)]
    upstream = upstream_of(*(key(name, end) for name, end in zip("ab", ends, strict=True)))
    with pytest.raises(Refusal, match=r"no token for azure/[ab]: ") as raised:
        await chosen(upstream, clock)
    assert (raised.value.code, raised.value.retry) == (code, True)
    assert "SECRET" not in raised.value.message
    assert [end.calls for end in ends] == [1, 1]


async def test_endpoints_slower_than_the_rests_do_not_hold_a_request_for_ever(clock: Clock) -> None:
    """When the second has failed, the first is ready again."""
    failures = [TokenError("no answer", late=True)] * 9
    ends = [Endpoint(*failures, takes=30, clock=clock) for _ in "ab"]
    upstream = upstream_of(*(key(name, end) for name, end in zip("ab", ends, strict=True)))
    with pytest.raises(Refusal):
        await chosen(upstream, clock)
    assert sum(end.calls for end in ends) <= 3


async def test_a_pinned_key_is_not_replaced(clock: Clock) -> None:
    upstream = upstream_of(key("a", Endpoint(TokenError("gone"))), key("b"))
    with pytest.raises(Refusal, match="azure/a: gone"):
        await chosen(upstream, clock, (b"X-Passthrough-Key", b"a"))
    assert upstream.ring.rests(upstream.ring.keys[0], clock.now)


async def test_without_a_key_of_ours_nothing_is_fetched(clock: Clock) -> None:
    upstream = replace(upstream_of(), keyless=True)
    verdict, secret = await keep.choose(question(upstream), random.Random(1), clock)
    assert (verdict.key, secret) == (None, None)


# -- hearing ---------------------------------------------------------------------------------------


def exchange(
    upstream: Upstream, key: Key | None, status: int, at: float = 1000.0, **control: bytes
) -> Exchange:
    names = {name.replace("_", "-").encode(): value for name, value in control.items()}
    stripped = Stripped(FIELDS, b"/x", (), names)
    made = Exchange("id", 0.0, at, "POST", b"/x", stripped)
    made.upstream, made.key, made.status = upstream, key, status
    made.secret = key.secret if key else None
    return made


def hints(fields: Fields) -> dict[str, str]:
    lowered = {name.decode().lower(): value.decode() for name, value in fields}
    return {name: value for name, value in lowered.items() if "retry" in name}


def heard(one: Exchange, now: float = 1000.0, *fields: tuple[bytes, bytes]) -> dict[str, str]:
    return hints(keep.heard(one, (*FIELDS, *fields), now, 0.0))


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 529])
@pytest.mark.parametrize(
    ("provider", "told"),
    [
        ("openai", RETRY),
        ("azure", RETRY),
        ("anthropic", RETRY),
        ("own", RETRY),
        ("gemini", {"retry-after": "9"}),
        ("vertex", {"retry-after": "9"}),
    ],
)
def test_a_client_whose_sdk_obeys_is_asked_to_try_again(
    provider: str, told: dict[str, str], status: int
) -> None:
    upstream = upstream_of(key("a"), key("b"), provider=provider)
    one = exchange(upstream, upstream.ring.keys[0], status)
    assert heard(one, 1000.0, (b"Retry-After", b"9")) == told
    assert upstream.ring.rests(upstream.ring.keys[0], 1000.5)


@pytest.mark.parametrize("status", [200, 302, 400, 404, 408, 409, 413, 422])
def test_what_is_not_the_keys_fault_changes_nothing(status: int) -> None:
    upstream = upstream_of(key("a"), key("b"))
    fields = (b"X-Should-Retry", b"false")
    one = exchange(upstream, upstream.ring.keys[0], status)
    assert heard(one, 1000.0, fields) == {"x-should-retry": "false"}
    assert upstream.ring.states == {}


def test_without_another_key_the_providers_own_headers_stand() -> None:
    upstream = upstream_of(key("a"))
    one = exchange(upstream, upstream.ring.keys[0], 429)
    assert heard(one, 1000.0, (b"retry-after", b"9")) == {"retry-after": "9"}
    assert upstream.ring.describe(upstream.ring.keys[0], 1000.0) == "rests 9 s: answered 429"


def test_nor_is_a_retry_asked_for_while_the_others_rest() -> None:
    upstream = upstream_of(key("a"), key("b"))
    first, second = upstream.ring.keys
    assert heard(exchange(upstream, first, 401)) == RETRY
    assert heard(exchange(upstream, second, 401)) == {}


def test_nor_where_the_others_may_not_serve_the_model() -> None:
    upstream = upstream_of(key("a"), replace(key("b"), models=("other",)))
    one = exchange(upstream, upstream.ring.keys[0], 401)
    one.wanted = Named(("gpt-4o",))
    assert heard(one) == {}


def test_nor_where_the_client_wants_this_key() -> None:
    upstream = upstream_of(key("a"), key("b"))
    one = exchange(upstream, upstream.ring.keys[0], 500, x_passthrough_key=b"a")
    assert heard(one, 1000.0, (b"retry-after", b"9")) == {"retry-after": "9"}


def test_an_answer_to_the_clients_own_credential_says_nothing_about_ours() -> None:
    upstream = replace(upstream_of(key("a"), key("b")), forward=True)
    assert heard(exchange(upstream, None, 401)) == {}
    assert upstream.ring.states == {}


def test_a_good_answer_ends_a_rest() -> None:
    upstream = upstream_of(key("a"))
    (only,) = upstream.ring.keys
    heard(exchange(upstream, only, 401))
    heard(exchange(upstream, only, 200, at=1001.0), 1002.0)
    assert upstream.ring.describe(only, 1002.0) == "ready"


def test_a_good_answer_to_an_older_request_does_not() -> None:
    upstream = upstream_of(key("a"), key("b"))
    first = upstream.ring.keys[0]
    heard(exchange(upstream, first, 429), 1000.0, (b"retry-after", b"60"))
    heard(exchange(upstream, first, 200, at=999.0), 1002.0)
    assert upstream.ring.describe(first, 1002.0) == "rests 58 s: answered 429"


def test_a_burst_of_refusals_counts_once() -> None:
    upstream = upstream_of(key("a"), key("b"))
    first = upstream.ring.keys[0]
    for _ in range(20):
        heard(exchange(upstream, first, 429))
    assert upstream.ring.describe(first, 1000.0) == "rests 1 s: answered 429"
    heard(exchange(upstream, first, 429, at=1001.0), 1001.0)
    assert upstream.ring.describe(first, 1001.0) == "rests 2 s: answered 429"


async def test_a_refused_token_is_dropped_once_and_then_the_key_rests(clock: Clock) -> None:
    fetch = Endpoint()
    upstream = upstream_of(key("a", fetch))
    (only,) = upstream.ring.keys
    assert only.token is not None
    for token, told in (("token-1", RETRY), ("token-2", {})):
        one = exchange(upstream, only, 401)
        one.secret = await only.token.get()
        assert one.secret.get_secret_value() == token
        assert heard(one) == told
    assert fetch.calls == 2
    assert upstream.ring.describe(only, 1000.0) == "rests 600 s: answered 401"


async def test_a_token_that_is_taken_but_forbidden_is_kept(clock: Clock) -> None:
    fetch = Endpoint()
    upstream = upstream_of(key("a", fetch))
    (only,) = upstream.ring.keys
    assert only.token is not None
    one = exchange(upstream, only, 403)
    one.secret = await only.token.get()
    heard(one)
    assert await only.token.get() is one.secret
    assert upstream.ring.rests(only, 1000.0)


# -- told, failed ----------------------------------------------------------------------------------

INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
DETAILS: dict[str, Any] = {"error": {"code": 429, "details": [INFO]}}
BODY = json.dumps(DETAILS).encode()


@pytest.mark.parametrize(
    ("status", "body", "coding", "told"),
    [
        pytest.param(429, BODY, None, "rests 34 s: answered 429", id="longer than the pause"),
        pytest.param(429, gzip.compress(BODY), b"gzip", "rests 34 s: answered 429", id="gzip"),
        pytest.param(429, BODY[:-9], None, "rests 1 s: answered 429", id="cut off"),
        pytest.param(429, b"", None, "rests 1 s: answered 429", id="no body"),
        pytest.param(503, BODY, None, "rests 1 s: answered 503", id="of another error"),
        pytest.param(400, BODY, None, "ready", id="of no fault of the key's"),
    ],
)
def test_googles_pause_stands_in_the_body(
    status: int, body: bytes, coding: bytes | None, told: str
) -> None:
    upstream = upstream_of(key("a"), key("b"), provider="gemini")
    first = upstream.ring.keys[0]
    one = exchange(upstream, first, status)
    one.answer_headers = FIELDS if coding is None else (*FIELDS, (b"Content-Encoding", coding))
    heard(one)
    keep.told(one, body, 1000.0)
    assert upstream.ring.describe(first, 1000.0) == told


OURS = (b"x-should-retry", b"false")


@pytest.mark.parametrize(
    ("provider", "apart", "control", "told"),
    [
        pytest.param("azure", True, {}, RETRY, id="another resource: at once"),
        pytest.param("azure", True, {"x_passthrough_key": b"a"}, None, id="pinned: as it is"),
        pytest.param("openai", False, {}, None, id="the same host: as it is"),
    ],
)
def test_an_upstream_without_an_answer_rests_its_key(
    provider: str, apart: bool, control: dict[str, bytes], told: dict[str, str] | None
) -> None:
    upstream = upstream_of(key("a"), key("b"), provider=provider)
    if apart:
        upstream = replace(upstream, endpoints={"a": BASE, "b": BASE})
    first, second = upstream.ring.keys
    one = exchange(upstream, first, 0, **control)
    fields = keep.failed(one, (*FIELDS, OURS), 1000.0)
    assert hints(fields) == (told or {"x-should-retry": "false"})
    assert upstream.ring.describe(first, 1000.0) == "rests 1 s: could not be reached"
    assert upstream.ring.describe(second, 1000.0) == "ready"
    assert keep.failed(exchange(upstream, None, 0), (OURS,), 1000.0) == (OURS,)
