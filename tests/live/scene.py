"""The scene of the threat catalogue: a gateway, its providers, and somebody who wants a key.

A case is bytes to send and what is right afterwards; the oracles of oracles.py are asked after it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live.harness import CLIENT_KEY, KEYS, Gateway, Provider, config_for, names_addon
from live.oracles import Heard, Listener, Oracles, talk

CANNED_KEY = "sk-canned-REAL-KEY-0123456789"
PROJECT = "our-project"
CHAT = "/openai_passthrough/v1/chat/completions"
# One body that a chat, a message and a generateContent can all be made of.
BODY = (
    b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}],'
    b'"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'
)
CREDENTIALS = frozenset(
    "authorization proxy-authorization api-key x-api-key x-goog-api-key cookie "
    "ocp-apim-subscription-key".split()
)
NEVER_SENT = re.compile(
    r"(?i)proxy-|x-forwarded-|forwarded$|via$|te$|trailer$|keep-alive$|upgrade$|http2-settings$|"
    r"x-original-url$|x-rewrite-url$|x-http-method-override$|x-passthrough-"
)


@dataclass(frozen=True)
class Case:
    """Bytes to send, the statuses that are right (None: a close without a word), and the target
    that the provider must see (None: nothing may reach it)."""

    data: bytes
    right: tuple[int | None, ...]
    target: str | None = None
    records: int | None = 1
    header: tuple[str, str] | None = None


def ask(
    target: str,
    *headers: str,
    method: str = "POST",
    host: str | None = "{GW}",
    body: bytes = BODY,
    version: str = "HTTP/1.1",
    auth: bool = True,
) -> bytes:
    """A request as the catalogue writes it, with {GW}, {EV} and {PR} to be filled in."""
    lines = [f"{method} {target} {version}"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += [f"Authorization: Bearer {CLIENT_KEY}"] if auth else []
    lines += headers
    named = {line.partition(":")[0].strip().lower() for line in headers}
    if "content-type" not in named:
        lines.append("Content-Type: application/json")
    if not named & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    if "connection" not in named:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(target: str, *headers: str, host: str | None = "{GW}") -> bytes:
    """The same with GET and no body."""
    return ask(target, *headers, method="GET", host=host, body=b"")


class Scene:
    """The gateway of this module, the two providers, the canned one and the evil listener."""

    def __init__(self, folder: Path) -> None:
        self.first, self.second = Provider(), Provider()
        self.evil = Listener("127.0.0.66")
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        self.canned = Listener(answer=lambda data: self.answer)
        folder.mkdir(exist_ok=True)
        script = names_addon(folder, {})
        config = config_for(self.first.url)
        providers = config["providers"]
        providers["anthropic"]["network_config"]["base_url"] = self.second.url
        providers["vertex"]["keys"][0]["vertex_key_config"] = {
            "project_id": PROJECT,
            "region": "us-central1",
            "credential": "oauth_token",
        }
        config["routes"] = [
            {
                "prefix": "/canned",
                "upstream": f"http://{self.canned.name}",
                "keys": [{"name": "canned", "value": CANNED_KEY}],
            }
        ]
        config["forward"] = {"other": "block"}  # no relay; test_forward.py has the rest
        self.gateway = Gateway(folder / "gateway", config, args=("-s", str(script)))
        ports = (self.first.port, self.second.port, self.canned.port)
        self.oracles = Oracles(
            self.gateway,
            (self.first, self.second),
            self.evil,
            folder / "dialled.txt",
            frozenset(f"127.0.0.1:{port}" for port in ports),
            KEYS | {"canned": CANNED_KEY},
        )

    def fill(self, data: bytes) -> bytes:
        for name, value in (
            (b"{GW}", f"127.0.0.1:{self.gateway.port}"),
            (b"{EV}", self.evil.name),
            (b"{PR}", "api.openai.com"),
        ):
            data = data.replace(name, value.encode())
        return data

    def run(
        self, data: bytes, records: int | None = 1, answers: int = 1
    ) -> tuple[Heard, list[Any]]:
        """Send, hear, ask the oracles; what was heard, and what reached a provider."""
        self.oracles.mark()
        heard = talk(self.gateway.port, self.fill(data), answers=answers)
        self.oracles.check(heard.data, records)
        new = self.oracles.new()
        for seen in new:
            self.check_sent(seen)
        return heard, new

    def check_sent(self, seen: Any) -> None:
        """Exactly one credential, the right Host, and nothing of the hop."""
        names = [name.lower() for name, _ in seen.headers]
        assert sum(name in CREDENTIALS for name in names) == 1, seen.head
        port = self.second.port if seen in self.second.seen else self.first.port
        assert [v for n, v in seen.headers if n.lower() == "host"] == [f"127.0.0.1:{port}"]
        assert not [name for name in names if NEVER_SENT.match(name)], seen.head

    def stop(self) -> None:
        self.gateway.stop()
        for part in (self.first, self.second, self.evil, self.canned):
            part.stop()


def one(seen: list[Any]) -> Any:
    assert len(seen) == 1, [each.head for each in seen]
    return seen[0]


def named(seen: Any, name: str) -> list[str]:
    """The values of a header that reached the provider."""
    return [value for key, value in seen.headers if key.lower() == name.lower()]


def check(scene: Scene, case: Case) -> None:
    heard, seen = scene.run(case.data, case.records)
    assert heard.status in case.right, heard.data
    if heard.status is not None and heard.status >= 400 and case.records == 1:
        assert heard.header("content-type") == "application/json", heard.data
    if case.target is None:
        assert not seen, [each.head for each in seen]
    else:
        assert one(seen).target == scene.fill(case.target.encode("latin-1")).decode("latin-1")
    if case.header is not None:
        assert case.header in one(seen).headers
