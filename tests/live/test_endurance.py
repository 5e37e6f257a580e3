"""What a gateway outlives: kills, stops, clocks that jump, disks that hang, options of others.

Threat catalogue: K01 and K02 kills under load, K07 a slow disk, J16 the clock, J17 a stopped
process, H11 unsafe options in mitmproxy's own file. Elsewhere: H07 and H08 test_config_faults.py,
H09 and H10 test_reload.py, H05 and H06 test_vertex.py, H12 test_start.py, K04 to K06, K09
to K11 and K15 test_disks.py, K08 test_own_output.py, K12 test_uploads.py, K16 test_shutdown.py.
"""

import json
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from live.harness import Gateway, Provider, Upstream, Wire, config_for, raw, request, status_of
from live.oracles import DEADLINE, talk

CHAT = "/openai_passthrough/v1/chat/completions"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()


def plain(wire: Wire) -> None:
    wire.message()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")


def test_kills_under_load_lose_no_record_that_was_written(
    tmp_path: Path, upstream: Upstream
) -> None:
    """K01, K02: at random moments; the next start mends and tells of a record that was cut off."""
    upstream.talk = plain
    chance = random.Random(5)
    seen: set[str] = set()
    for _ in range(3):
        gateway = Gateway(tmp_path, config_for(upstream.url), "serve")
        before = {record["id"] for record in gateway.records()}
        assert seen <= before
        over = threading.Event()
        callers = [threading.Thread(target=_call, args=(gateway.port, over)) for _ in range(4)]
        for caller in callers:
            caller.start()
        gateway.records(len(before) + 20, timeout=30)
        time.sleep(chance.random() / 5)
        seen = {record["id"] for record in gateway.records()}
        gateway.process.kill()
        over.set()
        for caller in callers:
            caller.join()
        gateway.process.wait(DEADLINE)
    with gateway.records_path.open("ab") as file:
        file.write(b'{"id": "torn')
    gateway = Gateway(tmp_path, config_for(upstream.url), "serve")
    assert "1 record was cut off at its end (12 bytes" in gateway.output
    assert talk(gateway.port, request(CHAT, BODY)).status == 200
    assert gateway.stop() == 0
    *lines, torn, last = gateway.records_path.read_bytes().splitlines()
    assert torn == b'{"id": "torn'
    ids = [json.loads(line)["id"] for line in (*lines, last)]
    assert seen <= set(ids)
    assert len(ids) == len(set(ids))


def _call(port: int, over: threading.Event) -> None:
    while not over.is_set():
        try:
            raw(port, request(CHAT, BODY), 2)
        except OSError:
            return


SLOW_DISK = """
import os, time
from llm_passthrough.sinks.jsonl import Jsonl

write = Jsonl.write

def patient(self, record, line):
    while not os.path.exists({go!r}):
        time.sleep(0.02)
    write(self, record, line)

Jsonl.write = patient
"""


def test_while_the_disk_hangs_requests_are_answered_and_then_all_is_written(
    tmp_path: Path, upstream: Upstream
) -> None:
    """K07: what waits is bounded; what found no room is counted, and health says so."""
    upstream.talk = plain
    go, script = tmp_path / "go", tmp_path / "slow.py"
    script.write_text(SLOW_DISK.format(go=str(go)))
    config = config_for(upstream.url, log={"queue": 10})
    config["log"]["path"] = str(tmp_path / "g" / "log" / "records.jsonl")
    gateway = Gateway(tmp_path / "g", config, args=("-s", str(script)))
    for _ in range(15):  # one is being written, ten wait
        assert talk(gateway.port, request(CHAT, BODY)).status == 200
    health = talk(gateway.port, HEALTH)
    assert health.status == 503
    assert json.loads(health.body)["log"]["dropped"] == 4
    assert not gateway.records()
    go.touch()
    assert len(gateway.records(11)) == 11
    assert talk(gateway.port, request(CHAT, BODY)).status == 200
    gateway.records(12)
    assert talk(gateway.port, HEALTH).status == 200
    assert gateway.stop() == 0


CLOCK = """
import time
real = time.time

def shifted():
    try:
        return real() + float(open({by!r}).read() or 0)
    except (OSError, ValueError):
        return real()

time.time = shifted
"""


@pytest.mark.parametrize("by", [3600, -90_000])
def test_a_clock_that_jumps_disturbs_no_deadline_and_no_record(
    tmp_path: Path, upstream: Upstream, by: int
) -> None:
    """J16, K14: in the middle of a stream; a day more, and a day back again."""
    goes_on = threading.Event()

    def streaming(wire: Wire) -> None:
        wire.message()
        wire.send(STREAM + b"9\r\ndata: 1\n\n\r\n")
        goes_on.wait(20)
        wire.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    upstream.talk = streaming
    shift, script = tmp_path / "shift", tmp_path / "clock.py"
    script.write_text(CLOCK.format(by=str(shift)))
    timeouts = {"connect": 30, "first_byte": 30, "idle": 30}
    gateway = Gateway(
        tmp_path / "g", config_for(upstream.url, timeouts=timeouts), args=("-s", str(script))
    )
    with Wire.to(gateway.port, 30) as client:
        client.send(request(CHAT, BODY))
        client.until(b"data: 1\n\n")
        shift.write_text(str(by))
        time.sleep(0.6)  # two looks at the deadlines
        goes_on.set()
        assert client.rest().endswith(b"0\r\n\r\n")
    upstream.talk = plain
    for jump in (by, 0, -by):
        shift.write_text(str(jump))
        assert talk(gateway.port, request(CHAT, BODY)).status == 200
    assert gateway.stop() == 0
    files = sorted(gateway.records_path.parent.glob("records*.jsonl"))
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    records = [json.loads(line) for line in lines]
    assert [record["outcome"] for record in records].count("ok") == 4
    assert len({record["id"] for record in records}) == 4
    assert all(0 <= record["timing_ms"]["total"] < 60_000 for record in records)


def test_a_process_that_was_stopped_goes_on(tmp_path: Path, provider: Provider) -> None:
    """J17: a stream that had to wait is not cut, as its idle deadline is longer than that."""
    gateway = Gateway(tmp_path, config_for(provider.url), "serve")
    document = json.loads(BODY) | {"stream": True}
    with Wire.to(gateway.port, 30) as client:
        client.send(request(CHAT, json.dumps(document).encode()))
        client.until(b"data: ")
        gateway.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        gateway.process.send_signal(signal.SIGCONT)
        assert b"[DONE]" in client.rest()
    assert talk(gateway.port, HEALTH).status == 200
    (record,) = gateway.records(1)
    assert record["outcome"] == "ok"
    assert gateway.stop() == 0


@pytest.mark.parametrize(
    "line",
    [
        "validate_inbound_headers: false",
        "ssl_insecure: true",
        "mode: [reverse:https://example.invalid]",
        "mode: [upstream:http://example.invalid:1]",
        "mode: [socks5]",
        "web_host: 0.0.0.0",
    ],
)
def test_what_mitmproxys_own_file_sets_to_something_unsafe_is_refused(
    tmp_path: Path, upstream: Upstream, line: str
) -> None:
    """H11."""
    gateway = _with_file(tmp_path, upstream, line)
    assert gateway.process.wait(30) == 2, gateway.output
    assert f"mitmproxy option {line.split(':')[0]} must" in gateway.output


def test_what_mitmproxys_own_file_sets_otherwise_than_we_need_it_is_set_right(
    tmp_path: Path, upstream: Upstream
) -> None:
    """H11."""
    upstream.talk = plain
    options = "stream_large_bodies: '1'", "rawtcp: true", "http2: true", "onboarding: true"
    gateway = _with_file(tmp_path, upstream, *options, "connection_strategy: eager")
    gateway.wait_ready()
    assert status_of(raw(gateway.port, request(CHAT, BODY))) == 200
    (record,) = gateway.records(1)
    assert record["outcome"] == "ok"
    assert gateway.stop() == 0


def _with_file(folder: Path, upstream: Upstream, *lines: str) -> Gateway:
    """A gateway whose user has a config.yaml of mitmproxy's."""
    (folder / "mitm").mkdir(0o700)
    (folder / "mitm" / "config.yaml").write_text("\n".join(lines) + "\n")
    program = "mitmweb" if lines[0].startswith("web") else "mitmdump"
    return Gateway(folder, config_for(upstream.url), program, wait=False, script=True)
