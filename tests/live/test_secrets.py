"""No key and no client's credential is in anything that a person, a file or a process shows.

Ids of the threat catalogue: F01 in flight, F02 intercepted, F04 options at run time, F07 and F18
errors, F09 keys in queries, F10 files, F11 replay, F13 key files, F14 processes, F15 modes, F20
passwords, F21 refused requests.
"""

import contextlib
import io
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from live.harness import CLIENT_KEY, KEYS, WEB_PASSWORD, Gateway, Provider, Web, config_for, running
from live.oracles import Heard, Listener, Oracles, found, talk

CHAT = "/openai_passthrough/v1/chat/completions"
SECRETS = (*KEYS.values(), CLIENT_KEY)
FORMATS = ("curl", "raw", "httpie", "raw_request")


def chat(text: str = "hi", path: str = CHAT, *headers: str) -> bytes:
    """A call that every dialect of the demo understands, with the client's own credentials."""
    document = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": text}],
        "contents": [{"role": "user", "parts": [{"text": text}]}],
    }
    body = json.dumps(document)
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {CLIENT_KEY}",
        f"x-api-key: {CLIENT_KEY}",
        *headers,
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", body]).encode()


class Asking:
    """A request in a thread of its own; `heard` is what came of it."""

    def __init__(self, port: int, data: bytes) -> None:
        self._heard: list[Heard] = []
        self._thread = threading.Thread(target=self._run, args=(port, data), daemon=True)
        self._thread.start()

    def _run(self, port: int, data: bytes) -> None:
        self._heard.append(talk(port, data, deadline=20))

    @property
    def heard(self) -> Heard:
        self._thread.join(25)
        assert self._heard, "O7: no answer"
        return self._heard[0]


def until[T](look: Callable[[], T]) -> T:
    """The first true value of `look`, before a deadline."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if value := look():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come about")


class Desk:
    """A gateway with mitmweb, somebody who looks at it, and the two providers behind it."""

    def __init__(self, folder: Path, program: str) -> None:
        self.first, self.second = Provider(), Provider()
        self.evil = Listener("127.0.0.66")
        config = config_for(self.first.url)
        config["providers"]["anthropic"]["network_config"]["base_url"] = self.second.url
        self.gateway = Gateway(folder, config, program)
        self.web = Web(self.gateway)
        self.oracles = Oracles(self.gateway, (self.first, self.second), self.evil)
        self.updates: list[bytes] = []
        self._listen()

    def _listen(self) -> None:
        url = f"ws://127.0.0.1:{self.gateway.web_port}/updates?token={WEB_PASSWORD}"
        self._socket = connect(url, max_size=None)

        def listen() -> None:
            with contextlib.suppress(WebSocketException, OSError):
                for message in self._socket:
                    self.updates.append(message if isinstance(message, bytes) else message.encode())

        threading.Thread(target=listen, daemon=True).start()

    def begin(self) -> None:
        """A clean desk before a case."""
        assert self.web.set(intercept="", map_remote=[], modify_headers=[], modify_body=[]) == 200
        self.web.call("POST", "/clear", {})
        self.updates.clear()
        self.oracles.mark()

    def flow(self, **wanted: object) -> dict[str, Any]:
        """The newest flow, once it has these values."""

        def look() -> dict[str, Any] | None:
            flows = self.web.flows()
            if flows and all(flows[-1].get(name) == value for name, value in wanted.items()):
                return flows[-1]
            return None

        found = until(look)
        assert found is not None
        return found

    def seen(self, tmp_path: Path) -> dict[str, bytes]:
        """Everything that can be seen of the flows now."""
        views = {
            path: self.web.get(path)
            for path in ("/flows", "/flows/dump", "/events", "/options", "/state")
        }
        for number, flow in enumerate(self.web.flows()):
            spec = f"~all & ~u {flow['request']['path'].partition('?')[0]}$"
            kept = [
                part
                for part in ("request", "response")
                if flow.get(part) and flow[part]["contentLength"] is not None
            ]
            for part in kept:
                for view in ("content.data", "content/auto", "content/raw"):
                    path = f"/flows/{flow['id']}/{part}/{view}"
                    views[path] = self.web.call("GET", path)[1]
            for form in FORMATS:
                views[f"export {form} {number}"] = self.web.command("export", form, spec)
        fields = "request.header[authorization],request.header[x-api-key],request.content"
        for name, cuts in (("save.har", ()), ("save.file", ()), ("cut.save", (fields,))):
            file = tmp_path / name
            self.web.command(name, "@all", *cuts, str(file))
            views[name] = file.read_bytes()
        views["updates"] = b"\n".join(self.updates)
        return views

    def stop(self) -> None:
        self._socket.close()
        self.gateway.stop()
        for part in (self.first, self.second, self.evil):
            part.stop()


@pytest.fixture(scope="module", params=["mitmweb", "web"])
def open_desk(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp(request.param), request.param)
    yield desk
    desk.stop()


@pytest.fixture
def desk(open_desk: Desk) -> Desk:
    open_desk.begin()
    return open_desk


def assert_nothing_in(views: dict[str, bytes]) -> None:
    shown = {name: found(SECRETS, view) for name, view in views.items()}
    assert {name: secrets for name, secrets in shown.items() if secrets} == {}


# -- what a person sees ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["slow", "stall"])
def test_while_a_request_is_in_flight_no_secret_is_to_be_seen(
    desk: Desk, tmp_path: Path, fault: str
) -> None:
    """F01: the provider has the key already, and has not answered or not to the end."""
    before = len(desk.first.seen)
    asking = Asking(desk.gateway.port, chat(f"marker error:{fault}"))
    until(lambda: len(desk.first.seen) > before)
    assert KEYS["openai"].encode() in desk.first.last().head
    views = desk.seen(tmp_path)
    assert b"marker" in views["/flows/dump"]
    assert b"[openai/openai-main]" in views["/flows"]
    assert b"[openai/openai-main]" in views["export curl 0"]
    assert_nothing_in(views)
    if fault == "stall":
        desk.web.call("POST", f"/flows/{desk.flow()['id']}/kill", {})
        with contextlib.suppress(AssertionError):
            talk(desk.gateway.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return
    assert asking.heard.status == 200
    desk.oracles.check(asking.heard.data, 1)


@pytest.mark.parametrize("when", ["~q", "~s"])
def test_while_a_flow_is_intercepted_no_secret_is_to_be_seen(
    desk: Desk, tmp_path: Path, when: str
) -> None:
    """F02: before it is sent, and before its answer goes on."""
    assert desk.web.set(intercept=when) == 200
    asking = Asking(desk.gateway.port, chat("marker"))
    flow = desk.flow(intercepted=True)
    views = desk.seen(tmp_path)
    assert b"marker" in views["/flows/dump"]
    assert_nothing_in(views)
    assert len(desk.oracles.new()) == (when == "~s")
    desk.web.call("POST", f"/flows/{flow['id']}/resume", {})
    assert asking.heard.status == 200
    assert KEYS["openai"].encode() in desk.first.last().head
    assert_nothing_in(desk.seen(tmp_path))
    assert desk.web.set(intercept="") == 200
    desk.oracles.check(asking.heard.data)


@dataclass(frozen=True)
class Edit:
    """What a person changes while a flow is intercepted, and what is right afterwards."""

    change: dict[str, Any]
    status: tuple[int, ...]
    key: str | None = None
    target: str | None = None
    body: bytes | None = None


EDITS = [
    pytest.param(
        Edit({"path": "/anthropic_passthrough/v1/messages"}, (200,), "anthropic", "/v1/messages"),
        id="another-prefix",
    ),
    pytest.param(Edit({"path": "/nowhere/x"}, (404,)), id="no-route"),
    pytest.param(Edit({"path": "/openai_passthrough/../x"}, (400,)), id="a-bad-path"),
    pytest.param(
        Edit(
            {"path": f"{CHAT}?key={CLIENT_KEY}&a=1"}, (200,), "openai", "/v1/chat/completions?a=1"
        ),
        id="a-key-in-the-query",
    ),
    pytest.param(
        Edit(
            {"content": '{"model":"edited","messages":[{"role":"user","content":"hi"}]}'},
            (200,),
            "openai",
            "/v1/chat/completions",
            b'{"model":"edited","messages":[{"role":"user","content":"hi"}]}',
        ),
        id="another-body",
    ),
    pytest.param(
        Edit(
            {
                "headers": [
                    ["Host", "localhost"],
                    ["Authorization", f"Bearer {CLIENT_KEY}"],
                    ["Proxy-Authorization", CLIENT_KEY],
                    ["Content-Type", "application/json"],
                ]
            },
            (200, 400),
            "openai",
        ),
        id="added-authorization",
    ),
    pytest.param(Edit({"host": "127.0.0.66", "port": "{EV}"}, (403, 421)), id="another-host"),
    pytest.param(Edit({"host": "evil.test"}, (403, 421)), id="a-name"),
    pytest.param(
        Edit({"headers": [["Host", "evil.test"], ["Origin", "https://evil.test"]]}, (403, 421)),
        id="a-web-page",
    ),
    pytest.param(Edit({"scheme": "https"}, (200, 403, 421), "openai"), id="another-scheme"),
]


@pytest.mark.parametrize("edit", EDITS)
def test_what_a_person_edits_is_judged_anew(desk: Desk, edit: Edit) -> None:
    """F02: signed for the right origin, or refused; never a key to another."""
    assert desk.web.set(intercept="~q") == 200
    asking = Asking(desk.gateway.port, chat())
    flow = desk.flow(intercepted=True)
    text = json.dumps(edit.change).replace('"{EV}"', str(desk.evil.port))
    status, body = desk.web.call("PUT", f"/flows/{flow['id']}", {"request": json.loads(text)})
    assert status == 200, body
    desk.web.call("POST", f"/flows/{flow['id']}/resume", {})
    heard = asking.heard
    assert desk.web.set(intercept="") == 200
    assert heard.status in edit.status, heard.data
    desk.oracles.check(heard.data, 1)
    seen = desk.oracles.new()
    if edit.key is None:
        assert seen == []
    for each in seen:
        assert edit.key is not None
        assert KEYS[edit.key].encode() in each.head
        assert (each in desk.second.seen) is (edit.key == "anthropic")
        assert edit.target in (None, each.target)
        assert edit.body in (None, each.body)
    if heard.status == 200:
        assert len(seen) == 1


# -- replay ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="as-it-was"),
        pytest.param({"host": "127.0.0.66", "port": "{EV}"}, id="another-host"),
        pytest.param({"path": "/anthropic_passthrough/v1/messages"}, id="another-prefix"),
        pytest.param(
            {"headers": [["Host", "localhost"], ["Authorization", f"Bearer {CLIENT_KEY}"]]},
            id="added-authorization",
        ),
    ],
)
def test_a_replay_takes_no_key_to_a_wrong_place(desk: Desk, change: dict[str, Any]) -> None:
    """F11: it is judged like any other request."""
    assert talk(desk.gateway.port, chat()).status == 200
    flow = desk.flow()
    text = json.dumps(change).replace('"{EV}"', str(desk.evil.port))
    desk.web.call("PUT", f"/flows/{flow['id']}", {"request": json.loads(text)})
    assert desk.web.call("POST", f"/flows/{flow['id']}/replay", {})[0] == 200
    until(lambda: json.loads(desk.web.command("replay.client.count"))["value"] == 0)
    desk.oracles.check()
    for each in desk.oracles.new():
        name = "anthropic" if each in desk.second.seen else "openai"
        assert KEYS[name].encode() in each.head
    first, again = desk.gateway.records()[-2:]
    assert again["replay_of"] == first["id"]
    sent_again = "host" not in change
    assert len(desk.oracles.new()) == 1 + sent_again
    assert (again["outcome"] == "refused") is not sent_again


def test_a_flow_from_a_file_is_trusted_in_nothing(desk: Desk) -> None:
    """F11: placeholders, metadata and hosts in a file are an attacker's words."""
    buffer = io.BytesIO()
    writer = FlowWriter(buffer)
    for path, host, port in (
        ("/v1/chat/completions", "127.0.0.66", desk.evil.port),
        (CHAT, "127.0.0.66", desk.evil.port),
        (CHAT, "127.0.0.1", desk.gateway.port),
    ):
        flow = tflow.tflow()
        flow.request.data.host, flow.request.data.port = host, port
        flow.request.data.path = path.encode()
        flow.request.headers["Host"] = f"{host}:{port}"
        flow.request.headers["Authorization"] = "Bearer [openai/openai-main]"
        flow.metadata["llm_passthrough"] = {"signed": True, "key": "openai-main"}
        writer.add(flow)
    assert desk.web.call("POST", "/flows/dump", buffer.getvalue())[0] == 200
    desk.web.command("replay.client", "@all")
    until(lambda: json.loads(desk.web.command("replay.client.count"))["value"] == 0)
    desk.oracles.check()
    for each in desk.oracles.new():
        assert b"[openai/openai-main]" not in each.head


# -- options at run time ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"map_remote": ["|//127.0.0.1:{PR}|//127.0.0.66:{EV}|"]}, id="provider-host"),
        pytest.param({"map_remote": ["|//localhost[^/]*|//127.0.0.66:{EV}|"]}, id="our-host"),
        pytest.param({"map_remote": ["|http://.*|http://127.0.0.66:{EV}/x|"]}, id="everything"),
        pytest.param({"modify_headers": ["/~q/Host/127.0.0.66:{EV}"]}, id="host-header"),
        pytest.param({"modify_headers": ["/~q/Authorization/Bearer x"]}, id="authorization"),
        pytest.param({"modify_headers": ["/~q/Proxy-Authorization/x"]}, id="proxy-authorization"),
        pytest.param({"modify_headers": ["/~q/X-A/[openai/openai-main]"]}, id="placeholder"),
        pytest.param({"modify_body": ["/~q/hi/ho"]}, id="body"),
    ],
)
def test_no_option_at_run_time_moves_a_key(desk: Desk, options: dict[str, list[str]]) -> None:
    """F04."""
    text = json.dumps(options).replace("{EV}", str(desk.evil.port))
    assert desk.web.set(**json.loads(text.replace("{PR}", str(desk.first.port)))) == 200
    heard = talk(desk.gateway.port, chat())
    assert desk.web.set(map_remote=[], modify_headers=[], modify_body=[]) == 200
    desk.oracles.check(heard.data, 1)
    for each in desk.oracles.new():
        assert each in desk.first.seen
        assert ("Authorization", f"Bearer {KEYS['openai']}") in each.headers
        assert ("Host", f"127.0.0.1:{desk.first.port}") in each.headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ssl_insecure", True),
        ("proxyauth", "user:password-CANARY"),
        ("stickyauth", ".*"),
        ("stickycookie", ".*"),
        ("upstream_auth", "user:password-CANARY"),
        ("validate_inbound_headers", False),
        ("mode", ["reverse:http://127.0.0.66"]),
        ("mode", ["regular@0.0.0.0:0"]),
        ("listen_host", "0.0.0.0"),
        ("http2", True),
        ("rawtcp", True),
        ("connection_strategy", "eager"),
        ("stream_large_bodies", "1"),
        ("onboarding", True),
        ("web_host", "0.0.0.0"),
    ],
)
def test_an_option_that_would_be_unsafe_is_refused_at_run_time(
    desk: Desk, name: str, value: object
) -> None:
    """G06, F20: and stays as it was."""
    before = json.loads(desk.web.get("/options"))[name]["value"]
    status, body = desk.web.call("PUT", "/options", {name: value})
    assert status == 400, body
    assert name.encode() in body or b"loopback" in body
    assert json.loads(desk.web.get("/options"))[name]["value"] == before
    heard = talk(desk.gateway.port, chat())
    assert heard.status == 200
    desk.oracles.check(heard.data, 1)


# -- queries, refusals, processes, files -----------------------------------------------------------


def test_a_key_in_a_query_is_in_no_record_and_no_log(desk: Desk, tmp_path: Path) -> None:
    """F09."""
    path = f"/genai_passthrough/v1beta/models/m:generateContent?key={CLIENT_KEY}&alt=json"
    heard = talk(desk.gateway.port, chat("hi", path))
    assert heard.status == 200
    desk.oracles.check(heard.data, 1)
    assert desk.oracles.new()[0].target == "/v1beta/models/m:generateContent?alt=json"
    assert_nothing_in(desk.seen(tmp_path))


def test_a_refused_request_holds_no_key(desk: Desk, tmp_path: Path) -> None:
    """F21."""
    data = chat("hi", CHAT, "Origin: https://evil.test")
    assert talk(desk.gateway.port, data).status == 403
    assert_nothing_in(desk.seen(tmp_path))
    desk.oracles.check(records=1)


def test_a_providers_refusal_is_passed_on_without_a_key(desk: Desk, tmp_path: Path) -> None:
    """F18: as it is, and the gateway does not try again."""
    heard = talk(desk.gateway.port, chat("error:401"))
    assert heard.status == 401
    assert len(desk.oracles.new()) == 1
    desk.oracles.check(heard.data, 1)
    assert_nothing_in(desk.seen(tmp_path))


def test_no_option_and_no_command_shows_a_key(desk: Desk) -> None:
    """F14: test_start.py looks at the command lines."""
    assert_nothing_in({path: desk.web.get(path) for path in ("/options", "/commands")})


def test_files_that_mitmproxy_writes_hold_no_secret(tmp_path: Path, provider: Provider) -> None:
    """F10: -w and HAR, of finished, refused, failed and unfinished exchanges."""
    files = [tmp_path / name for name in ("flows", "all.har")]
    args = ("-w", str(files[0]), "--set", f"hardump={files[1]}", "--set", "flow_detail=3")
    with running(tmp_path / "gateway", config_for(provider.url), args=args) as gateway:
        for data, status in (
            (chat("marker"), 200),
            (chat("marker", "/anthropic_passthrough/v1/messages"), 200),
            (chat("marker", f"/genai_passthrough/v1beta/models/m:x?key={CLIENT_KEY}"), 404),
            (chat("marker", "/nowhere"), 404),
            (chat("marker error:500"), 500),
        ):
            assert talk(gateway.port, data).status == status
        before = len(provider.seen)
        asking = Asking(gateway.port, chat("marker error:stall"))
        until(lambda: len(provider.seen) > before)
        until(lambda: b"marker" in files[0].read_bytes())
    assert asking.heard.closed
    for file in (*files, gateway.log_path, gateway.records_path):
        data = file.read_bytes()
        assert b"marker" in data or file == gateway.log_path
        assert not found(SECRETS, data), file.name


def test_files_are_the_owners_alone_whatever_the_umask(tmp_path: Path, provider: Provider) -> None:
    """F13, F15: and a key file that others can read is told, not shown."""
    key_file = tmp_path / "key"
    key_file.write_text(KEYS["openai"] + "\n")
    key_file.chmod(0o644)
    config = config_for(provider.url)
    config["providers"]["openai"]["keys"][0]["value"] = f"file:{key_file}"
    before = os.umask(0)
    try:
        gateway = Gateway(tmp_path / "gateway", config)
    finally:
        os.umask(before)
    try:
        assert talk(gateway.port, chat()).status == 200
        assert f"other users can read {key_file}; chmod 600 it" in gateway.output
        assert not found(SECRETS, gateway.output.encode())
        gateway.records(1)
        folder = gateway.records_path.parent
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
        assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in modes}
        assert len(modes) >= 3
    finally:
        gateway.stop()
