"""What a client may do, through a real gateway: rules, rates, budgets, and where tokens stand."""

import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from llm_passthrough.cli import app
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from live.harness import KEYS, Gateway, Provider, config_for, raw, request
from live.oracles import Heard, Oracles, found, talk

NAMES = (
    "anybody routes providers models denied keys off expired twice tokens daily monthly hidden "
    "usage talking leaving".split()
)
TOKENS = {name: f"llmp_token-of-{name}-0123456789" for name in NAMES}
LAST_YEAR = "llmp_token-of-last-year-0123456789"
CHAT = "/openai_passthrough/v1/chat/completions"
MESSAGES = "/anthropic_passthrough/v1/messages"
GEMINI = "/genai_passthrough/v1beta/models/gemini-2.5-flash:generateContent"
AZURE = "/azure_passthrough/openai/deployments/gpt-4o/chat/completions"
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
ASKED = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
BODY = {"model": "gpt-4o-mini"} | ASKED | CONTENTS
DOLLAR_A_TOKEN = {"input": 1e6, "output": 1e6}


def rules() -> list[dict[str, Any]]:
    given: dict[str, dict[str, Any]] = {
        "routes": {"routes": ["/openai_passthrough"]},
        "providers": {"providers": ["openai", "gemini"]},
        "models": {"models": ["gpt-4o-mini", "gemini-*"]},
        "denied": {"blacklisted_models": ["*mini"]},
        "keys": {"keys": ["second"]},
        "off": {"enabled": False},
        "twice": {"requests_per_minute": 1},
        "tokens": {"tokens_per_minute": 1},
        "daily": {"budget": {"daily": 1}},
        "monthly": {"budget": {"monthly": 1}},
        "hidden": {"budget": {"daily": 1}},
        "usage": {"capture": "usage"},
        "talking": {"budget": {"daily": 1}},
    }
    made = [{"name": n, "tokens": [t]} | given.get(n, {}) for n, t in TOKENS.items()]
    old = {"value": LAST_YEAR, "expires": "2025-12-31"}
    for client in made:
        if client["name"] == "expired":
            client["tokens"] = [old, *client["tokens"]]
    return made


class Scene:
    """A gateway with clients, and their provider."""

    def __init__(self, folder: Path) -> None:
        self.provider = Provider()
        self.folder = folder
        self.config = config_for(
            self.provider.url,
            clients=rules(),
            prices={"gpt-4o*": DOLLAR_A_TOKEN, "gpt-realtime": DOLLAR_A_TOKEN},
        )
        second = {"name": "second", "value": "sk-second-REAL-KEY-0123456789"}
        self.config["providers"]["openai"]["keys"].append(second)
        self.start()

    def start(self) -> None:
        self.gateway = Gateway(self.folder, self.config)
        keys = KEYS | {"second": "sk-second-REAL-KEY-0123456789"}
        clients = (*TOKENS.values(), LAST_YEAR)
        self.oracles = Oracles(self.gateway, (self.provider,), keys=keys, clients=clients)

    def ask(
        self, name: str, target: str = CHAT, body: Any = BODY, *headers: str, method: str = "POST"
    ) -> Heard:
        token = TOKENS.get(name, name)
        content = json.dumps(body).encode() if body is not None else b""
        fields = (f"Authorization: Bearer {token}", *headers)
        return talk(self.gateway.port, request(target, content, method, fields))

    def until_refused(self, name: str) -> Heard:
        """Ask until what was used is known; that takes a moment after a call."""
        end = time.monotonic() + 10
        while (heard := self.ask(name)).status == 200:
            assert time.monotonic() < end
        return heard

    def stop(self) -> None:
        self.gateway.stop()
        self.provider.stop()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tmp_path_factory.mktemp("policy"))
    yield scene
    scene.stop()


# -- rules ----------------------------------------------------------------------------------------

PIN = "X-Passthrough-Key: "


@pytest.mark.parametrize(
    ("name", "target", "body", "header", "code"),
    [
        pytest.param("anybody", CHAT, BODY, "", None, id="no rule"),
        pytest.param("routes", CHAT, BODY, "", None, id="its route"),
        pytest.param("routes", MESSAGES, BODY, "", "route_denied", id="another route"),
        pytest.param("providers", CHAT, BODY, "", None, id="its provider"),
        pytest.param("providers", GEMINI, CONTENTS, "", None, id="its other provider"),
        pytest.param("providers", AZURE, BODY, "", "provider_denied", id="another provider"),
        pytest.param(
            "providers", GEMINI.replace("v1beta", "v1beta1"), {}, "", "provider_denied",
            id="the other provider of a route",
        ),
        pytest.param("models", CHAT, BODY, "", None, id="its model"),
        pytest.param("models", GEMINI, CONTENTS, "", None, id="its model in the path"),
        pytest.param("models", AZURE, BODY, "", "model_denied", id="another in the path"),
        pytest.param(
            "models", CHAT, BODY | {"model": "gpt-4o"}, "", "model_denied", id="another model"
        ),
        pytest.param("models", CHAT, ASKED, "", "model_denied", id="no model"),
        pytest.param("denied", CHAT, BODY, "", "model_denied", id="a model that is denied"),
        pytest.param("denied", CHAT, BODY | {"model": "gpt-4o"}, "", None, id="one that is not"),
        pytest.param("keys", CHAT, BODY, "", None, id="its key"),
        pytest.param("keys", CHAT, BODY, PIN + "second", None, id="its key by name"),
        pytest.param("keys", CHAT, BODY, PIN + "openai-main", "key_denied", id="another key"),
        pytest.param("keys", MESSAGES, BODY, "", "key_denied", id="no key there"),
        pytest.param("off", CHAT, BODY, "", "client_disabled", id="switched off"),
        pytest.param("expired", CHAT, BODY, "", None, id="its new token"),
        pytest.param(LAST_YEAR, CHAT, BODY, "", "expired_token", id="its old token"),
        pytest.param("nobody-knows-this-one", CHAT, BODY, "", "unknown_client", id="a stranger"),
    ],
)  # fmt: skip
def test_a_rule_lets_through_or_refuses_and_says_which_it_was(
    scene: Scene, name: str, target: str, body: Any, header: str, code: str | None
) -> None:
    scene.oracles.mark()
    heard = scene.ask(name, target, body, *([header] if header else []))
    scene.oracles.check(heard.data)
    (record,) = scene.oracles.new_records(1)
    client = {LAST_YEAR: "expired", "nobody-knows-this-one": "default"}.get(name, name)
    assert record["client"] == client
    assert heard.header("x-passthrough-error") == code
    if code is None:
        assert (heard.status, record["outcome"]) == (200, "ok")
        assert name != "keys" or record["key"] == "second"
        return
    assert heard.status == (401 if code in ("expired_token", "unknown_client") else 403)
    assert heard.header("x-should-retry") == "false"
    assert (record["outcome"], record["error"]["type"]) == ("refused", code)
    assert record["error"]["message"] in heard.body.decode()
    assert not scene.oracles.new(), "it went to the provider"


def proxied(scene: Scene, token: str, target: str) -> Heard:
    """Ask for a tunnel with a token as the proxy's password."""
    login = f"Proxy-Authorization: Basic {basic('x:' + token)}" if token else "X-Nothing: here"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n\r\n"
    return talk(scene.gateway.port, head.encode())


@pytest.mark.parametrize(
    ("name", "target", "status", "code"),
    [
        pytest.param("", "api.openai.com:443", 407, "proxy_unknown_client", id="D08-no token"),
        pytest.param("stranger-0123456789", "api.openai.com:443", 407, "proxy_unknown_client",
                     id="D08-no token of ours"),
        pytest.param(LAST_YEAR, "api.openai.com:443", 407, "proxy_expired_token", id="expired"),
        pytest.param("off", "api.openai.com:443", 403, "client_disabled", id="switched off"),
        pytest.param("routes", "api.openai.com:443", 403, "route_denied", id="another route"),
        pytest.param("routes", "example.com:443", 403, "route_denied", id="any other host"),
        pytest.param("anybody", "example.com:443", 403, "forward_blocked", id="no relay"),
    ],
)  # fmt: skip
def test_who_takes_us_for_its_proxy_is_judged_before_a_tunnel_is_opened(
    scene: Scene, name: str, target: str, status: int, code: str
) -> None:
    scene.oracles.mark()
    heard = proxied(scene, TOKENS.get(name, name), target)
    assert (heard.status, heard.header("x-passthrough-error")) == (status, code)
    assert (heard.header("proxy-authenticate") is not None) is (status == 407)
    scene.oracles.check(heard.data, records=1)


def test_a_body_that_is_too_long_to_be_read_needs_a_rule_that_does_not_ask(
    scene: Scene, tmp_path: Path
) -> None:
    long = b'{"model":"gpt-4o-mini","x":"' + b"x" * (9 << 20) + b'"}'
    fields = (f"Authorization: Bearer {TOKENS['models']}",)
    scene.oracles.mark()
    heard = talk(scene.gateway.port, request(CHAT, long, headers=fields), deadline=30)
    assert (heard.status, heard.header("x-passthrough-error")) == (403, "model_denied")
    assert "too long" in heard.body.decode()
    assert not scene.oracles.new()


def test_less_is_recorded_of_a_client_where_that_is_said(scene: Scene) -> None:
    scene.oracles.mark()
    assert scene.ask("usage").status == 200
    (record,) = scene.oracles.new_records(1)
    assert record["request"]["body"] is record["request"]["headers"] is None
    assert record["usage"]["input_tokens"]


# -- how much -------------------------------------------------------------------------------------


def test_the_requests_of_a_minute_are_counted(scene: Scene) -> None:
    heard = [scene.ask("twice") for _ in range(3)]  # the minute may end in between, once
    refused = next(one for one in heard if one.status == 429)
    assert refused.header("x-passthrough-error") == "requests_per_minute"
    assert refused.header("x-should-retry") is None
    assert 1 <= int(refused.header("retry-after") or 0) <= 60
    assert scene.gateway.record_of("1 requests per minute")["client"] == "twice"


@pytest.mark.parametrize(
    ("name", "code", "longest"),
    [
        ("tokens", "tokens_per_minute", 60),
        ("daily", "daily_budget", 86_400),
        ("monthly", "monthly_budget", 31 * 86_400),
    ],
)
def test_what_calls_used_is_counted_when_they_are_over(
    scene: Scene, name: str, code: str, longest: int
) -> None:
    assert scene.ask(name).status == 200
    refused = scene.until_refused(name)
    assert (refused.status, refused.header("x-passthrough-error")) == (429, code)
    assert refused.header("x-should-retry") == (None if name == "tokens" else "false")
    assert 1 <= int(refused.header("retry-after") or 0) <= longest
    assert scene.gateway.record_of(code)["outcome"] == "refused"


def test_a_budget_is_not_evaded_by_hiding_what_was_used(scene: Scene) -> None:
    scene.oracles.mark()
    heard = scene.ask("hidden", CHAT, BODY, "X-Passthrough-Capture: none")
    assert heard.status == 200
    (record,) = scene.oracles.new_records(1)
    assert record["request"]["body"] is None
    assert record["cost"]["amount"] > 1
    assert scene.until_refused("hidden").status == 429


def test_a_budget_that_is_used_up_stays_so_after_a_start(scene: Scene) -> None:
    scene.until_refused("daily")
    scene.gateway.stop()
    scene.start()
    assert scene.ask("daily").header("x-passthrough-error") == "daily_budget"
    assert scene.ask("anybody").status == 200


def test_what_clients_used_is_shown_on_this_machine(scene: Scene) -> None:
    scene.until_refused("daily")
    health = json.loads(talk(scene.gateway.port, request("/health?clients", b"", "GET", ())).body)
    daily = health["clients"]["daily"]
    assert daily["limits"]["daily"] == 1
    assert daily["today"]["cost"] > 1
    assert daily["this_month"]["calls"] >= 1
    assert not any(token in json.dumps(health) for token in TOKENS.values())


def test_sdks_raise_what_they_raise_for_the_providers_own_refusal(scene: Scene) -> None:
    scene.until_refused("monthly")
    base, token = scene.gateway.url, TOKENS["monthly"]
    with pytest.raises(openai.RateLimitError, match="client monthly has used up"):
        openai.OpenAI(base_url=f"{base}/openai_passthrough/v1", api_key=token).models.list()
    with pytest.raises(anthropic.RateLimitError, match="client monthly has used up"):
        anthropic.Anthropic(base_url=f"{base}/anthropic_passthrough", api_key=token).models.list()
    client = genai.Client(api_key=token, http_options={"base_url": f"{base}/genai_passthrough"})
    with pytest.raises(genai.errors.ClientError, match="RESOURCE_EXHAUSTED") as caught:
        client.models.list()
    assert caught.value.code == 429


# -- the command ----------------------------------------------------------------------------------


def command(scene: Scene, *arguments: str) -> str:
    """`llm-passthrough clients ...` for the file of the running gateway; what it prints."""
    file = str(scene.folder / "gateway.yaml")
    result = CliRunner().invoke(app, ["clients", *arguments, "--config", file])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_what_the_command_changes_holds_a_moment_later(scene: Scene) -> None:
    def until(token: str, status: int) -> None:
        end = time.monotonic() + 15
        while scene.ask(token).status != status:
            assert time.monotonic() < end
            time.sleep(0.1)

    first = command(scene, "add", "late")
    until(first, 200)
    second = command(scene, "rotate", "late")
    until(second, 200)
    assert scene.ask(first).status == 200
    command(scene, "rotate", "late", "--drop-old")
    until(first, 401)
    assert scene.ask(second).status == 200
    assert scene.gateway.record_of('"client": "late"')["outcome"] == "ok"
    listed = command(scene, "list")
    assert "late" in listed
    assert second[-6:] not in listed
    command(scene, "remove", "late")
    until(second, 401)
    scene.oracles.clients += (first, second)
    for file, data in scene.oracles._written():
        assert not found([first, second], data), file


# -- WebSockets that are open ---------------------------------------------------------------------


def dial(scene: Scene, name: str) -> ClientConnection:
    return connect(
        f"ws://localhost:{scene.gateway.port}/openai_passthrough/v1/realtime?model=gpt-realtime",
        additional_headers={"Authorization": f"Bearer {TOKENS[name]}"},
        open_timeout=10,
    )


def said(socket: ClientConnection) -> list[str]:
    """The types of all messages until the gateway closes."""
    types = []
    with contextlib.suppress(ConnectionClosedError):
        while True:
            types.append(json.loads(socket.recv(timeout=10))["type"])
    return types


def test_a_conversation_ends_with_the_turn_that_uses_the_budget_up(scene: Scene) -> None:
    scene.oracles.mark()
    with dial(scene, "talking") as socket:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]}
        socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
        socket.send(json.dumps({"type": "response.create"}))
        assert said(socket)[-1] == "response.done"
        assert socket.close_code == 1008
        assert str(socket.close_reason).startswith("client talking has used up the daily budget")
    turn, own = scene.oracles.new_records(2)
    assert (turn["outcome"], turn["part_of"], turn["cost"]["amount"] > 1) == ("ok", own["id"], True)
    assert (own["outcome"], own["response"]["status"], own["turns"]) == ("refused", 101, 1)
    assert (own["error"]["type"], own["error"]["origin"]) == ("daily_budget", "gateway")
    with pytest.raises(InvalidStatus, match="429"):
        dial(scene, "talking")
    scene.oracles.check()


def test_a_client_that_is_removed_does_not_go_on_talking(scene: Scene) -> None:
    scene.oracles.mark()
    with dial(scene, "leaving") as leaving, dial(scene, "anybody") as staying:
        command(scene, "remove", "leaving")
        said(leaving)
        assert leaving.close_code == 1008
        assert str(leaving.close_reason).startswith("this gateway knows no client by these cred")
        staying.send(json.dumps({"type": "response.create"}))
        while json.loads(staying.recv(timeout=10))["type"] != "response.done":
            pass
    own, *_ = scene.oracles.new_records(3)
    assert (own["client"], own["outcome"]) == ("leaving", "refused")
    assert own["error"]["type"] == "unknown_client"
    scene.oracles.check()


# -- where a token stands -------------------------------------------------------------------------

TOKEN = TOKENS["anybody"]


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


PLACES: list[Any] = [
    pytest.param(CHAT, (f"Authorization: Bearer {TOKEN}",), id="a bearer token"),
    pytest.param(CHAT, (f"authorization: bearer {TOKEN}",), id="in small letters"),
    pytest.param(CHAT, (f"Authorization: {TOKEN}",), id="without a scheme"),
    pytest.param(CHAT, (f"Authorization: Basic {basic('x:' + TOKEN)}",), id="a password"),
    pytest.param(MESSAGES, (f"x-api-key: {TOKEN}",), id="x-api-key"),
    pytest.param(MESSAGES, (f"X_Api_Key: {TOKEN}",), id="with underscores"),
    pytest.param(AZURE + "?api-version=2024-10-21", (f"api-key: {TOKEN}",), id="api-key"),
    pytest.param(AZURE, (f"Ocp-Apim-Subscription-Key: {TOKEN}",), id="a subscription key"),
    pytest.param(GEMINI, (f"x-goog-api-key: {TOKEN}",), id="x-goog-api-key"),
    pytest.param(f"{GEMINI}?key={TOKEN}", (), id="a query's key"),
    pytest.param(f"{GEMINI}?alt=sse&access_token={TOKEN}", (), id="a query's access_token"),
    pytest.param(CHAT, (f"Proxy-Authorization: Basic {basic(TOKEN + ':')}",), id="a proxy's user"),
    pytest.param(
        CHAT, (f"Proxy-Authorization: Basic {basic('x:' + TOKEN)}",), id="a proxy's password"
    ),
    pytest.param(
        CHAT, ("Authorization: Bearer sk-CLIENT-CANARY-9876543210", f"x-api-key: {TOKEN}"),
        id="beside another key",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("target", "headers"), PLACES)
def test_a_token_is_taken_wherever_an_sdk_puts_its_key_and_goes_no_further(
    scene: Scene, target: str, headers: tuple[str, ...]
) -> None:
    scene.oracles.mark()
    heard = talk(scene.gateway.port, request(target, json.dumps(BODY).encode(), headers=headers))
    assert heard.status == 200, heard.data
    check(scene, heard.data)


def check(scene: Scene, heard: bytes) -> None:
    """The one call since the mark was the client's, and nothing of its token is anywhere."""
    scene.oracles.check(heard)
    (record,) = scene.oracles.new_records(1)
    assert record["client"] == "anybody"
    (sent,) = scene.oracles.new()
    assert not found([TOKEN], sent.head + sent.body)


def test_a_token_is_taken_out_of_a_subprotocol(scene: Scene) -> None:
    scene.oracles.mark()
    with connect(
        f"ws://localhost:{scene.gateway.port}/openai_passthrough/v1/realtime?model=gpt-realtime",
        subprotocols=[Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{TOKEN}")],
    ) as socket:
        assert socket.subprotocol == "realtime"
        assert "session.created" in str(socket.recv())
    check(scene, b"")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda token: token[:-1], id="one character too few"),
        pytest.param(lambda token: token + "x", id="one too many"),
        pytest.param(str.upper, id="in capitals"),
        pytest.param(lambda token: "", id="nothing"),
    ],
)
def test_what_is_no_token_is_refused_in_every_place(
    scene: Scene, change: Callable[[str], str]
) -> None:
    scene.oracles.mark()
    for place in PLACES:
        target, headers = place.values
        wrong = [line.replace(TOKEN, change(TOKEN)) for line in headers if "Basic" not in line]
        data = request(target.replace(TOKEN, change(TOKEN)), b"{}", "POST", tuple(wrong))
        answer = raw(scene.gateway.port, data)
        assert answer.startswith(b"HTTP/1.1 401"), place.id
    assert not scene.oracles.new()
