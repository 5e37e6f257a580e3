"""`llm-passthrough open` with a real mitmweb: calls are there to be looked at, nothing is sent."""

import http.client
import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made
import pytest
from llm_passthrough.record import Fault, line
from llm_passthrough.sinks.sqlite import Sqlite
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow

from live.harness import BIN, WEB_PASSWORD, Upstream, Web, clean_environment, free_port, nursery

DEADLINE = 30
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Blue."}}]}


class Desk:
    """A mitmweb on what was recorded."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.web_port = free_port()
        command = [str(BIN / "llm-passthrough"), "open", *args, "--web-port", str(self.web_port)]
        command += ["--set", f"web_password={WEB_PASSWORD}", "--set", f"confdir={folder}/mitm"]
        self._output = folder / "output.log"
        with self._output.open("wb") as log:
            env = clean_environment() | {"HOME": str(folder), "PYTHONUNBUFFERED": "1"}
            self._process = nursery().start(command, env, folder, log.fileno())
        self.wait("mitmweb: ")
        self.web = Web(self)  # type: ignore[arg-type]  # it needs the port alone

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def wait(self, text: str) -> None:
        end = time.monotonic() + DEADLINE
        while text not in self.output:
            assert self._process.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.05)

    def flows(self, count: int) -> list[dict[str, Any]]:
        """The flows, once there are so many."""
        end = time.monotonic() + DEADLINE
        while len(found := self.web.flows()) < count:
            assert time.monotonic() < end, f"{len(found)} flows:\n{self.output}"
            time.sleep(0.05)
        return found

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE)


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    """Somebody who would notice if anything were sent."""
    upstream = Upstream(lambda wire: None)
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, provider: Upstream) -> Iterator[Desk]:
    """The newest four of these five."""
    folder = tmp_path_factory.mktemp("open")
    url = f"{provider.url}/v1/chat/completions"
    refused = {"status": 503, "outcome": "refused", "url": None}
    fault = Fault("no_key", "set OPENAI_API_KEY", "gateway")
    records = [
        made.record(made.id_at(made.START + at), made.START + at, answered=ANSWER, **facts)
        for at, facts in enumerate(
            [
                {"url": url, "model": "the oldest"},
                {"url": url},
                {**refused, "fault": fault, "client_path": b"/nowhere"},
                {"url": url.replace("http", "ws"), "status": 101},
                {"url": url, "client": "ci"},
            ]
        )
    ]
    log = made.log(folder / "records.jsonl", records)
    log.write_bytes(log.read_bytes() + b'{"id": "torn"')
    desk = Desk(folder, str(log), "--limit", "4")
    yield desk
    assert desk.stop() == 0
    assert "Traceback" not in desk.output
    assert provider.connections == []


def test_the_newest_calls_are_there_in_their_order(desk: Desk) -> None:
    flows = desk.flows(4)
    assert [flow["timestamp_created"] - made.START for flow in flows] == [1, 2, 3, 4]
    assert [flow["marked"] for flow in flows] == ["✅", "⛔", "✅", "✅"]
    assert flows[1]["comment"].startswith("refused 503: set OPENAI_API_KEY")
    assert flows[3]["client_conn"]["peername"] == ["ci", 0]
    assert "there are older ones" in desk.output


def test_a_call_is_shown_as_its_conversation(desk: Desk) -> None:
    flow = desk.flows(4)[0]
    shown = json.loads(desk.web.get(f"/flows/{flow['id']}/response/content/auto.json"))
    assert shown["view_name"] == "Conversation"
    assert "- assistant: Blue." in shown["text"]
    assert flow["id"] in shown["text"]


def test_the_pages_read_the_same_log(desk: Desk) -> None:
    assert re.search(rf"calls: http://127\.0\.0\.1:{desk.web_port}/llm", desk.output)
    ident = desk.flows(4)[3]["id"]
    end = time.monotonic() + DEADLINE
    while desk.web.call("GET", f"/llm/{ident}")[0] != 200:  # until the index has read it
        assert time.monotonic() < end
        time.sleep(0.05)
    assert b"Blue." in desk.web.get(f"/llm/{ident}")


def test_nobody_gets_in_without_the_password(desk: Desk) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", desk.web_port, timeout=10)
    for path in ("/flows", "/llm", "/options"):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 403
    connection.close()


def test_a_replay_is_refused_and_the_call_stays_as_it_was(desk: Desk) -> None:
    before = desk.flows(4)
    status, body = desk.web.call("POST", f"/flows/{before[0]['id']}/replay", {})
    assert status == 403
    assert b"llm-passthrough replay" in body
    assert b"llm-passthrough replay" in desk.web.command("replay.client", "@all")
    assert b"llm-passthrough replay" in desk.web.command("replay.client.file", "/etc/hosts")
    assert desk.web.flows() == before


@pytest.mark.parametrize(
    "option",
    [{"server": True}, {"mode": ["reverse:http://x"]}, {"web_host": ""}, {"ssl_insecure": True}],
    ids=lambda option: next(iter(option)),
)
def test_it_cannot_be_made_a_proxy(desk: Desk, option: dict[str, object]) -> None:
    before = desk.web.get("/options")
    assert desk.web.set(**option) == 400
    assert desk.web.get("/options") == before
    state = json.loads(desk.web.get("/state"))
    assert not any(server["listen_addrs"] for server in state["servers"].values())


def test_a_database_and_filters(tmp_path: Path) -> None:
    sink = Sqlite(tmp_path / "records.sqlite")
    for number, client in enumerate(("ci", "agent", "ci")):
        one = made.record(
            made.id_at(made.START + number), made.START + number, client=client, answered=ANSWER
        )
        sink.write(one, line(one))
    sink.close()
    desk = Desk(tmp_path, str(tmp_path), "--client", "ci", "--grep", "blue")
    try:
        assert [flow["client_conn"]["peername"][0] for flow in desk.flows(2)] == ["ci", "ci"]
        assert b"agent" in desk.web.get("/llm")
    finally:
        assert desk.stop() == 0


def test_saved_flows_open_as_in_mitmweb(tmp_path: Path) -> None:
    saved = tmp_path / "saved.mitm"
    with saved.open("wb") as file:
        for _ in range(3):
            FlowWriter(file).add(tflow.tflow(resp=True))
    desk = Desk(tmp_path, str(saved))
    try:
        assert len(desk.flows(3)) == 3
        assert "calls:" not in desk.output
        assert desk.web.call("POST", f"/flows/{desk.flows(3)[0]['id']}/replay", {})[0] == 403
    finally:
        assert desk.stop() == 0
