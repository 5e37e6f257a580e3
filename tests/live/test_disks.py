"""Disks that fail under a running gateway: calls go on, the log is whole, and `/health` says it.

Threat catalogue: K04 the database, K05 the log's folder, K06 and K11 rotation by others under
load, K09 mitmproxy's own file, K10 two gateways, K15 a crash between log and database. More of it:
sinks/, test_endurance.py, test_own_output.py.
"""

import json
import os
import resource
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from live.harness import KEYS, Gateway, Upstream, Wire, config_for, request
from live.oracles import DEADLINE, found, talk

CHAT = "/openai_passthrough/v1/chat/completions"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()


def served(wire: Wire) -> None:
    """A provider that answers each request."""
    while True:
        try:
            wire.message()
        except (EOFError, OSError):
            return
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.fixture(scope="module")
def kept(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a database that is not in its log's folder."""
    folder = tmp_path_factory.mktemp("disks")
    log = {"sqlite": str(folder / "base" / "records.sqlite")}
    upstream.talk = served
    gateway = Gateway(folder, config_for(upstream.url, log=log), "serve")
    assert call(gateway) == 200
    gateway.records(1)
    until(lambda: ids(database(gateway)))
    yield gateway
    gateway.stop()


def call(gateway: Gateway) -> int | None:
    return talk(gateway.port, request(CHAT, BODY)).status


def health(gateway: Gateway) -> tuple[int | None, dict[str, Any]]:
    heard = talk(gateway.port, HEALTH)
    return heard.status, json.loads(heard.body)["log"]


def database(gateway: Gateway) -> Path:
    return gateway.folder / "base" / "records.sqlite"


def ids(path: Path) -> list[str]:
    """The records of a database, as long as it is one."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return [row[0] for row in connection.execute("SELECT id FROM records")]
    except sqlite3.Error:
        return []


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# -- the database ----------------------------------------------------------------------------------


@contextmanager
def locked(gateway: Gateway) -> Iterator[None]:
    with closing(sqlite3.connect(database(gateway), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full(gateway: Gateway) -> Iterator[None]:
    """No file may be longer than this: a few lines fit, but no transaction of ten pages."""
    pid, unlimited = gateway.process.pid, resource.RLIM_INFINITY
    most = gateway.records_path.stat().st_size + 8192
    assert most < 40_000
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, unlimited))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))


@contextmanager
def _replaced(gateway: Gateway, data: bytes) -> Iterator[None]:
    path = database(gateway)
    other = path.with_name("other")
    other.write_bytes(data)
    other.rename(path)
    yield
    path.unlink(missing_ok=True)


def damaged(gateway: Gateway) -> AbstractContextManager[None]:
    """The same with pages that are none."""
    with closing(sqlite3.connect(database(gateway))) as connection:
        connection.execute("PRAGMA wal_checkpoint(FULL)")
    data = database(gateway).read_bytes()
    return _replaced(gateway, data[:4096] + b"\xa5" * (len(data) - 4096))


def read_only(gateway: Gateway) -> AbstractContextManager[None]:
    """A version that this SQLite may only read (https://www.sqlite.org/fileformat.html, 1.3.3)."""
    with closing(sqlite3.connect(database(gateway))) as connection:
        connection.execute("PRAGMA wal_checkpoint(FULL)")
    data = database(gateway).read_bytes()
    return _replaced(gateway, data[:18] + b"\x03\x02" + data[20:])


@contextmanager
def without_wal(gateway: Gateway) -> Iterator[None]:
    """Somebody tidied up: what was not folded back stands in no file that has a name."""
    Path(f"{database(gateway)}-wal").unlink()
    yield


HANDS: dict[str, tuple[Callable[[Gateway], AbstractContextManager[None]], str]] = {
    "K04-locked": (locked, "database is locked"),
    "K04-full disk": (full, "disk"),
    "K04-its -wal deleted": (without_wal, "ok"),
    "K04-a damaged page": (damaged, "malformed"),
    "K04-read-only": (read_only, "readonly"),
}


@pytest.mark.parametrize("hand", HANDS)
def test_a_database_that_fails_holds_up_no_call_and_no_line(kept: Gateway, hand: str) -> None:
    harm, words = HANDS[hand]
    before = set(_ids(kept))
    with harm(kept):
        assert call(kept) == 200
        until(lambda: words in health(kept)[1]["sqlite"])
        assert call(kept) == 200
        until(lambda: len(_ids(kept)) == len(before) + 2)
        new = set(_ids(kept)) - before
        status, log = health(kept)
        assert (status, log["state"], log["failed"]) == (200, "ok", 0)
        assert log["sqlite"] == "ok" or log["sqlite"].endswith("records wait")
    until(lambda: new <= set(ids(database(kept))))
    until(lambda: health(kept)[1]["sqlite"] == "ok")


def test_what_a_crash_left_out_of_the_database_is_put_in_at_the_next_start(
    tmp_path: Path, upstream: Upstream
) -> None:
    """K15."""
    upstream.talk = served
    log = {"sqlite": str(tmp_path / "base" / "records.sqlite")}
    config = config_for(upstream.url, log=log)
    gateway = Gateway(tmp_path, config, "serve")
    assert call(gateway) == 200
    until(lambda: len(ids(database(gateway))) == 1)
    with locked(gateway):
        for _ in range(4):
            assert call(gateway) == 200
        gateway.records(5)
        gateway.process.kill()
        gateway.process.wait(DEADLINE)
    assert len(ids(database(gateway))) == 1
    again = Gateway(tmp_path, config, "serve")
    until(lambda: len(ids(database(again))) == 5)
    assert call(again) == 200
    records = again.records(6)
    until(lambda: len(ids(database(again))) == 6)
    assert again.stop() == 0
    assert "4 records that only the log had were put in the database" in again.output
    assert ids(database(again)) == [record["id"] for record in records]


# -- the log ---------------------------------------------------------------------------------------


def test_a_folder_that_is_taken_away_is_told_while_calls_go_on(kept: Gateway) -> None:
    """K05: here a file is put in its place; a folder that is only missing is made again."""
    folder = kept.records_path.parent
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.touch()
    try:
        assert call(kept) == 200
        until(lambda: health(kept)[0] == 503)
        assert health(kept)[1]["state"] == "jsonl: Not a directory"
    finally:
        folder.unlink()
    assert call(kept) == 200
    until(lambda: health(kept)[0] == 200)
    assert len(_lines(kept.records_path)) == 1
    assert health(kept)[1]["failed"] == 1, "the only one that is lost"


def _missing(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "log" / "records.jsonl"


def _read_only(folder: Path) -> Path:
    there = folder / "there"
    there.mkdir(mode=0o500)
    if os.geteuid() == 0:  # who may write anywhere may not write here
        command = ["mount", "-t", "tmpfs", "-o", "ro,size=16k", "tmpfs", str(there)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("this root may not mount")
    return there / "records.jsonl"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        pytest.param(
            _missing, "File exists; name a file in a folder", id="K05-a folder that cannot be made"
        ),
        pytest.param(_read_only, "name a file in a folder", id="K05-a folder to read only"),
    ],
)
def test_a_log_that_cannot_be_written_is_no_start(
    tmp_path: Path, upstream: Upstream, place: Callable[[Path], Path], words: str
) -> None:
    path = place(tmp_path)
    config = config_for(upstream.url, log={"path": str(path)})
    try:
        gateway = Gateway(tmp_path / "g", config, "serve", wait=False)
        assert gateway.process.wait(DEADLINE) == 2
    finally:
        subprocess.run(["umount", str(path.parent)], check=False, capture_output=True)
    assert f"log.path: {path}: " in gateway.output
    assert words in gateway.output


def test_a_second_gateway_does_not_write_to_the_same_log(
    kept: Gateway, tmp_path: Path, upstream: Upstream
) -> None:
    """K10."""
    config = config_for(upstream.url, log={"path": str(kept.records_path)})
    second = Gateway(tmp_path, config, "serve", wait=False)
    assert second.process.wait(DEADLINE) == 2
    assert "another gateway writes here; give this one its own log.path" in second.output
    before = len(_lines(kept.records_path))
    assert call(kept) == 200
    until(lambda: len(_lines(kept.records_path)) == before + 1)


def test_under_load_each_call_has_one_record_whoever_rotates_the_log(kept: Gateway) -> None:
    """K06, K11."""
    before = set(_lines(kept.records_path))
    callers, each = 10, 30
    threads = [
        threading.Thread(target=_calls, args=(kept.port, caller, each)) for caller in range(callers)
    ]
    for thread in threads:
        thread.start()
    files = []
    for number in range(3):
        until(lambda: kept.records_path.exists() and len(_lines(kept.records_path)) > 20)
        files.append(kept.records_path.with_name(f"rotated.{number}"))
        kept.records_path.rename(files[-1])
    for thread in threads:
        thread.join()
    until(lambda: len(_lines(*files, kept.records_path)) >= len(before) + callers * each)
    new = [json.loads(x) for x in _lines(*files, kept.records_path) if x not in before]
    paths = sorted(record["request"]["client_path"] for record in new)
    assert paths == sorted(_path(c, n) for c in range(callers) for n in range(each))
    assert len({record["id"] for record in new}) == callers * each
    for caller in range(callers):
        mine = [r for r in new if r["request"]["client_path"].startswith(_path(caller, ""))]
        assert [r["request"]["client_path"] for r in mine] == [
            _path(caller, n) for n in range(each)
        ]


def _path(caller: int, number: int | str) -> str:
    return f"/openai_passthrough/v1/x/{caller}/{number}"


def _calls(port: int, caller: int, each: int) -> None:
    with Wire.to(port) as wire:
        for number in range(each):
            wire.send(request(_path(caller, number), BODY).replace(b"Connection: close\r\n", b""))
            wire.message()


def _ids(gateway: Gateway) -> list[str]:
    return [json.loads(line)["id"] for line in _lines(gateway.records_path)]


def _lines(*paths: Path) -> list[bytes]:
    data = b"".join(path.read_bytes() for path in paths if path.exists())
    return data[: data.rfind(b"\n") + 1].splitlines()


# -- mitmproxy's own file --------------------------------------------------------------------------


def test_mitmproxys_own_file_ends_it_when_its_disk_is_full_but_the_call_is_recorded(
    tmp_path: Path, upstream: Upstream
) -> None:
    """K09: it is mitmproxy's choice, and README says so; no key is told with it."""
    upstream.talk = served
    flows = tmp_path / "flows"
    gateway = Gateway(tmp_path, config_for(upstream.url), args=("-w", str(flows)))
    for _ in range(3):
        assert call(gateway) == 200
    gateway.records(3)
    size = flows.stat().st_size
    assert size > gateway.records_path.stat().st_size * 1.5
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (size, size))
    assert call(gateway) is None
    assert gateway.process.wait(DEADLINE) == 1
    assert "File too large" in gateway.output
    assert not found(KEYS.values(), gateway.output.encode())
    assert len(gateway.records(4)) == 4
