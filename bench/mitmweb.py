"""By how much mitmweb grows: a real one, its limits as they are by default, many small calls."""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from llm_passthrough.demo import DemoProvider

from bench.measure import Case

_CALLS = 20_000
_BEFORE = 2_500  # the table of 2,000 calls is full then
_AT_ONCE = 8
_MOST = 20  # MB
_SCRIPT = Path(__file__).resolve().parents[1] / "addon" / "passthrough.py"
_BODY = json.dumps(
    {"model": "gpt-4o", "messages": [{"role": "user", "content": "Tell me of the sea. " * 20}]}
)


def cases(share: float) -> list[Case]:
    """The memory after all calls, beside that after the first eighth of them."""
    count = max(int(_CALLS * share), 2 * _AT_ONCE)
    first = count * _BEFORE // _CALLS
    return [
        Case(f"memory, mitmweb, {count:,} calls", f"MB more than after {first:,}",
             partial(grown, first, count), goal=_MOST, once=True)
    ]  # fmt: skip


def grown(first: int, count: int) -> float:
    """By how many MB a mitmweb grows from its first calls to its last."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _provider() as url,
        _mitmweb(Path(folder), url) as (process, port),
    ):
        _call(port, first)
        before = _resident(process)
        _call(port, count - first)
        return max(_resident(process) - before, 0.0)


@contextmanager
def _provider() -> Iterator[str]:
    """The URL of a demo provider that answers at once."""
    demo, loop = DemoProvider(pace=0.0), asyncio.new_event_loop()
    port = demo.bind()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(demo.start(), loop).result(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(demo.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def _mitmweb(folder: Path, url: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A mitmweb that is ready, and its port."""
    keys = [{"name": "main", "value": "sk-0123456789abcdef"}]
    config = {
        "providers": {"openai": {"keys": keys, "network_config": {"base_url": url}}},
        "log": {"path": str(folder / "records.jsonl")},
    }
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    port, web_port = _free_port(), _free_port()
    options = {"confdir": folder, "passthrough_config": file, "web_open_browser": "false"}
    options |= {"web_port": web_port, "listen_port": port, "listen_host": "127.0.0.1"}
    command = [str(Path(sys.executable).parent / "mitmweb"), "-s", str(_SCRIPT)]
    for name, value in options.items():
        command += ["--set", f"{name}={value}"]
    environment = os.environ | {"HOME": str(folder)}
    with subprocess.Popen(  # noqa: S603 - a command of ours
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            _wait(process, port)
            yield process, port
        finally:
            process.terminate()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            answer = connection.getresponse()
            connection.close()
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError("mitmweb does not answer")


def _call(port: int, count: int) -> None:
    """So many calls through it, some at once, each of these on a connection of its own."""
    shares = [count // _AT_ONCE + (number < count % _AT_ONCE) for number in range(_AT_ONCE)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(partial(_calls, port), shares))


def _calls(port: int, count: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(count):
        connection.request(
            "POST",
            "/openai_passthrough/v1/chat/completions",
            _BODY,
            {"Content-Type": "application/json", "Authorization": "Bearer client"},
        )
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"a call was answered with {answer.status}")
    connection.close()


def _resident(process: "subprocess.Popen[bytes]") -> float:
    """The memory of a process in MB, a moment after its last call."""
    time.sleep(1)
    command = ["ps", "-o", "rss=", "-p", str(process.pid)]
    told = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - the same
    return int(told.stdout) / 1024


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
