"""A configuration that changes while the gateway runs: by its file, by SIGHUP, under load."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from live.harness import KEYS, Gateway, Provider, config_for, credentials, free_port, request
from live.oracles import Heard, talk
from live.test_secrets import until

CHAT = "/openai_passthrough/v1/chat/completions"
DONE = "the configuration was read again"
KEPT = "the configuration was not changed; the gateway goes on with the old one"
NEW = "sk-openai-NEW-KEY-0123456789"


@dataclass
class Reloading:
    """A gateway, its file, and the provider behind it."""

    gateway: Gateway
    provider: Provider

    @property
    def file(self) -> Path:
        return self.gateway.folder / "gateway.yaml"

    def read(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.file.read_text())
        return document

    def write(self, text: str, wait: str, at_once: bool = True) -> None:
        """Replace the file in one step, and wait until the output says `wait` once more."""
        before = self.gateway.output.count(wait)
        other = self.file.with_suffix(".new")
        other.write_text(text)
        other.chmod(0o600)
        os.replace(other, self.file)
        if at_once:
            self.hang_up()
        self.until(lambda: self.gateway.output.count(wait) > before, wait)

    def change(self, document: dict[str, Any], at_once: bool = True) -> None:
        self.write(json.dumps(document), DONE, at_once)

    def hang_up(self) -> None:
        self.gateway.process.send_signal(signal.SIGHUP)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 15
        while not holds():
            assert time.monotonic() < end, f"no {what!r}:\n{self.gateway.output}"
            time.sleep(0.02)

    def ask(self, target: str = CHAT, body: bytes = b"", *headers: str) -> Heard:
        body = body or chat("Hello!")
        return talk(self.gateway.port, request(target, body, headers=headers))

    def used(self) -> str:
        """The credential that the provider saw last."""
        return credentials(self.provider.last().headers)[0][1]

    def keys(self) -> dict[str, Any]:
        heard = talk(self.gateway.port, request("/health?keys", b"", "GET"))
        told: dict[str, Any] = json.loads(heard.body)["keys"]
        return told


def chat(text: str, **more: Any) -> bytes:
    message = {"role": "user", "content": text}
    return json.dumps({"model": "gpt-4o", "messages": [message]} | more).encode()


@pytest.fixture(scope="module")
def server(
    provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, str]]:
    gateway = Gateway(tmp_path_factory.mktemp("reload"), config_for(provider.url))
    file = gateway.folder / "gateway.yaml"
    yield gateway, file.read_text()
    gateway.stop()


@pytest.fixture
def running(server: tuple[Gateway, str], provider: Provider) -> Iterator[Reloading]:
    """Afterwards the configuration is again what it was."""
    gateway, text = server
    reloading = Reloading(gateway, provider)
    yield reloading
    reloading.write(text, DONE)


def with_key(document: dict[str, Any], value: str) -> dict[str, Any]:
    document["providers"]["openai"]["keys"] = [{"name": "new", "value": value}]
    return document


@pytest.mark.parametrize("at_once", [True, False], ids=["SIGHUP", "a changed file"])
def test_a_changed_file_is_read_again(running: Reloading, at_once: bool) -> None:
    assert running.ask().status == 200
    assert running.used() == f"Bearer {KEYS['openai']}"
    running.change(with_key(running.read(), NEW), at_once)
    assert running.ask().status == 200
    assert running.used() == f"Bearer {NEW}"
    record_of = running.gateway.record_of
    running.until(lambda: record_of("/chat/completions")["key"] == "new", "a record")


def test_serve_without_a_terminal_tells_of_it(provider: Provider, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, config_for(provider.url), "serve")
    try:
        Reloading(gateway, provider).write(json.dumps(config_for(provider.url)), DONE)
    finally:
        gateway.stop()


def test_a_file_that_is_written_in_place_is_read_when_it_is_whole(running: Reloading) -> None:
    document = json.dumps(with_key(running.read(), NEW))
    with running.file.open("w") as file:
        file.write(document[:200])
        file.flush()
        running.hang_up()
        running.until(lambda: KEPT in running.gateway.output, KEPT)
        assert running.ask().status == 200
        assert running.used() == f"Bearer {KEYS['openai']}"
        file.write(document[200:])
    before = running.gateway.output.count(DONE)
    running.hang_up()
    running.until(lambda: running.gateway.output.count(DONE) > before, DONE)
    assert running.ask().status == 200
    assert running.used() == f"Bearer {NEW}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("providers: {openai: [", "not valid YAML", id="no YAML"),
        pytest.param("", "the file is empty", id="empty"),
        pytest.param("nonsense: 1\nproviders: 2", "providers", id="of another shape"),
        pytest.param(
            "providers: {openai: {keys: [{value: env.NOT_SET_AT_ALL}]}}",
            "providers.openai.keys[0].value: the environment variable NOT_SET_AT_ALL",
            id="a secret that is not there",
        ),
        pytest.param(
            "providers: {openai: {network_config: {base_url: 'http://api.test'}}}",
            "http:// would send the key in clear",
            id="a key in clear",
        ),
    ],
)
def test_a_broken_file_keeps_the_old_configuration_and_is_said(
    running: Reloading, text: str, said: str
) -> None:
    """H09."""
    before = len(running.gateway.output)
    running.write(text, KEPT)
    assert said in running.gateway.output[before:]
    assert running.ask().status == 200
    assert running.used() == f"Bearer {KEYS['openai']}"


def test_a_file_that_is_gone_changes_nothing(running: Reloading) -> None:
    text, before = running.file.read_text(), running.gateway.output.count(KEPT)
    running.file.unlink()
    running.hang_up()
    running.until(lambda: running.gateway.output.count(KEPT) > before, KEPT)
    assert running.ask().status == 200
    running.write(text, DONE)


def test_a_removed_provider_is_refused_and_an_added_route_is_served(running: Reloading) -> None:
    document = running.read()
    document["providers"]["openai"]["keys"] = []
    document["routes"] = [
        {"prefix": "/own", "upstream": running.provider.url, "keys": [{"value": NEW}]}
    ]
    document["prefixes"] = {"anthropic": ["/claude"]}
    running.change(document)
    heard = running.ask()
    assert heard.status == 503
    assert heard.header("x-passthrough-error") == "no_key"
    assert running.ask("/own/v1/chat/completions").status == 200
    assert running.used() == f"Bearer {NEW}"
    heard = running.ask("/claude/v1/messages", b'{"model":"m","max_tokens":1,"messages":[]}')
    assert heard.header("x-passthrough-error") is None


def test_hosts_and_origins_change_at_once_and_ports_do_not(running: Reloading) -> None:
    document = running.read()
    origin = "Origin: http://localhost:3000"
    assert running.ask(CHAT, b"", origin).status == 403
    document["listen"] = {"allowed_origins": ["http://localhost:3000"], "port": free_port()}
    document["log"]["capture"] = "none"
    before = len(running.gateway.output)
    running.change(document)
    assert running.ask(CHAT, b"", origin).status == 200
    assert (
        "listen: host, ports and workers take effect at the next start"
        in running.gateway.output[before:]
    )
    assert "log:" not in running.gateway.output[before:]
    assert running.gateway.record_of("/chat/completions")["request"]["body"] is None
    before = len(running.gateway.output)
    document["log"]["path"] = str(running.gateway.folder / "elsewhere.jsonl")
    running.change(document)
    assert "log: takes effect at the next start" in running.gateway.output[before:]
    assert not (running.gateway.folder / "elsewhere.jsonl").exists()


def test_a_key_that_stays_rests_on_and_one_that_was_changed_does_not(running: Reloading) -> None:
    document = running.read()
    main = document["providers"]["openai"]["keys"][0]
    other = {"name": "other", "value": NEW, "weight": 0}
    document["providers"]["openai"]["keys"] = [main, other]
    document["providers"]["gemini"]["keys"].append({"name": "other", "value": NEW, "weight": 0})
    own = {"prefix": "/own", "upstream": running.provider.url}
    document["routes"] = [own | {"keys": [main, other]}]
    running.change(document)
    assert running.ask(f"{CHAT}?demo_error=401").status == 401
    assert running.ask("/own/v1/chat/completions?demo_error=401").status == 401
    path = "/genai_passthrough/v1beta/models/m:generateContent"
    assert running.ask(f"{path}?demo_error=401").status == 401
    document["providers"]["gemini"]["keys"][0]["value"] = "sk-gemini-MENDED-KEY-0123456789"
    running.change(document)
    told = running.keys()
    assert told["openai"]["openai-main"].endswith("s: answered 401")
    assert told["own"]["openai-main"].endswith("s: answered 401")
    assert told["openai"]["other"] == "ready"
    assert set(told["gemini"].values()) == {"ready"}
    assert running.ask().status == 200
    assert running.used() == f"Bearer {NEW}"


def test_a_stream_that_is_open_ends_as_it_began_and_its_old_key_is_still_redacted(
    running: Reloading, provider: Provider
) -> None:
    words = " ".join(f"word{number}" for number in range(60))
    body = chat(f"{KEYS['openai']} {words}", stream=True)
    url = running.gateway.url + CHAT
    with httpx.stream("POST", url, content=body, trust_env=False, timeout=20) as answer:
        pieces = answer.iter_bytes()
        first = next(pieces)
        running.change(with_key(running.read(), NEW))
        rest = b"".join(pieces)
    assert answer.status_code == 200
    assert (first + rest).endswith(b"data: [DONE]\n\n")
    record = running.gateway.record_of("word59")
    assert record["outcome"] == "ok"
    assert record["key"] == "openai-main"
    # The new configuration does not know the old key; a client may still hold it.
    assert running.ask(CHAT, chat(f"later {KEYS['openai']} {NEW}")).status == 200
    running.gateway.record_of("later")
    written = running.gateway.records_path.read_text() + running.gateway.output
    assert KEYS["openai"] not in written
    assert NEW not in written


def test_under_load_nothing_is_lost_and_each_request_has_one_configuration(
    running: Reloading, provider: Provider
) -> None:
    """H10: each configuration has a key and a header of its own: they must always come together."""
    first = running.read()
    documents = []
    for mark in ("a", "b"):
        document = with_key(json.loads(json.dumps(first)), f"sk-openai-KEY-{mark}-0123456789")
        document["providers"]["openai"]["network_config"]["extra_headers"] = {"X-Mark": mark}
        documents.append(document)
    running.change(documents[0])
    seen_before, told_before = len(provider.seen), len(running.gateway.records())
    stop, statuses, failures = threading.Event(), [], []

    def load(number: int) -> None:
        with httpx.Client(trust_env=False, timeout=20) as client:
            while not stop.is_set():
                body = chat("Hello!", stream=bool(number % 2))
                try:
                    answer = client.post(running.gateway.url + CHAT, content=body)
                    statuses.append(answer.status_code)
                    if number % 2 and not answer.content.endswith(b"data: [DONE]\n\n"):
                        failures.append(answer.content)
                except Exception as error:
                    failures.append(error)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(6):
        served = len(statuses)  # of eight more at least one began after the change
        until(lambda served=served: len(statuses) >= served + 8 or failures)  # type: ignore[misc]
        if turn == 3:
            running.write("nonsense", KEPT)
        else:
            running.change(documents[(turn + 1) % 2])
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not failures
    assert set(statuses) == {200}
    seen = provider.seen[seen_before:]
    assert len(seen) == len(statuses)
    marks = {
        (dict(one.headers)["X-Mark"], credentials(one.headers)[0][1].split("-")[-2]) for one in seen
    }
    assert marks == {("a", "a"), ("b", "b")}
    records = running.gateway.records(told_before + len(statuses))[told_before:]
    assert len(records) == len(statuses)
    assert {record["outcome"] for record in records} == {"ok"}
