"""A program out of the nursery finds what it finds when it is called by its name."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from live.harness import BIN, Gateway, clean_environment, free_port, nursery

# Loaded by mitmdump: writes down what a process is given, and ends it.
PROBE = """
import json, os, random, re, signal, sys, threading
from mitmproxy import ctx

def running():
    umask = os.umask(0)
    files = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    files = [os.readlink(file) for file in files if os.path.lexists(file)]
    found = {
        "argv": sys.argv, "path": sys.path, "environment": dict(os.environ), "cwd": os.getcwd(),
        "umask": umask, "group": os.getpgid(0), "session": os.getsid(0), "warn": sys.warnoptions,
        "signals": {each.name: str(signal.getsignal(each)).partition(" at ")[0]
                    for each in signal.valid_signals() if isinstance(each, signal.Signals)},
        "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "files": sorted(re.sub(r"\\d+", "N", file) for file in files),
        "streams": [[file.isatty(), file.encoding, file.errors, file.line_buffering,
                     file.write_through] for file in (sys.stdin, sys.stdout, sys.stderr)],
        "threads": threading.active_count(),
    }
    print("said on stdout", file=sys.stdout)
    print("said on stderr", file=sys.stderr)
    with open("found.json", "w") as file:
        json.dump(found | {"chance": random.random()}, file)
    ctx.master.shutdown()
"""


def command(folder: Path, port: int) -> list[str]:
    probe = folder / "probe.py"
    probe.write_text(PROBE)
    options = ["--listen-port", str(port), "--set", f"confdir={folder}/mitm"]
    return [str(BIN / "mitmdump"), "-s", str(probe), *options]


def look(folder: Path, output: Path) -> tuple[float, dict[str, Any], list[str]]:
    """A number by chance, what the probe found, what was said."""
    found = json.loads((folder / "found.json").read_text())
    said = re.sub(r"(?m)^\[[0-9:.]+\] ", "", output.read_text())  # mitmproxy's clock
    return found.pop("chance"), found, said.splitlines()


def test_what_it_is_given_is_the_same(tmp_path: Path) -> None:
    called = command(tmp_path, free_port())
    env = clean_environment() | {"HOME": str(tmp_path), "PYTHONUNBUFFERED": "1", "MADE": "for it"}
    output = tmp_path / "output"
    before = os.umask(0o027)
    try:
        with output.open("wb") as file:
            subprocess.run(
                called,
                # A run in the background ignores SIGINT, and hands that down.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                env=env,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                check=True,
            )
        chance, real, said = look(tmp_path, output)
        chances = {chance}
        for _ in range(2):
            with output.open("wb") as file:
                assert nursery().start(called, env, tmp_path, file.fileno()).wait(60) == 0
            chance, found, also_said = look(tmp_path, output)
            assert found == real
            assert also_said == said
            chances.add(chance)
        assert len(chances) == 3, "chance is each process's own"
    finally:
        os.umask(before)


def test_how_it_ends_is_told(tmp_path: Path) -> None:
    child = Gateway(tmp_path, wait=False).process
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    assert (child.poll(), child.returncode) == (None, None)
    child.kill()
    assert child.wait(60) == -signal.SIGKILL
    assert (child.poll(), child.returncode) == (-signal.SIGKILL, -signal.SIGKILL)
    child.terminate()  # nobody is there any more
