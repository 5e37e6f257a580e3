"""The parent: who dies is replaced, ever more slowly; where there is no hope it gives up."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, time
from llm_passthrough.workers import parent
from llm_passthrough.workers.port import reserve
from llm_passthrough.workers.seat import Seat

parent._FIRST, parent._WAITED_FOR, parent._TRIES = 0.01, 0.015, 3

def starts(number):
    with open(f"starts-{number}", "a+") as file:
        file.write("x")
        file.flush()
        file.seek(0)
        return len(file.read())

def say(text):
    os.write(1, text.encode() + b"\\n")

got = parent.Parent(reserve("127.0.0.1", 0, own=OWN), 2, lambda: say("all listen")).run()
if not isinstance(got, Seat):
    say(f"over: {got}")
    sys.exit(got)
start = starts(got.number)

def ready():
    got.sock.sendall(b"ready\\n")

def lines():
    while line := got.sock.recv(100):
        yield from line.split()
"""


def run(folder: Path, worker: str, own: bool = True) -> tuple[int, list[str]]:
    """The exit code of a parent, and what it and its workers said; `worker` is what they do."""
    program = PROGRAM.replace("OWN", str(own)) + worker
    got = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=30
    )
    return got.returncode, (got.stdout + got.stderr).splitlines()


def starts(folder: Path, number: int) -> int:
    return len((folder / f"starts-{number}").read_text())


@pytest.mark.parametrize("own", [True, False], ids=["a socket each", "one socket"])
def test_who_dies_again_and_again_is_started_again_and_again(tmp_path: Path, own: bool) -> None:
    """The other one is left alone; what it tells comes to the one who lives at last."""
    worker = """
ready()
if got.number == 2 and start < 5:
    time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)
if got.number == 1:
    for line in lines():
        if line == b"again":
            got.sock.sendall(b'{"from":1}\\n')
        if line == b"drain":
            sys.exit()
for line in lines():
    if line == b'{"from":1}':
        say(f"heard after {start} starts")
        os.kill(os.getppid(), signal.SIGTERM)
    if line == b"drain":
        break
"""
    code, said = run(tmp_path, worker, own)
    assert code == 0, said
    assert (starts(tmp_path, 1), starts(tmp_path, 2)) == (1, 5)
    assert said.count("all listen") == 1
    assert "heard after 5 starts" in said
    assert len([line for line in said if "worker 2 was killed by signal 9" in line]) == 4


@pytest.mark.parametrize(
    ("worker", "code", "started", "says"),
    [
        pytest.param("sys.exit(2)", 2, (1, 0), None, id="a fault that is said already"),
        pytest.param(
            "sys.exit(7)",
            7,
            (1, 0),
            "worker 1 ended with 7 while it started: giving up",
            id="other",
        ),
        pytest.param(
            "if got.number == 2: os.abort()\nready()\nnext(lines())",
            1,
            (1, 1),
            "worker 2 was killed by signal 6 while it started: giving up",
            id="the second one",
        ),
        pytest.param(
            "if start > 1: sys.exit(3)\nready()\ntime.sleep(0.1)\nsys.exit(4)",
            1,
            None,
            "no worker can be started any more: giving up",
            id="all, later",
        ),
    ],
)
def test_what_cannot_start_is_given_up(
    tmp_path: Path, worker: str, code: int, started: tuple[int, int] | None, says: str | None
) -> None:
    got, said = run(tmp_path, worker)
    assert (got, said[0 if says is None else -1][:6]) == (code, "over: ") or says in said, said
    if started is not None:
        for number, count in enumerate(started, 1):
            assert (tmp_path / f"starts-{number}").exists() == bool(count)
    if says is not None:
        assert says in said


def test_a_worker_that_does_not_end_is_killed_at_the_third_signal(tmp_path: Path) -> None:
    worker = """
ready()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in lines():
    say(f"{got.number} hears {line.decode()}")
    if got.number == 1:
        os.kill(os.getppid(), signal.SIGTERM)
time.sleep(60)
"""
    code, said = run(tmp_path, worker)
    assert code == 0
    assert {"1 hears again", "1 hears drain", "1 hears cut"} <= set(said)
