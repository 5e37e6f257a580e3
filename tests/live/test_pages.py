"""The pages inside of a real mitmweb: by HTTP, and in a real browser."""

import http.client
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from made import log
from pages import samples

from live.chromium import chromium
from live.harness import KEYS, WEB_PASSWORD, Gateway, Provider, Web, config_for, raw, request

CHAT = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello %s!"}]}'
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'self'",
}


class Place:
    """A mitmweb with a day of records, some of which are about to attack a browser."""

    def __init__(self, gateway: Gateway, records: list[Any], provider: Provider) -> None:
        self.gateway = gateway
        self.provider = provider
        self.again = records[-1].id
        self.web = Web(gateway)
        self.base = f"http://127.0.0.1:{gateway.web_port}"
        self.hostile = next(one.id for one in records if one.id.endswith("e" * 16))
        self.session = [one.id for one in records if one.client == "agent"][-6:]
        self.picture = next(one.id for one in records if "image/png" in str(one.request.body))
        self._wait()

    def _wait(self) -> None:
        """Until the index has read everything: then a list says how many."""
        end = time.monotonic() + 20
        while b"reading the log" in self.web.get("/llm"):
            assert time.monotonic() < end
            time.sleep(0.05)

    def call(self, word: str) -> None:
        """A call through the gateway."""
        body = CHAT.replace(b"%s", word.encode())
        answer = raw(
            self.gateway.port, request("/openai_passthrough/v1/chat/completions", body), 10
        )
        assert answer.startswith(b"HTTP/1.1 200")

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """A page without any credential but these headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.web_port, timeout=10)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        connection.close()
        return found


LETMEIN = {"Authorization": f"Bearer {WEB_PASSWORD}"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    provider = Provider()
    folder = tmp_path_factory.mktemp("pages")
    (folder / "log").mkdir(mode=0o700)
    now = time.time()
    records = [*samples.day(now, calls=150), samples.hostile(now - 20)]
    records += samples.replayed(now - 500)
    log(folder / "log" / "records.jsonl", records)
    gateway = Gateway(folder, config_for(provider.url), program="mitmweb")
    try:
        yield Place(gateway, records, provider)
    finally:
        gateway.stop()
        provider.stop()


# -- by HTTP ----------------------------------------------------------------------------------


def test_the_link_is_printed_at_start(place: Place) -> None:
    assert f"calls: {place.base}/llm" in place.gateway.output


@pytest.mark.parametrize(
    "path",
    [
        "/llm",
        "/llm/stats",
        "/llm/stats/calls.svg",
        "/llm/events",
        "/llm/static/pages.css",
        "/llm/{id}",
        "/llm/{id}/raw",
        "/llm/{id}/record.json",
    ],
)
def test_without_the_token_nothing_is_shown(place: Place, path: str) -> None:
    path = path.format(id=place.hostile)
    for address, headers in (
        (path, {}),
        (f"{path}?token=wrong", {}),
        (path, {"Authorization": "Bearer x"}),
    ):
        status, _, body = place.get(address, **headers)
        assert status == 403
        assert b"behind mitmweb's token" in body
        assert b"alert" not in body


@pytest.mark.parametrize(
    "path",
    [
        "/llm",
        "/llm?sort=cost&page=2",
        "/llm/stats?by=client",
        "/llm/{id}",
        "/llm/{id}/raw",
        "/llm/none",
    ],
)
def test_every_page_has_the_strict_policy(place: Place, path: str) -> None:
    status, headers, body = place.get(path.format(id=place.hostile), **LETMEIN)
    assert status == (404 if path.endswith("none") else 200)
    policy = {part.strip() for part in headers["content-security-policy"].split(";")}
    assert policy >= POLICY
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"].startswith("text/html")
    assert b"<script>" not in body


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/llm/stats/first.svg?dark=1", "image/svg+xml"),
        ("/llm/{id}/record.json", "application/json"),
    ],
)
def test_files_are_in_a_sandbox(place: Place, path: str, kind: str) -> None:
    status, headers, body = place.get(path.format(id=place.session[0]), **LETMEIN)
    assert (status, headers["content-type"]) == (200, kind)
    assert "sandbox" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    if kind == "application/json":
        assert json.loads(body)["id"] == place.session[0]
        assert headers["content-disposition"].startswith("attachment")


def test_the_token_goes_out_of_the_address(place: Place) -> None:
    status, headers, _ = place.get(f"/llm?token={WEB_PASSWORD}&sort=cost&evil=x")
    assert (status, headers["location"]) == (302, "/llm?sort=cost")
    assert "mitmproxy-auth" in headers["set-cookie"]
    assert "httponly" in headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "path",
    [
        "/llm/static/handlers.py",
        "/llm/static/..%2Fhandlers.py",
        "/llm/static/../__init__.py",
        "/llm/stats/nothing.svg",
        "/llm/%27%20OR%201=1",
        "/llm/..%2f..%2fetc%2fpasswd",
        "/llm/%ff%fe/raw",
    ],
)
def test_what_is_not_there_is_not_found(place: Place, path: str) -> None:
    status, _, body = place.get(path, **LETMEIN)
    assert status in (400, 404)
    assert b"Traceback" not in body
    assert b"import" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(place: Place, method: str) -> None:
    assert place.web.call(method, "/llm")[0] == 405
    assert place.web.call(method, f"/llm/{place.hostile}")[0] == 405


def test_mitmwebs_own_pages_stay_as_they_are(place: Place) -> None:
    assert b"<title>mitmproxy</title>" in place.web.get("/")
    assert isinstance(place.web.flows(), list)


def test_words_that_mean_nothing_are_told(place: Place) -> None:
    page = place.web.get("/llm?status=many&since=never&page=-1&sort=evil").decode()
    assert "status must be such as" in page
    assert "since must be one of" in page


@contextmanager
def events(place: Place, words: str = "") -> Iterator[Callable[[], dict[str, Any]]]:
    """What is told live; the function waits for the next event that has calls."""
    connection = http.client.HTTPConnection("127.0.0.1", place.gateway.web_port, timeout=10)
    connection.request("GET", f"/llm/events{words}", headers=LETMEIN)
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream; charset=utf-8"

    def following() -> dict[str, Any]:
        while True:
            line = answer.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                value: dict[str, Any] = json.loads(line[6:])
                if value["calls"] or words == "":
                    return value

    try:
        yield following
    finally:
        connection.close()


def test_a_call_is_told_when_it_ends(place: Place) -> None:
    with events(place) as following:
        assert following()["calls"] == []
        place.call("there")
        news = following()
    assert [cell[1] for cell in news["calls"][0]["cells"]][2:5] == ["openai", "gpt-4o", "chat"]
    page = place.web.get(f"/llm/{news['calls'][0]['id']}").decode()
    assert "Hello there!" in page


def test_only_what_is_asked_for_is_told(place: Place) -> None:
    cursor = re.search(rb'data-cursor="(\d+)"', place.web.get("/llm"))
    assert cursor
    place.call("one")
    place.call("needle")
    with events(place, f"?grep=needle&cursor={cursor[1].decode()}") as following:
        calls = following()["calls"]
    assert len(calls) == 1


def test_after_a_reload_it_is_still_the_same_log(place: Place) -> None:
    file = place.gateway.folder / "gateway.yaml"
    text = file.read_text()
    settings = json.loads(text)
    settings["log"]["capture"] = "usage"
    settings["log"]["path"] = str(place.gateway.folder / "elsewhere.jsonl")

    def reload(text: str) -> None:
        before = place.gateway.output.count("the configuration was read again")
        file.write_text(text)
        until(lambda: place.gateway.output.count("the configuration was read again") > before)

    reload(json.dumps(settings))
    with events(place) as following:
        following()
        place.call("reload")
        (call,) = following()["calls"]
    page = place.web.get(f"/llm/{call['id']}").decode()
    assert "Headers and bodies of this call were not kept" in page
    assert "Hello reload!" not in page
    reload(text)


# -- in a browser -----------------------------------------------------------------------------

DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium, driven by playwright."""
    with chromium() as started:
        yield started


class Tab:
    """A page of a browser, and everything that it should not have done."""

    def __init__(self, page: Any, base: str) -> None:
        self.page = page
        self.faults: list[str] = []
        self._base = urlsplit(base).netloc
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", self._asked)

    def _heard(self, kind: str, text: str) -> None:
        if kind == "error":
            self.faults.append(f"console: {text}")

    def _dialog(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _asked(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "data" and parts.netloc != self._base:
            self.faults.append(f"request: {request.url}")

    def says(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())

    def fits(self) -> bool:
        """Whether nothing stands out at the side."""
        script = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        return bool(self.page.evaluate(script))


def until(true: Callable[[], object]) -> None:
    """Wait for something; what playwright waits with in a page is refused by our policy."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def keep_picture(page: Any) -> None:
    """What a test saw last, for people to look at, where the environment names a folder for it."""
    if folder := os.environ.get("LLM_PASSTHROUGH_TEST_PICTURES"):
        test = os.environ["PYTEST_CURRENT_TEST"].partition("::")[2].removesuffix(" (call)")
        name = re.sub(r"\W+", "-", test)
        page.screenshot(path=Path(folder) / f"{name.strip('-')}.png")


@pytest.fixture(scope="module")
def show(browser: Any, place: Place) -> Iterator[Callable[[str], Any]]:
    """Opens a page, which must do nothing that it should not; always in the same tab."""
    page = browser.new_page(viewport=DESK, color_scheme="light", extra_http_headers=LETMEIN)
    page.set_default_timeout(20_000)
    opened = Tab(page, place.base)

    @contextmanager
    def shown(path: str) -> Iterator[Tab]:
        opened.faults.clear()
        page.set_viewport_size(DESK)
        page.emulate_media(color_scheme="light")
        page.goto(place.base + path)
        yield opened
        keep_picture(page)
        assert opened.faults == []

    yield shown
    page.close()


def test_the_list_grows_by_itself(place: Place, show: Callable[..., Any]) -> None:
    with show("/llm") as seen:
        seen.page.wait_for_selector('[data-live="on"]')
        count = seen.page.locator("tr[data-item]").count()
        assert count == 100
        place.call("browser")
        seen.page.wait_for_selector("tr.arrived")
        assert "gpt-4o" in seen.says("tbody tr:first-child")
        assert seen.page.locator("tr[data-item]").count() == count
    with show("/llm?sort=cost") as seen:
        place.call("again")
        seen.page.wait_for_selector("[data-news]:not([hidden])")
        assert seen.says("[data-news]") == "1 new call"


def test_filters_are_a_form_and_keys_walk_through_the_list(
    place: Place, show: Callable[..., Any]
) -> None:
    with show("/llm") as seen:
        seen.page.keyboard.press("/")
        seen.page.keyboard.type("stale entries")
        seen.page.select_option("[name=provider]", "anthropic")
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_url("**/llm?grep=stale+entries&provider=anthropic")
        assert seen.says("[data-total]") == "6 calls"
        for key in ("j", "j", "k", "j"):
            seen.page.keyboard.press(key)
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_url(f"**/llm/{place.session[-2]}")
        seen.page.keyboard.press("?")
        assert seen.page.locator("#keys").is_visible()
        seen.page.keyboard.press("?")
        seen.page.keyboard.press("p")
        seen.page.wait_for_url(f"**/llm/{place.session[-3]}")
        seen.page.keyboard.press("u")
        seen.page.wait_for_url("**/llm")


def test_a_call_shows_its_conversation_and_its_difference(
    place: Place, show: Callable[..., Any]
) -> None:
    with show(f"/llm/{place.session[-1]}") as seen:
        assert seen.says("h1") == "claude-sonnet-4-5"
        assert "prompt cache: hit" in seen.says(".cache")
        assert "2 new messages" in seen.says(".difference")
        assert seen.page.locator(".timeline rect").count() == 4
        earlier = seen.page.get_by_text(samples.QUESTION)
        assert not earlier.is_visible(), "what stood in the turn before is folded"
        seen.page.keyboard.press("e")
        assert earlier.is_visible()
        assert seen.page.locator(".tool_call .result").count() == 5
        assert samples.DONE in seen.says(".message.answer")
    with show(f"/llm/{place.picture}") as seen:
        width = seen.page.locator(".block img").evaluate("image => image.naturalWidth")
        assert width == 10


def test_a_call_that_is_replayed_in_mitmweb_stands_beside_the_first(
    place: Place, show: Callable[..., Any], browser: Any
) -> None:
    place.call("twice")
    first = place.gateway.record_of("Hello twice!")["id"]
    flow = place.web.flows()[-1]
    mitmweb = browser.new_page(viewport=DESK, extra_http_headers=LETMEIN)
    with show("/llm") as seen:
        seen.page.wait_for_selector('[data-live="on"]')
        sent = len(place.provider.seen)
        mitmweb.goto(f"{place.base}/#/flows/{flow['id']}/request")
        mitmweb.get_by_role("button", name="Replay").click()
        seen.page.wait_for_selector("tr.arrived a.again")
        again, before = place.provider.seen[sent], place.provider.seen[sent - 1]
        assert again.body == before.body == CHAT.replace(b"%s", b"twice")
        assert ("Authorization", f"Bearer {KEYS['openai']}") in again.headers
        seen.page.click("tr.arrived a[data-open]")
        seen.page.wait_for_selector(".beside")
        assert seen.page.locator(".beside [data-first]").get_attribute("href") == f"/llm/{first}"
        assert "Both answers say the same." in seen.says(".beside")
        seen.page.set_viewport_size(PHONE)
        assert seen.fits()
        seen.page.click(".beside [data-first]")
        seen.page.wait_for_selector(".repetitions")
        assert "repeated once" in seen.says(".repetitions")
        assert seen.fits()
    mitmweb.close()


def test_answers_that_differ_are_marked_beside_each_other(
    place: Place, show: Callable[..., Any]
) -> None:
    boxes = "boxes => boxes.map(box => box.getBoundingClientRect().left)"
    with show(f"/llm/{place.again}") as seen:
        marks = seen.page.locator(".answers mark").all_inner_texts()
        assert [mark.strip() for mark in marks] == ["blue", "more.", "red", "less."]
        left, right = seen.page.locator(".answers > div").evaluate_all(boxes)
        assert left < right
        seen.page.set_viewport_size(PHONE)
        left, right = seen.page.locator(".answers > div").evaluate_all(boxes)
        assert left == right, "below each other"
        assert seen.fits()


def test_the_dashboard_draws_its_plots(show: Callable[..., Any]) -> None:
    with show("/llm/stats?by=provider") as seen:
        loaded = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
        until(lambda: seen.page.evaluate(loaded))
        assert seen.page.locator(".plots img").count() == 6
        assert "anthropic" in seen.says(".sums")


def test_a_phone_shows_all_of_it(place: Place, show: Callable[..., Any]) -> None:
    with show(f"/llm/{place.session[-1]}") as seen:
        seen.page.set_viewport_size(PHONE)
        seen.page.keyboard.press("e")
        assert seen.fits()
        seen.page.goto(f"{place.base}/llm")
        assert seen.fits()
        assert seen.page.locator("td.outcome").first.is_visible()


def test_dark_and_light_follow_the_system(show: Callable[..., Any]) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    plot = "document.querySelector('.plots img').currentSrc.includes('dark=1')"
    with show("/llm/stats?since=1h") as seen:
        assert seen.page.evaluate(ground) == "rgb(255, 255, 255)"
        assert not seen.page.evaluate(plot)
        seen.page.emulate_media(color_scheme="dark")
        assert seen.page.evaluate(ground) == "rgb(20, 23, 27)"
        until(lambda: seen.page.evaluate(plot))


ATTACKS = """
async (page) => {
  const refused = [];
  document.addEventListener("securitypolicyviolation", (event) => refused.push(event.blockedURI));
  const attempt = (name, attack) => { try { attack(); } catch { refused.push(name); } };
  const element = (name, fields) => Object.assign(document.createElement(name), fields);
  attempt("markup", () => { document.body.innerHTML = "<b>"; });
  attempt("handler", () => {
    const image = document.createElement("img");
    image.setAttribute("onerror", "window.ran = 1");
    image.src = "/llm/none";
    document.body.append(image);
  });
  attempt("code", () => document.body.append(element("script", { text: "window.ran = 2" })));
  document.body.append(element("img", { src: "http://evil.invalid/pixel.png" }));
  document.body.append(element("style", { textContent: "body { display: none }" }));
  document.body.append(element("iframe", { src: "http://evil.invalid/" }));
  await fetch("http://evil.invalid/").catch(() => refused.push("fetch"));
  await new Promise((done) => setTimeout(done, 200));
  return { ran: window.ran ?? null, shown: getComputedStyle(document.body).display, refused };
}
"""


def test_the_policy_would_hold_even_where_text_became_markup(browser: Any, place: Place) -> None:
    page = browser.new_page(extra_http_headers=LETMEIN)
    page.goto(f"{place.base}/llm/{place.hostile}")
    found = page.evaluate(ATTACKS)
    page.close()
    assert found["ran"] is None
    assert found["shown"] == "block"
    assert {"markup", "fetch", "inline"} <= set(found["refused"])
    outside = [one for one in found["refused"] if one.startswith("http://evil.invalid")]
    assert len(outside) >= 3, "picture, frame and fetch"


@pytest.mark.parametrize(
    "path", ["/llm", "/llm/{id}", "/llm/{id}/raw", "/llm/stats?by=client", "/llm?grep=%3Cscript%3E"]
)
def test_a_hostile_record_does_nothing(place: Place, show: Callable[..., Any], path: str) -> None:
    with show(path.format(id=place.hostile)) as seen:
        seen.page.keyboard.press("e")
        body = seen.says("body")
        assert "<script>alert(1)" in body
        assert seen.page.locator("main script, main style, [onerror], [onload]").count() == 0
        links = seen.page.locator("a").evaluate_all("links => links.map(link => link.protocol)")
        assert set(links) == {"http:"}
        assert "\x1b" not in seen.page.content()
        assert "\u202e" not in seen.page.content()
        seen.page.set_viewport_size(PHONE)
        assert seen.fits()
