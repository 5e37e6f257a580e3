"""What a browser is told: of an allowed page what it may do and read, of all others nothing."""

import pytest
from llm_passthrough import cors
from llm_passthrough.wire import Fields

ORIGIN = "http://localhost:3000"
PERMISSION = cors.permission(ORIGIN)
ASKS = {"access-control-request-method": "POST"}
ANSWER: Fields = (
    (b"Content-Type", b"application/json"),
    (b"X-Request-Id", b"1"),
    (b"x-ratelimit-remaining-tokens", b"5"),
    (b"anthropic-ratelimit-tokens-reset", b"x"),
    (b"Retry-After", b"2"),
    (b"retry-after", b"2"),
    (b"Server", b"x"),
)


def named(fields: Fields, name: str) -> list[str]:
    return [v.decode() for n, v in fields if n.decode().lower() == name.lower()]


def test_an_answer_names_the_page_and_what_it_may_read() -> None:
    fields = cors.told(ANSWER, PERMISSION)
    assert fields[: len(ANSWER)] == ANSWER
    assert named(fields, "access-control-allow-origin") == [ORIGIN]
    assert named(fields, "vary") == ["Origin"]
    assert named(fields, "access-control-expose-headers") == [
        "x-request-id, x-ratelimit-remaining-tokens, anthropic-ratelimit-tokens-reset, retry-after"
    ]
    assert named(fields, "access-control-allow-credentials") == []


def test_an_answer_to_nobody_stays_as_it_is() -> None:
    assert cors.told(ANSWER, ()) is ANSWER
    assert named(cors.told((), PERMISSION), "access-control-expose-headers") == []


def test_a_question_before_the_request_is_answered_with_what_is_allowed() -> None:
    asked = ASKS | {"access-control-request-headers": "authorization, content-type,x-stainless-os"}
    fields = cors.preflight(asked)
    assert named(fields, "access-control-allow-methods") == [
        "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
    ]
    assert named(fields, "access-control-allow-headers") == [
        "authorization, content-type,x-stainless-os"
    ]
    assert named(fields, "access-control-max-age") == ["600"]
    assert named(fields, "vary") == [
        "Access-Control-Request-Method, Access-Control-Request-Headers"
    ]
    assert not named(fields, "access-control-allow-private-network")


@pytest.mark.parametrize("names", ["", " ", "a b", "a,", "a\r\nx: y", "a;b", "x" * 4097])
def test_names_that_are_none_are_not_repeated(names: str) -> None:
    fields = cors.preflight(ASKS | {"access-control-request-headers": names})
    assert not named(fields, "access-control-allow-headers")


@pytest.mark.parametrize("network", ["private", "local"])
@pytest.mark.parametrize(("asked", "told"), [("true", ["true"]), ("false", []), ("", [])])
def test_a_page_from_outside_may_reach_this_machine_where_it_is_allowed(
    network: str, asked: str, told: list[str]
) -> None:
    fields = cors.preflight(ASKS | {f"access-control-request-{network}-network": asked})
    assert named(fields, f"access-control-allow-{network}-network") == told
