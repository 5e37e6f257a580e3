"""Two gateways behind a real HAProxy, with the configuration that docs/deployment.md shows."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from live.harness import (
    CLIENT_KEY,
    ROOT,
    Gateway,
    Upstream,
    Wire,
    config_for,
    free_port,
    raw,
    request,
    status_of,
)
from live.oracles import DEADLINE

HAPROXY = shutil.which("haproxy")
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
CHAT = "/openai_passthrough/v1/chat/completions"
OK = json.dumps({"id": "1", "model": "gpt-4o", "choices": []}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"one"}}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{"content":"two"}}]}\n\ndata: [DONE]\n\n'


def until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 3 * DEADLINE
    while not holds():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Balanced:
    """HAProxy on `port`, the gateways behind it, and the provider of both."""

    def __init__(self, folder: Path) -> None:
        self.goes_on = threading.Event()
        self.upstream = Upstream(self._talk)
        self.gateways = [Gateway(folder / name, self._config()) for name in "ab"]
        self.port = free_port()
        file = folder / "haproxy.cfg"
        file.write_text(self._as_documented())
        assert HAPROXY is not None
        with (folder / "haproxy.log").open("wb") as log:
            self.process = subprocess.Popen([HAPROXY, "-db", "-f", str(file)], stderr=log)
        until(lambda: self.ask() == 200, "an answer")

    def _config(self) -> dict[str, object]:
        clients = [{"name": "team", "tokens": [CLIENT_KEY]}]
        return config_for(self.upstream.url, clients=clients, shutdown={"drain_seconds": 60})

    def _as_documented(self) -> str:
        text = (ROOT / "docs" / "deployment.md").read_text()
        found = re.search(r"### HAProxy\n\n```\n(.*?)```", text, re.S)
        assert found
        places = iter(f"127.0.0.1:{gateway.port}" for gateway in self.gateways)
        shown = re.sub(r"10\.0\.0\.1\d:8080", lambda _: next(places), found[1])
        return re.sub(r"bind :443 .*", f"bind 127.0.0.1:{self.port}", shown)

    def _talk(self, wire: Wire) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                _, body = wire.message()
                if json.loads(body).get("stream"):
                    wire.send(HEAD + chunk(FIRST))
                    assert self.goes_on.wait(60)
                    wire.send(chunk(LAST) + b"0\r\n\r\n")
                else:
                    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    wire.send(f"{head}Content-Length: {len(OK)}\r\n\r\n".encode() + OK)

    def ask(self) -> int:
        """A call whose token stands where HAProxy does not look: it is spread in turn."""
        body = json.dumps({"model": "gpt-4o", "messages": []}).encode()
        with contextlib.suppress(OSError):
            answer = raw(self.port, request(CHAT, body, headers=(f"x-api-key: {CLIENT_KEY}",)))
            return status_of(answer) if answer else 0
        return 0

    def who_served(self, model: str) -> list[Gateway]:
        """Those that have a record with this model."""
        return [each for each in self.gateways if model in json.dumps(each.records())]

    def end(self) -> None:
        self.goes_on.set()
        self.process.kill()
        self.process.wait()
        for gateway in self.gateways:
            gateway.process.kill()
        self.upstream.stop()


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    balanced = Balanced(tmp_path_factory.mktemp("balanced"))
    yield balanced
    balanced.end()
    assert not balanced.upstream.failures


def test_a_machine_that_drains_fails_no_call_and_ends_its_stream(balanced: Balanced) -> None:
    assert [balanced.ask() for _ in range(6)] == [200] * 6
    until(lambda: all(gateway.records() for gateway in balanced.gateways), "calls at both")
    base = f"http://localhost:{balanced.port}/openai_passthrough/v1"
    with OpenAI(base_url=base, api_key=CLIENT_KEY, max_retries=5) as client:
        messages = [{"role": "user", "content": "Hello!"}]
        client.chat.completions.create(model="of-this-token", messages=messages)
        until(lambda: balanced.who_served("of-this-token"), "a record")
        (drained,) = balanced.who_served("of-this-token")
        stream = client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
        heard = [next(stream)]
        drained.process.send_signal(signal.SIGTERM)
        for _ in range(6):  # of the same token, for which HAProxy still has an open connection
            got = client.chat.completions.create(model="gpt-4o", messages=messages)
            assert got.id == "1"
        balanced.goes_on.set()
        heard += list(stream)
    assert [each.choices[0].delta.content for each in heard] == ["one", "two"]
    assert drained.process.wait(20) == 0
    assert drained.records()[-1]["outcome"] == "ok"
