"""Keys made from a configuration: their secrets and tokens, and what stays when it is read anew."""

import json
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough.build import Parts, build
from llm_passthrough.config import KeyEntry, parse
from llm_passthrough.errors import ConfigError, Findings
from llm_passthrough.keyring import Key, KeyRing
from llm_passthrough.keys import Keys, name_of
from llm_passthrough.seal import plain
from llm_passthrough.settings import USUAL_KEYS

ENV = {"KEY": "sk-KEY-0123456789", "OTHER": "sk-OTHER-0123456789", "SECRET": "client~0123456789"}
PEM = "-----BEGIN " + "PRIVATE KEY-----\nMIIB\n-----END " + "PRIVATE KEY-----\n"
USER = {
    "type": "authorized_user",
    "client_id": "c",
    "client_secret": "GOCSPX-0123456789",
    "refresh_token": "1//REFRESH-0123456789",
}
ACCOUNT = {
    "type": "service_account",
    "client_email": "a@p.iam.gserviceaccount.com",
    "private_key": PEM,
    "token_uri": "https://oauth2.googleapis.com/token",
}
ENTRA = {
    "endpoint": "https://my-resource.openai.azure.com",
    "tenant_id": "contoso.test",
    "client_id": "c",
    "client_secret": "env.SECRET",
}
PLACE = {"project_id": "p-1", "region": "us-central1"}


def made(provider: str, *entries: dict[str, Any]) -> tuple[tuple[Key, ...], Keys, Findings]:
    findings = Findings()
    keys = Keys(ENV, findings)
    parsed = tuple(KeyEntry.model_validate(entry) for entry in entries)
    return keys.of(f"providers.{provider}", provider, parsed), keys, findings


# provider, options, (secret, token, bearer)
KINDS = [
    pytest.param("openai", {"value": "env.KEY"}, (ENV["KEY"], None, False), id="a plain key"),
    pytest.param("azure", {"value": "env.KEY"}, (ENV["KEY"], None, False), id="azure: a key"),
    pytest.param(
        "azure", {"azure_key_config": ENTRA}, (None, "azure/k", True), id="azure: an application"
    ),
    pytest.param(
        "azure",
        {"value": "env.KEY", "azure_key_config": ENTRA},
        (None, "azure/k", True),
        id="azure: an application before a key",
    ),
    pytest.param(
        "azure",
        {"value": "", "azure_key_config": {"endpoint": "https://x.test"}},
        (None, "azure/k", True),
        id="azure: the machine's identity",
    ),
    pytest.param(
        "vertex",
        {"value": "env.KEY", "vertex_key_config": PLACE},
        (ENV["KEY"], None, False),
        id="vertex: an express key",
    ),
    pytest.param(
        "vertex", {"value": "ya29.x"}, ("ya29.x", None, True), id="vertex: a token, by its look"
    ),
    pytest.param(
        "vertex",
        {"value": "env.KEY", "vertex_key_config": {"credential": "oauth_token"}},
        (ENV["KEY"], None, True),
        id="vertex: a token, by its option",
    ),
    pytest.param(
        "vertex",
        {"value": "ya29.x", "vertex_key_config": {"credential": "api_key"}},
        ("ya29.x", None, False),
        id="vertex: an express key, by its option",
    ),
    pytest.param(
        "vertex",
        {"vertex_key_config": PLACE | {"auth_credentials": json.dumps(USER)}},
        (None, "vertex/k", True),
        id="vertex: credentials",
    ),
    pytest.param(
        "vertex", {"vertex_key_config": PLACE}, (None, "vertex/k", True), id="vertex: the default"
    ),
]


@pytest.mark.parametrize(("provider", "options", "expected"), KINDS)
def test_a_key_is_a_secret_or_where_its_tokens_come_from(
    provider: str, options: dict[str, Any], expected: tuple[str | None, str | None, bool]
) -> None:
    (key,), _, findings = made(provider, {"name": "k"} | options)
    assert findings.faults == []
    secret = key.secret.get_secret_value() if key.secret else None
    assert (secret, key.token and key.token.label, key.bearer) == expected


@pytest.mark.parametrize(
    ("provider", "options", "secrets"),
    [
        ("openai", {"value": "env.KEY"}, {ENV["KEY"]}),
        ("azure", {"azure_key_config": ENTRA}, {ENV["SECRET"]}),
        (
            "vertex",
            {"vertex_key_config": {"auth_credentials": json.dumps(USER)}},
            {USER["client_secret"], USER["refresh_token"]},
        ),
        ("vertex", {"vertex_key_config": {"auth_credentials": json.dumps(ACCOUNT)}}, {PEM}),
    ],
)
def test_every_secret_is_known_to_the_redactor(
    provider: str, options: dict[str, Any], secrets: set[str]
) -> None:
    _, keys, _ = made(provider, options)
    assert set(plain(keys.secrets)) == secrets


@pytest.mark.parametrize(
    ("provider", "options", "fault"),
    [
        pytest.param(
            "openai",
            {},
            "value: is missing; such as env.OPENAI_API_KEY or file:PATH",
            id="no value",
        ),
        pytest.param("openai", {"value": "env.NONE"}, "value: the environment", id="not set"),
        pytest.param(
            "openai",
            {"value": "env.KEY", "azure_key_config": {}},
            "azure_key_config: is for azure only; remove it",
            id="of another provider",
        ),
        pytest.param(
            "anthropic",
            {"value": "env.KEY", "project": "p"},
            "project: is for openai and vertex only; remove it",
            id="of two others",
        ),
        pytest.param(
            "azure",
            {"azure_key_config": ENTRA | {"client_secret": "env.NONE"}},
            "azure_key_config.client_secret: the environment variable NONE",
            id="a client secret that is not set",
        ),
        pytest.param(
            "azure",
            {"azure_key_config": ENTRA | {"tenant_id": "a/b"}},
            "azure_key_config: tenant_id is none",
            id="no tenant",
        ),
        pytest.param(
            "azure",
            {"azure_key_config": {"endpoint": "https://x.test", "scopes": ["a b"]}},
            "azure_key_config: scopes holds what is none",
            id="no scope",
        ),
        pytest.param(
            "azure",
            {"value": "env.KEY", "azure_key_config": {"api_version": "a b"}},
            "azure_key_config.api_version: is not valid; such as 2025-04-01-preview",
            id="no version",
        ),
        pytest.param(
            "vertex",
            {"value": "env.KEY", "vertex_key_config": {"region": "evil.test"}},
            "vertex_key_config.region: is not valid; such as us-central1 or global",
            id="no region",
        ),
        pytest.param(
            "vertex",
            {"value": "env.KEY", "vertex_key_config": {"project_id": "a/b"}},
            "vertex_key_config.project_id: is not valid; such as my-project-1",
            id="no project",
        ),
        pytest.param(
            "vertex",
            {"vertex_key_config": {"auth_credentials": "{}"}},
            "vertex_key_config.auth_credentials: has no known `type`",
            id="no credentials",
        ),
        pytest.param(
            "vertex",
            {"vertex_key_config": {"auth_credentials": "file:/not/there"}},
            "vertex_key_config.auth_credentials: cannot read the file",
            id="credentials in no file",
        ),
    ],
)
def test_what_is_wrong_names_its_place_and_its_mend(
    provider: str, options: dict[str, Any], fault: str
) -> None:
    _, _, findings = made(provider, options)
    (told,) = findings.faults
    assert told.startswith(f"providers.{provider}.keys[0].{fault}")
    assert not [value for value in ENV.values() if value in told]


@pytest.mark.parametrize(
    ("provider", "option", "content"),
    [
        ("openai", "value", ENV["KEY"]),
        ("azure", "azure_key_config.client_secret", ENV["SECRET"]),
        ("vertex", "vertex_key_config.auth_credentials", json.dumps(USER)),
    ],
)
@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True)])
def test_a_secret_in_a_file_that_others_can_read_is_warned_of(
    tmp_path: Path, provider: str, option: str, content: str, mode: int, warned: bool
) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    file.chmod(mode)
    part, _, name = option.rpartition(".")
    own: dict[str, Any] = {name: f"file:{file}"}
    options = {part: (ENTRA if provider == "azure" else {}) | own} if part else own
    _, _, findings = made(provider, options)
    said = f"providers.{provider}.keys[0].{option}: other users can read {file}; chmod 600 it"
    assert findings.warnings == ([said] if warned else [])


def test_keys_without_a_name_are_named_by_their_place() -> None:
    keys, _, findings = made(
        "openai",
        {"value": "env.KEY"},
        {"value": "env.KEY", "enabled": False},
        {"value": "env.KEY", "models": []},
        {"value": "env.OTHER"},
        {"value": "env.OTHER", "name": "key-1"},
    )
    assert [key.name for key in keys] == ["key-1", "key-4", "key-1"]
    assert name_of(KeyEntry(), 6) == "key-7"
    assert findings.faults == [
        "providers.openai.keys[4].name: taken by another key; choose another"
    ]


def test_every_provider_has_its_usual_variable() -> None:
    for provider, names in USUAL_KEYS.items():
        if provider not in ("azure", "vertex"):
            assert names[0] in made(provider, {})[2].faults[0]


# -- reading it anew -------------------------------------------------------------------------------


def parts(document: dict[str, Any], old: Parts | None = None) -> Parts:
    return build(parse(document, "t")[0], ENV, "t", old)


def ring_of(parts: Parts, name: str) -> KeyRing:
    return next(ring for ring in parts.routes.rings if ring.provider == name)


def document(**changes: Any) -> dict[str, Any]:
    keys: dict[str, dict[str, Any]] = {
        "plain": {"value": "env.KEY"},
        "entra": {"azure_key_config": ENTRA},
        "google": {"vertex_key_config": PLACE | {"auth_credentials": json.dumps(USER)}},
        "own": {"value": "env.KEY"},
    }
    for name, change in changes.items():
        keys[name] = keys[name] | change
    listed = {name: {"name": name} | key for name, key in keys.items()}
    plain_two = [listed["plain"], {"name": "second", "value": "env.OTHER"}]
    return {
        "providers": {
            "openai": {"keys": plain_two},
            "azure": {"keys": [listed["entra"]]},
            "vertex": {"keys": [listed["google"]]},
        },
        "routes": [
            {
                "prefix": "/own",
                "name": "own",
                "upstream": "https://own.test",
                "keys": [listed["own"]],
            }
        ],
    }


WHERE = {"plain": "openai", "entra": "azure", "google": "vertex", "own": "own"}


def rested(before: Parts) -> Parts:
    for name in WHERE.values():
        for key in ring_of(before, name).keys:
            ring_of(before, name).heard(key, 401, {}, 0.0, 0.0)
    return before


def test_what_stays_the_same_keeps_its_rest_and_its_token() -> None:
    before = rested(parts(document()))
    after = parts(document(), before)
    for name, provider in WHERE.items():
        old, new = ring_of(before, provider), ring_of(after, provider)
        assert new.describe(new.keys[0], 0.0) == "rests 600 s: answered 401"
        assert new.keys[0].name == name
        assert new.keys[0].token is old.keys[0].token
        assert new is not old


def test_an_answer_that_was_under_way_is_heard_for_the_keys_that_stay() -> None:
    """It belongs to an exchange that began with the parts before, or with those before them."""
    first = parts(document())
    second = parts(document(own={"value": "env.SECRET"}), first)
    third = parts(document(own={"value": "env.SECRET"}), second)
    for name, provider in WHERE.items():
        old, new = ring_of(first, provider), ring_of(third, provider)
        key = old.keys[0]
        old.heard(key, 429, {}, 100.0, 0.0)
        rests = "ready" if name == "own" else "rests 1 s: answered 429"
        assert new.describe(new.keys[0], 100.0) == rests
        old.extend(key, 130.0)
        assert new.rests(new.keys[0], 129.0) == (name != "own")
        new.good(new.keys[0], 131.0)
        assert old.describe(key, 129.0) == ("ready" if name != "own" else "rests 1 s: answered 429")
        assert new.describe(new.keys[-1], 100.0) == "ready"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("plain", {"value": "env.SECRET"}, id="another value"),
        pytest.param("plain", {"name": "renamed"}, id="another name"),
        pytest.param("plain", {"models": ["gpt-*"]}, id="other models"),
        pytest.param("own", {"value": "env.SECRET"}, id="another value of a route's own"),
        pytest.param(
            "entra",
            {"azure_key_config": ENTRA | {"client_secret": "env.KEY"}},
            id="another client secret",
        ),
        pytest.param(
            "entra", {"azure_key_config": ENTRA | {"scopes": ["https://x/.default"]}}, id="a scope"
        ),
        pytest.param(
            "google",
            {
                "vertex_key_config": PLACE
                | {"auth_credentials": json.dumps(USER | {"refresh_token": "1//NEW-0123456789"})}
            },
            id="other credentials",
        ),
    ],
)
def test_what_was_changed_begins_anew_and_nothing_else(name: str, change: dict[str, Any]) -> None:
    before = rested(parts(document()))
    after = parts(document(**{name: change}), before)
    for other, provider in WHERE.items():
        old, new = ring_of(before, provider).keys[0], ring_of(after, provider).keys[0]
        told = ring_of(after, provider).describe(new, 0.0)
        assert (told == "ready") is (other == name)
        if other != name or old.token is None:
            assert new.token is old.token
        else:
            assert new.token is not old.token
    second = ring_of(after, "openai")
    assert second.describe(second.keys[1], 0.0) == "rests 600 s: answered 401"


def test_a_key_at_another_endpoint_is_tried_anew_with_the_token_that_it_has() -> None:
    before = rested(parts(document()))
    moved = ENTRA | {"endpoint": "https://other.openai.azure.com"}
    after = parts(document(entra={"azure_key_config": moved}), before)
    ring = ring_of(after, "azure")
    assert ring.describe(ring.keys[0], 0.0) == "ready"
    assert ring.keys[0].token is ring_of(before, "azure").keys[0].token


def test_a_key_that_went_away_and_came_back_is_new() -> None:
    before = rested(parts(document()))
    without = document()
    without["providers"]["openai"]["keys"].pop(0)
    after = parts(document(), parts(without, before))
    ring = ring_of(after, "openai")
    assert [ring.describe(key, 0.0) for key in ring.keys] == [
        "ready",
        "rests 600 s: answered 401",
    ]


def test_the_secrets_of_before_are_still_redacted() -> None:
    before = parts(document())
    after = parts({"providers": {}}, parts({"providers": {}}, before))
    for secret in (ENV["KEY"], ENV["SECRET"], USER["refresh_token"]):
        assert secret not in after.redactor(f"x {secret} y")


def test_a_fault_leaves_the_old_parts_as_they_are() -> None:
    before = rested(parts(document()))
    with pytest.raises(ConfigError):
        parts(document(plain={"value": "env.NONE"}), before)
    ring = ring_of(before, "openai")
    assert ring.describe(ring.keys[0], 0.0) == "rests 600 s: answered 401"
