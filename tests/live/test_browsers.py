"""Web pages and the gateway: an allowed page can use it, from a real browser; no other page can.

Ids are the threat catalogue's, family E.
"""

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live.chromium import chromium
from live.harness import Gateway, Provider, config_for, request
from live.oracles import Heard, Oracles, talk

TOKEN = "llmp_token-of-a-page-0123456789"
CHAT = "/openai_passthrough/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": True}


class Site:
    """A web site of an empty page on loopback."""

    def __init__(self) -> None:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/nonexistent")
        handler.func.do_GET = _page  # type: ignore[attr-defined]
        handler.func.log_message = lambda *_: None  # type: ignore[attr-defined]
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _page(self: http.server.BaseHTTPRequestHandler) -> None:
    page = b"<!doctype html><title>a page</title>"
    self.send_response(200)
    self.send_header("Content-Type", "text/html")
    self.send_header("Content-Length", str(len(page)))
    self.end_headers()
    self.wfile.write(page)


class Scene:
    """A gateway with a client, which allows the pages of one site."""

    def __init__(self, folder: Path) -> None:
        self.allowed, self.foreign, self.provider = Site(), Site(), Provider()
        config = config_for(
            self.provider.url,
            listen={"allowed_origins": [self.allowed.origin]},
            clients=[{"name": "page", "tokens": [TOKEN], "models": ["gpt-*"]}],
        )
        self.gateway = Gateway(folder, config)
        self.oracles = Oracles(self.gateway, (self.provider,), clients=(TOKEN,))

    def ask(self, *headers: str, method: str = "POST", host: str = "", body: Any = BODY) -> Heard:
        """A request as a browser sends it, from a page of `{OK}` or `{EV}`."""
        fields = [
            line.replace("{OK}", self.allowed.origin).replace("{EV}", self.foreign.origin)
            for line in headers
        ]
        content = json.dumps(body).encode() if body else b""
        host = host or f"localhost:{self.gateway.port}"
        return talk(self.gateway.port, request(CHAT, content, method, tuple(fields), host))

    def stop(self) -> None:
        self.gateway.stop()
        for part in (self.allowed, self.foreign, self.provider):
            part.stop()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tmp_path_factory.mktemp("browsers"))
    yield scene
    scene.stop()


# -- as bytes -------------------------------------------------------------------------------------

BEARER = f"Authorization: Bearer {TOKEN}"
PREFLIGHT = (
    "Access-Control-Request-Method: POST",
    "Access-Control-Request-Headers: authorization,content-type",
    "Access-Control-Request-Private-Network: true",
)


def test_the_browser_of_an_allowed_page_is_answered_before_it_asks(scene: Scene) -> None:
    """E04: no token is sent with it, nobody is asked, and no record is made of it."""
    scene.oracles.mark()
    heard = scene.ask("Origin: {OK}", *PREFLIGHT, method="OPTIONS", body=None)
    assert (heard.status, heard.body) == (204, b"")
    assert heard.header("access-control-allow-origin") == scene.allowed.origin
    assert heard.header("access-control-allow-headers") == "authorization,content-type"
    assert heard.header("access-control-allow-private-network") == "true"
    assert heard.header("vary") == "Origin"
    assert heard.header("content-length") is None
    assert not scene.oracles.new()
    scene.oracles.check(heard.data, records=0)


@pytest.mark.parametrize(
    ("headers", "method"),
    [
        pytest.param(("Origin: {EV}", *PREFLIGHT), "OPTIONS", id="E04-another-page"),
        pytest.param(PREFLIGHT, "OPTIONS", id="E04-no-page"),
        pytest.param(("Origin: null", *PREFLIGHT), "OPTIONS", id="E04-sandboxed"),
        pytest.param(("Origin: {OK}.evil.test", *PREFLIGHT), "OPTIONS", id="E04-begins-alike"),
        pytest.param(("Origin: {EV}", BEARER), "POST", id="E01-with-a-token"),
        pytest.param(
            ("Origin: {EV}", BEARER, "Sec-Fetch-Site: cross-site"), "POST", id="E01-cross-site"
        ),
        pytest.param(("Referer: {EV}/x", BEARER), "POST", id="E02-referer"),
        pytest.param(
            (BEARER, "Sec-Fetch-Dest: image", "Sec-Fetch-Site: cross-site"), "GET", id="E08-image"
        ),
    ],
)
def test_no_other_page_is_let_in_or_told_anything(
    scene: Scene, headers: tuple[str, ...], method: str
) -> None:
    scene.oracles.mark()
    heard = scene.ask(*headers, method=method, body=BODY if method == "POST" else None)
    assert heard.status == 403
    assert b"access-control-" not in heard.data.lower()
    assert not scene.oracles.new()
    scene.oracles.check(heard.data, records=1)


@pytest.mark.parametrize("site", ["{EV}", "{OK}"])
def test_a_name_that_was_rebound_is_no_name_of_ours(scene: Scene, site: str) -> None:
    """E07: also for a page that would be allowed."""
    heard = scene.ask(f"Origin: {site}", BEARER, host=f"evil.test:{scene.gateway.port}")
    assert heard.status == 421
    assert b"access-control-" not in heard.data.lower()


@pytest.mark.parametrize(
    ("headers", "body", "status", "readable"),
    [
        pytest.param((BEARER,), BODY, 200, "x-ratelimit-limit-requests", id="an answer"),
        pytest.param((), BODY, 401, "x-passthrough-error", id="a refusal"),
        pytest.param((BEARER,), {"model": "x"}, 403, "x-passthrough-error", id="a rule's refusal"),
    ],
)
def test_an_allowed_page_may_read_what_it_gets(
    scene: Scene, headers: tuple[str, ...], body: Any, status: int, readable: str
) -> None:
    heard = scene.ask("Origin: {OK}", "Sec-Fetch-Site: cross-site", *headers, body=body)
    assert heard.status == status
    assert heard.header("access-control-allow-origin") == scene.allowed.origin
    assert readable in (heard.header("access-control-expose-headers") or "")
    assert "x-request-id" in (heard.header("access-control-expose-headers") or "")


def test_who_is_no_page_gets_the_answer_as_it_is(scene: Scene) -> None:
    heard = scene.ask(BEARER)
    assert heard.status == 200
    assert b"access-control-" not in heard.data.lower()
    assert heard.header("vary") is None


# -- in a browser ---------------------------------------------------------------------------------

ASK = """
async ({ url, token, body }) => {
  const headers = { "Content-Type": "application/json", "X-Stainless-Lang": "js" };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    const { status } = answer;
    const id = answer.headers.get("x-request-id");
    const left = answer.headers.get("x-ratelimit-remaining-tokens");
    return { status, id, left, hidden: answer.headers.get("server"), text: await answer.text() };
  } catch (error) {
    return { refused: String(error) };
  }
}
"""
ATTACKS = """
async ({ url, socket, token }) => {
  const done = [];
  const attempt = async (name, attack) => done.push([name, await attack().catch(() => "refused")]);
  const read = async (answer) => answer.status + (await answer.text());
  const json = JSON.stringify({ model: "gpt-4o", messages: [] });
  const plain = { method: "POST", mode: "no-cors", body: json };
  await attempt("simple post", () => fetch(url, { method: "POST", body: json }).then(read));
  await attempt("opaque post", () => fetch(url, plain).then(read));
  await attempt("without a referrer", () => fetch(url, { ...plain, referrerPolicy: "no-referrer" })
    .then(read));
  await attempt("key in the query", () => fetch(`${url}?key=${token}`, plain).then(read));
  await attempt("beacon", async () => navigator.sendBeacon(`${url}?key=${token}`, json) && "sent");
  await attempt("image", () => new Promise((yes, no) => {
    const image = new Image();
    image.onload = () => yes("loaded");
    image.onerror = no;
    image.src = `${url}?key=${token}`;
  }));
  await attempt("form", () => new Promise((yes) => {
    const frame = Object.assign(document.createElement("iframe"), { name: "target" });
    const form = document.createElement("form");
    const field = Object.assign(document.createElement("input"), { name: json, value: "" });
    Object.assign(form, { method: "POST", enctype: "text/plain", target: "target" });
    form.action = `${url}?key=${token}`;
    form.append(field);
    frame.onload = () => frame.dataset.sent && yes("");
    document.body.append(frame, form);
    frame.dataset.sent = "yes";
    form.submit();
    setTimeout(() => yes(""), 2000);
  }));
  await attempt("socket", () => new Promise((yes, no) => {
    const made = new WebSocket(socket, ["realtime", `openai-insecure-api-key.${token}`]);
    made.onopen = () => yes("open");
    made.onerror = no;
  }));
  return done;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium to which evil.test is this machine, as after a rebinding."""
    with chromium("--host-resolver-rules=MAP evil.test 127.0.0.1") as started:
        yield started


def visit(browser: Any, url: str) -> Any:
    page = browser.new_page()
    page.set_default_timeout(20_000)
    page.goto(url)
    return page


def test_an_allowed_web_app_uses_the_gateway_from_a_browser(browser: Any, scene: Scene) -> None:
    scene.oracles.mark()
    page = visit(browser, scene.allowed.origin)
    told = {"url": scene.gateway.url + CHAT, "token": TOKEN, "body": BODY}
    found = page.evaluate(ASK, told)
    refused = page.evaluate(ASK, told | {"token": ""})
    page.close()
    assert found["status"] == 200, found
    assert found["id"].startswith("req_")
    assert found["left"]
    assert found["hidden"] is None
    assert found["text"].rstrip().endswith("data: [DONE]")
    assert (refused["status"], "knows no client" in refused["text"]) == (401, True)
    (sent,) = scene.oracles.new()
    assert TOKEN not in sent.head.decode()
    scene.oracles.check(records=2)


def test_an_allowed_web_app_can_talk_through_a_websocket(browser: Any, scene: Scene) -> None:
    page = visit(browser, scene.allowed.origin)
    found = page.evaluate(
        """async ({ url, token }) => new Promise((yes, no) => {
          const made = new WebSocket(url, ["realtime", `openai-insecure-api-key.${token}`]);
          made.onmessage = (message) => yes(JSON.parse(message.data).type);
          made.onerror = no;
        })""",
        {"url": f"{_socket(scene)}?model=gpt-realtime", "token": TOKEN},
    )
    page.close()
    assert found == "session.created"


def _socket(scene: Scene) -> str:
    return f"ws://localhost:{scene.gateway.port}/openai_passthrough/v1/realtime"


def test_a_foreign_page_gets_no_call_through_even_with_a_token(browser: Any, scene: Scene) -> None:
    """E01, E02, E04, E08: whatever a page can send without asking, and what it has to ask for."""
    scene.oracles.mark()
    page = visit(browser, scene.foreign.origin)
    told = {"url": scene.gateway.url + CHAT, "token": TOKEN, "body": BODY}
    found = page.evaluate(ASK, told)
    attacks = dict(page.evaluate(ATTACKS, told | {"socket": _socket(scene)}))
    page.close()
    assert "refused" in found
    # An opaque answer has neither status nor text; a beacon and a form tell nothing.
    opaque = dict.fromkeys(("opaque post", "without a referrer", "key in the query"), "0")
    silent = {"beacon": "sent", "form": ""}
    loud = dict.fromkeys(("simple post", "image", "socket"), "refused")
    assert attacks == opaque | silent | loud
    assert not scene.oracles.new(), "a call went through"
    scene.oracles.check()


def test_a_rebound_name_shows_a_page_nothing(browser: Any, scene: Scene) -> None:
    """E07: for its browser the gateway is of the page's own origin, so it lets it read."""
    scene.oracles.mark()
    page = browser.new_page()
    answer = page.goto(f"http://evil.test:{scene.gateway.port}/openai_passthrough/v1/models")
    own = {"url": CHAT, "token": TOKEN, "body": BODY}
    found = page.evaluate(ASK, own)
    page.close()
    assert answer is not None
    assert (answer.status, found["status"]) == (421, 421)
    assert not scene.oracles.new()
