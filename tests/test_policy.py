"""What a client may do: routes, providers, models, keys; how much is recorded of it."""

import pytest
from llm_passthrough.errors import Refusal
from llm_passthrough.policy import EVERYBODY, Client, Limits, allows, lower


def refusal(client: Client, rule: str, name: str) -> str | None:
    """The code of the refusal, or None for what the client may use."""
    try:
        getattr(client, f"check_{rule}")([name] if rule == "models" else name)
    except Refusal as refused:
        code, found = refused.code, (refused.status, refused.retry, "alice" in refused.message)
    else:
        return None
    assert found == (403, False, True)
    return code


ALICE = Client(
    "alice",
    routes=("/openai_passthrough", "*.openai.azure.com"),
    providers=("openai", "azure"),
    models=("gpt-4o*", "o1"),
    blacklisted=("*-preview",),
    keys=("team-*",),
)


@pytest.mark.parametrize(
    ("rule", "name", "code"),
    [
        pytest.param("route", "/openai_passthrough", None, id="a prefix"),
        pytest.param("route", "/openai", "route_denied", id="another name of it"),
        pytest.param("route", "/Openai_passthrough", "route_denied", id="a prefix in capitals"),
        pytest.param("route", "host:a.openai.azure.com", None, id="a host"),
        pytest.param("route", "host:api.openai.com", "route_denied", id="another host"),
        pytest.param("provider", "azure", None, id="a provider"),
        pytest.param("provider", "gemini", "provider_denied", id="another provider"),
        pytest.param("key", "team-1", None, id="a key"),
        pytest.param("key", "main", "key_denied", id="another key"),
        pytest.param("models", "gpt-4o-mini", None, id="a model"),
        pytest.param("models", "GPT-4O", None, id="a model in capitals"),
        pytest.param("models", "gpt-4o-preview", "model_denied", id="denied wins"),
        pytest.param("models", "models/gpt-4o-Preview", "model_denied", id="denied, spelt longer"),
        pytest.param("models", "gpt-4", "model_denied", id="another model"),
        pytest.param("models", "", "model_denied", id="no name"),
    ],
)
def test_a_client_may_use_what_its_rules_name(rule: str, name: str, code: str | None) -> None:
    assert refusal(ALICE, rule, name) == code
    assert refusal(EVERYBODY, rule, name) is None


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        pytest.param("gemini-x", True, id="its name"),
        pytest.param("models/gemini-x", True, id="a resource name"),
        pytest.param("projects/p/locations/l/publishers/google/models/gemini-x", True, id="long"),
        pytest.param("vendor/gemini-x", False, id="another vendor's of that name"),
        pytest.param("mymodels/gemini-x", False, id="no resource name"),
        pytest.param("models/gemini-x/y", False, id="more behind it"),
    ],
)
def test_a_model_is_allowed_by_its_name_and_as_a_resource(model: str, allowed: bool) -> None:
    assert allows(model, ("gemini-*",), ()) is allowed


def test_who_may_use_no_model_is_told_so() -> None:
    with pytest.raises(Refusal, match="its models: none, but not x"):
        Client("alice", models=(), blacklisted=("x",)).check_models(["y"])
    with pytest.raises(Refusal, match="its keys: none"):
        Client("alice", keys=()).check_key("y")


@pytest.mark.parametrize(
    ("limits", "budgeted", "metered"),
    [
        (Limits(), False, False),
        (Limits(requests_per_minute=1), False, False),
        (Limits(tokens_per_minute=1), False, True),
        (Limits(daily=1.0), True, True),
        (Limits(monthly=0.0), True, True),
    ],
)
def test_usage_has_to_be_known_where_something_depends_on_it(
    limits: Limits, budgeted: bool, metered: bool
) -> None:
    assert (limits.budgeted, limits.metered) == (budgeted, metered)


@pytest.mark.parametrize(
    ("client", "capture", "captured"),
    [
        pytest.param(Client("a"), "full", "full", id="no rule"),
        pytest.param(Client("a", capture="usage"), "full", "usage", id="less"),
        pytest.param(Client("a", capture="full"), "usage", "usage", id="never more"),
        pytest.param(Client("a", capture="usage"), "none", "none", id="less was asked for"),
        pytest.param(Client("a", limits=Limits(daily=1.0)), "none", "usage", id="with a budget"),
        pytest.param(Client("a", limits=Limits(daily=1.0)), "full", "full", id="and all of it"),
    ],
)
def test_a_client_may_lower_what_is_recorded_but_not_hide_from_its_budget(
    client: Client, capture: str, captured: str
) -> None:
    assert client.captured(capture) == captured


@pytest.mark.parametrize("configured", ["none", "usage", "full"])
@pytest.mark.parametrize("asked", [None, "none", "usage", "full", " USAGE ", "everything", ""])
def test_a_request_may_lower_what_is_captured_and_not_raise_it(
    configured: str, asked: str | None
) -> None:
    order = ["none", "usage", "full"]
    got = lower(configured, asked.encode() if asked is not None else None)
    wanted = (asked or configured).strip().lower()
    expected = min(configured, wanted, key=order.index) if wanted in order else configured
    assert got == expected
