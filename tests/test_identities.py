"""The clients of a configuration: tokens as references or hashes, each somebody's alone."""

import hashlib
from datetime import datetime
from pathlib import Path

import pytest
from llm_passthrough import config
from llm_passthrough.build import Parts, build
from llm_passthrough.errors import ConfigError
from llm_passthrough.policy import Client, Limits

TOKEN, OTHER = "token-of-alice-0123456789", "token-of-bob-0123456789"
BOB = "another-token-0123456"
HASHED = "sha256:" + hashlib.sha256(TOKEN.encode()).hexdigest()


def parts(*clients: dict[str, object], **env: str) -> Parts:
    return build(config.parse({"clients": list(clients)}, "file")[0], env, "file")


def alice(*tokens: str) -> dict[str, object]:
    return {"name": "alice", "tokens": list(tokens)}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(TOKEN, id="plain"),
        pytest.param("env.ALICE", id="a variable"),
        pytest.param(HASHED, id="a hash"),
        pytest.param(
            HASHED.replace("a", "A").replace("SHA", "sha").replace("shA", "sha"), id="HEX"
        ),
    ],
)
def test_a_client_is_known_by_its_token(token: str) -> None:
    made = parts(alice(token), ALICE=TOKEN).clients
    assert made.identify([f"Bearer {TOKEN}"]).client.name == "alice"


def test_a_token_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    assert parts(alice(f"file:{file}")).clients.identify([TOKEN]).client.name == "alice"
    file.chmod(0o644)
    assert "chmod 600" in parts(alice(f"file:{file}")).warnings[0]


def test_a_client_may_have_several_tokens_while_it_changes_them() -> None:
    made = parts(alice(HASHED, OTHER), {"name": "bob", "tokens": [BOB]}).clients
    known = [made.identify([token]).client.name for token in (TOKEN, OTHER, BOB)]
    assert known == ["alice", "alice", "bob"]
    assert [client.name for client in made.all] == ["alice", "bob"]


def test_a_token_of_the_configuration_is_redacted_like_a_key() -> None:
    assert TOKEN not in parts(alice(TOKEN)).redactor(f"x {TOKEN} y")


@pytest.mark.parametrize(
    ("clients", "said"),
    [
        pytest.param([alice("short")], "16 characters", id="too short"),
        pytest.param([alice("sha256:abc")], "64 hex digits", id="no hash"),
        pytest.param([alice("env.NOBODY")], "NOBODY is not set", id="an unset variable"),
        pytest.param([alice("token with spaces 0123")], "white space", id="white space"),
        pytest.param([alice(TOKEN), alice(OTHER)], "clients[1].name: taken", id="a name twice"),
        pytest.param(
            [alice(TOKEN), {"name": "bob", "tokens": [HASHED]}],
            "clients[1].tokens[0]: is another client's too",
            id="a token twice",
        ),
    ],
)
def test_what_is_wrong_is_said_without_the_token(
    clients: list[dict[str, object]], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parts(*clients)
    (line,) = caught.value.lines
    assert said in line
    assert TOKEN not in line


KEYED = {"openai": {"keys": [{"name": "team", "value": "sk-0123456789"}, {"value": "sk-9"}]}}
OFF = {"openai": {"keys": [{"name": "team", "value": "sk-0123456789", "enabled": False}]}}


def ruled(rest: dict[str, object] | None = None, /, **rules: object) -> Parts:
    """The parts of a configuration with one client that has these rules."""
    document = {"clients": [alice(HASHED) | rules], "providers": KEYED} | (rest or {})
    return build(config.parse(document, "file")[0], {}, "file")


def test_the_rules_of_a_client_are_those_of_the_configuration() -> None:
    (made,) = ruled(
        enabled=False,
        routes=["/openai_passthrough", "host:api.openai.com", "*.test"],
        providers=["openai"],
        models=["a"],
        blacklisted_models=["b"],
        keys=["team"],
        requests_per_minute=1,
        tokens_per_minute=2,
        budget={"daily": 3, "monthly": 4, "unpriced": 5},
        capture="usage",
    ).clients.all
    assert made == Client(
        "alice",
        False,
        ("/openai_passthrough", "api.openai.com", "*.test"),
        ("openai",),
        ("a",),
        ("b",),
        ("team",),
        Limits(1, 2, 3.0, 4.0, 5.0),
        "usage",
    )


def test_without_rules_a_client_may_use_everything() -> None:
    assert ruled().clients.all == [Client("alice")]


@pytest.mark.parametrize(
    ("expires", "until"),
    [
        pytest.param("2026-11-26", "2026-11-27T00:00:00+00:00", id="a day: to its end, in UTC"),
        pytest.param("2026-11-26T12:00:00Z", "2026-11-26T12:00:00+00:00", id="a time"),
        pytest.param("2026-11-26T12:00:00+02:00", "2026-11-26T10:00:00+00:00", id="an offset"),
    ],
)
def test_a_token_may_have_an_end(expires: str, until: str) -> None:
    token = {"value": HASHED, "expires": expires}
    made = parts({"name": "alice", "tokens": [token]}).clients
    assert made.identify([TOKEN]).expires == datetime.fromisoformat(until).timestamp()


@pytest.mark.parametrize("expires", ["tomorrow", "2026-11-26T12:00:00", "2026-13-01", "", 5])
def test_an_end_that_is_none_stops_the_start(expires: object) -> None:
    token = {"value": HASHED, "expires": expires}
    with pytest.raises(ConfigError, match=r"clients\[0\]\.tokens\[0\]\.expires: must be"):
        parts({"name": "alice", "tokens": [token]})


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        pytest.param({"routes": ["/openai"]}, "clients[0].routes: one of them names", id="a route"),
        pytest.param({"providers": ["opnai"]}, "there are: anthropic, azure", id="a provider"),
        pytest.param({"keys": ["team", "x*"]}, "there are: key-2, team", id="a key"),
        pytest.param({"keys": ["x"], "": {"providers": {}}}, "there are: none", id="no key at all"),
        pytest.param(
            {"tokens_per_minute": 1, "capture": "none"}, "set capture", id="tokens not recorded"
        ),
        pytest.param(
            {"budget": {"daily": 1}, "": {"log": {"capture": "none"}}}, "set capture", id="no costs"
        ),
    ],
)
def test_a_rule_that_cannot_be_kept_stops_the_start(rules: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ruled(rules.pop("", None), **rules)  # type: ignore[arg-type]
    assert said in caught.value.lines[0]


@pytest.mark.parametrize("providers", [KEYED, OFF])
def test_a_rule_may_name_a_key_by_a_pattern_or_one_that_is_switched_off(providers: object) -> None:
    assert ruled({"providers": providers}, keys=["te*"]).clients.all[0].keys == ("te*",)


@pytest.mark.parametrize(("days", "warned"), [(7, True), (31, False), (None, False)])
def test_a_month_that_is_not_kept_is_warned_of(days: int | None, warned: bool) -> None:
    made = ruled({"log": {"keep_days": days} if days else {}}, budget={"monthly": 1})
    assert any("clients[0].budget.monthly" in line for line in made.warnings) is warned


def test_clients_block_other_hosts_unless_the_configuration_says_otherwise() -> None:
    assert parts().forward.other == "tunnel"
    assert parts(alice(TOKEN)).forward.other == "block"
    document = {"clients": [alice(TOKEN)], "forward": {"other": "inspect"}}
    assert build(config.parse(document, "file")[0], {}, "file").forward.other == "inspect"
