"""Several processes on one port: who is served by whom, who dies, what is told to all, the end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough.ledger import Count, Span, open_ledger
from openai import OpenAI

from live.harness import (
    BIN,
    CLIENT_KEY,
    KEYS,
    Gateway,
    Upstream,
    Wire,
    config_for,
    ended,
    free_port,
    raw,
    request,
    status_of,
)
from live.oracles import DEADLINE

CHAT = "/openai_passthrough/v1/chat/completions"
NEW = "sk-openai-NEW-KEY-0123456789"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
BOB, UPLOAD = "bob-token-0123456789", "ABCdef-0123456789"
SLOW, TAKEN, LIMITED = "slow", "taken", "limited"


@dataclass
class Group:
    """Two workers, and the provider that they have in common."""

    gateway: Gateway
    upstream: "Script"

    def health(self, wire: Wire) -> dict[str, Any]:
        return self.told(wire, "keys")

    def told(self, wire: Wire, what: str) -> dict[str, Any]:
        wire.send(f"GET /health?{what} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        told: dict[str, Any] = json.loads(wire.message()[1])
        return told

    def worker(self, wire: Wire) -> int:
        return int(self.health(wire)["traffic"]["worker"])

    @contextlib.contextmanager
    def each(self) -> Iterator[dict[int, Wire]]:
        """A connection to each of the workers, by their numbers."""
        with contextlib.ExitStack() as open_:
            found: dict[int, Wire] = {}
            for _ in range(200):
                wire = open_.enter_context(Wire.to(self.gateway.port))
                found.setdefault(self.worker(wire), wire)
                if len(found) == 2:
                    break
            assert sorted(found) == [1, 2]
            yield found

    def ask(self, wire: Wire, *headers: str, target: str = CHAT, **body: Any) -> int:
        """The status of a call on a connection that stays open."""
        document = json.dumps({"model": "gpt-4o", "messages": []} | body).encode()
        headers = headers or (f"Authorization: Bearer {CLIENT_KEY}",)
        whole = request(target, document, headers=headers)
        wire.send(whole.replace(b"Connection: close\r\n", b""))
        return status_of(wire.message()[0])

    def records(self) -> list[dict[str, Any]]:
        """All records, the newest first."""
        ledger = open_ledger(self.gateway.records_path, must_exist=False)
        return [one.record() for one in ledger.read(Span(), Count())]

    def recorded(self, count: int) -> list[dict[str, Any]]:
        until(lambda: len(self.records()) >= count, "the records")
        return self.records()

    def processes(self) -> list[int]:
        return children(self.gateway.process.pid)


class Script:
    """The provider: answers by the model that is asked for; remembers who asked."""

    def __init__(self) -> None:
        self.server = Upstream(self._talk)
        self.keys: list[str] = []
        self.streams: list[Wire] = []

    def _talk(self, wire: Wire) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                head, body = wire.message()
                if b"/upload/" in head:
                    place = f"{self.server.url}/upload/v1beta/files?upload_id={UPLOAD}"
                    wire.send(answer("200 OK", b"{}", f"X-Goog-Upload-URL: {place}"))
                    continue
                self.keys.append(head.decode().split("Bearer ")[1].split("\r\n")[0])
                model = json.loads(body)["model"]
                if model == SLOW:
                    wire.send(STREAM + b"9\r\ndata: {}\n\r\n")
                    self.streams.append(wire)
                    wire.sock.settimeout(60)
                    wire.some()
                    return
                wire.send(ANSWERS.get(model, OK))

    def end_streams(self) -> None:
        for wire in self.streams:
            wire.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(END), END))


OK_BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Hello!"},
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
    }
).encode()


def answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


OK = answer("200 OK", OK_BODY)
ANSWERS = {
    TAKEN: answer("401 Unauthorized", b"{}"),
    LIMITED: answer("429 Too Many Requests", b"{}", "Retry-After: 60"),
}


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 2 * DEADLINE
    while not holds():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in found.split()]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    upstream = Script()
    keys = [{"name": name, "value": f"sk-{name}-of-two-0123456789"} for name in ("one", "other")]
    config = config_for(
        upstream.server.url,
        shutdown={"drain_seconds": 60},
        listen={"workers": 2},
        clients=[
            {"name": "alice", "tokens": [CLIENT_KEY]},
            {"name": "bob", "tokens": [BOB], "budget": {"monthly": 1}},
        ],
        prices={"gpt-4o": {"input": 100_000, "output": 0}},  # ten tokens are a dollar
        routes=[{"prefix": "/two", "upstream": upstream.server.url, "keys": keys}],
    )
    gateway = Gateway(tmp_path_factory.mktemp("workers"), config, "serve")
    group = Group(gateway, upstream)
    yield group
    gateway.process.kill()
    upstream.server.stop()
    assert not upstream.server.failures


def test_calls_reach_all_workers_and_are_one_log(group: Group) -> None:
    """One record a call, whoever served it, in the order of time."""
    before = len(group.records())

    def ask() -> None:
        client = OpenAI(base_url=f"{group.gateway.url}/openai_passthrough/v1", api_key=CLIENT_KEY)
        with client:
            for _ in range(3):
                messages = [{"role": "user", "content": "Hello!"}]
                got = client.chat.completions.create(model="gpt-4o", messages=messages)
                assert got.choices[0].message.content == "Hello!"

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with group.each() as wires:
        assert [group.ask(wire) for wire in wires.values()] == [200, 200]
    records = group.recorded(before + 14)
    assert len(records) == len({record["id"] for record in records}) == before + 14
    times = [record["time"] for record in records]
    assert times == sorted(times, reverse=True)
    files = sorted(group.gateway.records_path.parent.glob("*.jsonl"))
    assert [file.name for file in files] == ["records-w2.jsonl", "records.jsonl"]
    assert all(file.read_bytes() for file in files)
    listed = ended(
        [str(BIN / "llm-passthrough"), "logs", "list", "--json", "-n", "1000", "--file",
         str(group.gateway.records_path)],
        dict(os.environ), group.gateway.folder,
    )  # fmt: skip
    assert len(listed.stdout.splitlines()) == len(records), listed


def rests(group: Group, wire: Wire, name: str) -> bool:
    return bool(group.health(wire)["keys"]["two"][name].startswith("rests"))


@pytest.mark.parametrize("model", [TAKEN, LIMITED], ids=["401", "429"])
def test_a_key_that_rests_in_one_rests_in_all_until_it_is_good_again(
    group: Group, model: str
) -> None:
    pinned = (f"Authorization: Bearer {CLIENT_KEY}", "x-passthrough-key: one")
    with group.each() as wires:
        for number, wire in wires.items():
            other = wires[3 - number]
            assert group.ask(wire, *pinned, target="/two/chat/completions", model=model) >= 400
            until(lambda: rests(group, other, "one"), "the rest")  # noqa: B023 - called at once
            assert not rests(group, other, "other")
            start = len(group.upstream.keys)
            for _ in range(8):
                assert group.ask(other, target="/two/chat/completions") == 200
            assert set(group.upstream.keys[start:]) == {"sk-other-of-two-0123456789"}
            assert group.ask(other, *pinned, target="/two/chat/completions") == 200
            until(lambda: not rests(group, wire, "one"), "the end of the rest")  # noqa: B023


def test_what_a_client_has_used_counts_in_all_workers_the_next_one_too(group: Group) -> None:
    bob = f"Authorization: Bearer {BOB}"
    with group.each() as wires:
        assert group.ask(wires[1], bob) == 200
        until(lambda: group.ask(wires[2], bob) == 429, "the end of the budget")

        def used(wire: Wire) -> float:
            return float(group.told(wire, "clients")["clients"]["bob"]["this_month"]["cost"])

        until(lambda: used(wires[1]) == used(wires[2]) >= 1, "the same sum")
    for victim in group.processes():
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in group.processes(), "its end")  # noqa: B023 - called at once
        with group.each() as wires:
            for wire in wires.values():
                until(lambda: group.ask(wire, bob) == 429, "what was used before")  # noqa: B023


def test_an_upload_goes_on_with_whichever_worker(group: Group) -> None:
    target = "/genai_passthrough/upload/v1beta/files"
    with group.each() as wires:
        assert group.ask(wires[1], f"x-goog-api-key: {CLIENT_KEY}", target=target) == 200
        nobody = "Content-Language: en"
        going_on = f"{target}?upload_id={UPLOAD}"
        until(lambda: group.ask(wires[2], nobody, target=going_on) == 200, "the ticket")
        assert group.ask(wires[2], nobody, target=f"{going_on}X") == 401


def test_health_answers_for_all_workers(group: Group) -> None:
    with group.each() as wires:
        for wire in wires.values():
            assert group.ask(wire) == 200

        def is_whole(wire: Wire) -> bool:
            told = group.health(wire)
            return bool(
                told["traffic"]["workers"] == 2
                and told["traffic"]["connections"] >= len(wires)
                and told["log"]["written"] >= 2
            )

        assert group.health(wires[1])["traffic"]["worker"] == 1
        until(lambda: all(map(is_whole, wires.values())), "what the other one told")

        def agree() -> bool:
            return len({group.health(wire)["log"]["written"] for wire in wires.values()}) == 1

        until(agree, "the same number")


def test_a_worker_that_is_killed_is_replaced_and_nobody_else_notices(group: Group) -> None:
    """Those who come meanwhile wait a moment."""
    with group.each() as wires:
        numbers = {wire: number for number, wire in wires.items()}
        victim = group.processes()[-1]
        os.kill(victim, signal.SIGKILL)
        alive = []
        for wire in numbers:
            with contextlib.suppress(EOFError, OSError):
                assert group.ask(wire) == 200
                alive.append(wire)
        assert len(alive) == 1
        for _ in range(20):
            assert status_of(raw(group.gateway.port, request(CHAT, b'{"model": "m"}'))) == 200
        assert group.ask(alive[0]) == 200
    until(lambda: len(group.processes()) == 2, "another worker")
    assert victim not in group.processes()
    with group.each() as wires:
        assert [group.ask(wire) for wire in wires.values()] == [200, 200]
    assert "was killed by signal 9: another one takes its place" in group.gateway.output


def test_what_is_changed_is_read_again_by_all(group: Group) -> None:
    file = group.gateway.folder / "gateway.yaml"
    before = file.read_text()
    document = json.loads(before)
    document["providers"]["openai"]["keys"] = [{"name": "new", "value": NEW}]
    for text, key in ((json.dumps(document), NEW), (before, KEYS["openai"])):
        other = file.with_suffix(".new")
        other.write_text(text)
        os.replace(other, file)
        group.gateway.process.send_signal(signal.SIGHUP)

        def all_sign(key: str = key) -> bool:
            with group.each() as wires:
                start = len(group.upstream.keys)
                for wire in wires.values():
                    group.ask(wire)
                return group.upstream.keys[start:] == [key, key]

        until(all_sign, "the new key")


def test_all_end_when_their_calls_have(group: Group) -> None:
    """The last one here: nothing new is taken, what is open may end, the parent waits for all."""
    with group.each() as wires:
        streams = list(wires.values())
        for wire in streams:
            wire.send(request(CHAT, json.dumps({"model": SLOW, "stream": True}).encode()))
            wire.until(b"data: {}\n")
        workers = group.processes()
        # As some service managers do (a terminal too, with SIGINT): to each process.
        for pid in (*workers, group.gateway.process.pid):
            os.kill(pid, signal.SIGTERM)

        def is_closed() -> bool:
            try:
                socket.create_connection(("127.0.0.1", group.gateway.port), DEADLINE).close()
            except ConnectionError:
                return True
            return False

        until(is_closed, "the end of listening")
        assert group.gateway.process.poll() is None
        assert group.processes() == workers
        group.upstream.end_streams()
        for wire in streams:
            assert wire.rest().endswith(b"0\r\n\r\n")
    assert group.gateway.process.wait(DEADLINE) == 0, group.gateway.output
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    records = [one for one in group.records() if one["stream"]]
    assert [(one["outcome"], one["finish_reasons"]) for one in records] == [("ok", ["stop"])] * 2
    assert "Traceback" not in group.gateway.output


# -- faults ---------------------------------------------------------------------------------------

DIES = """
import os, signal
from llm_passthrough.workers.seat import Seat

def join(*_):
    os.kill(os.getpid(), signal.SIGKILL)

Seat.join = join
"""


def end_of(tmp_path: Path, *words: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    """A start that fails; its output is on stdout and stderr."""
    config = config_for("http://127.0.0.1:9", log={"path": str(tmp_path / "log" / "r.jsonl")})
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(config | changes))
    file.chmod(0o600)
    command = [str(BIN / "llm-passthrough"), *words, "--config", str(file)]
    command += ["--set", f"confdir={tmp_path}/mitm"]
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    if "dies" in changes:
        script = tmp_path / "dies.py"
        script.write_text(DIES)
        env["LLM_PASSTHROUGH_TEST_SCRIPTS"] = str(script)
        del changes["dies"]
        file.write_text(json.dumps(config | changes))
    return ended(command, env, tmp_path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["serve", "--workers", "0"], "must be a number from 1 to 64", id="none"),
        pytest.param(["serve", "--workers", "two"], "or auto", id="no number"),
        pytest.param(["serve", "--workers", "2", "--demo"], "leave --demo out", id="the demo"),
        pytest.param(["web", "--workers", "2"], "mitmweb shows the calls of one", id="mitmweb"),
        pytest.param(
            ["serve", "--workers", "2", "--set", "mode=regular@9090"], "share one port", id="a mode"
        ),
    ],
)
def test_what_cannot_be_several_is_refused(tmp_path: Path, words: list[str], says: str) -> None:
    got = end_of(tmp_path, *words)
    assert got.returncode == 2
    (line,) = (got.stdout + got.stderr).splitlines()
    assert line.startswith("llm-passthrough: ")
    assert says in line


@pytest.mark.parametrize("shared", [False, True], ids=["a server's", "that of other workers"])
def test_a_port_that_is_taken_is_one_line(tmp_path: Path, shared: bool) -> None:
    """H13."""
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        got = end_of(tmp_path, "serve", "--workers", "2", "--port", str(port))
    assert got.returncode == 2
    assert (got.stdout + got.stderr) == (
        f"llm-passthrough: 127.0.0.1:{port}: is in use; give another --port\n"
    )


def test_what_is_wrong_for_all_workers_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no folder")
    got = end_of(tmp_path, "serve", "--workers", "3", "--port", str(free_port()))
    assert got.returncode == 2
    assert (got.stdout + got.stderr).count("log.path") == 1


def test_workers_that_die_at_once_are_given_up(tmp_path: Path) -> None:
    got = end_of(tmp_path, "serve", "--workers", "2", "--port", str(free_port()), dies=True)
    assert got.returncode == 1
    (line,) = (got.stdout + got.stderr).splitlines()
    assert "worker 1 was killed by signal 9 while it started: giving up" in line


SHARED = """
from llm_passthrough.workers.port import reserve

reserve.__defaults__ = (False,)
"""


def test_where_workers_have_one_socket_each_of_them_takes_from_it(tmp_path: Path) -> None:
    """As on macOS; who dies leaves what waits there to the others."""
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    upstream = Script()
    gateway = Gateway(
        tmp_path / "gateway",
        config_for(upstream.server.url),
        "serve",
        args=("--workers", "2"),
        env={"LLM_PASSTHROUGH_TEST_SCRIPTS": str(script)},
    )
    group = Group(gateway, upstream)
    with group.each() as wires:
        assert [group.ask(wire) for wire in wires.values()] == [200, 200]
    until(lambda: len(group.processes()) == 2, "both workers")
    os.kill(group.processes()[0], signal.SIGKILL)
    for _ in range(10):
        assert status_of(raw(gateway.port, request(CHAT, b'{"model": "m"}'))) == 200
    with group.each():
        assert gateway.stop() == 0
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", gateway.port), DEADLINE)
    upstream.server.stop()


def test_workers_whose_parent_is_killed_end_by_themselves(tmp_path: Path) -> None:
    """And each of them has run the script that it was given."""
    script = tmp_path / "script.py"
    script.write_text("def running():\n    print('a script runs', flush=True)\n")
    args = ("--workers", "2", "--set", f"scripts={script}")
    gateway = Gateway(tmp_path, config_for("http://127.0.0.1:9"), "serve", args=args)
    until(lambda: gateway.output.count("a script runs") == 2, "both scripts")
    assert status_of(raw(gateway.port, request(CHAT, b'{"model": "m"}'))) == 502
    workers = children(gateway.process.pid)
    gateway.process.kill()
    until(lambda: not any(map(lives, workers)), "the end of the workers")
    assert gateway.output.count("a script runs") == 2


def lives(pid: int) -> bool:
    """Whether a process is there, and not only waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
