"""How much memory a long stream takes: 1 GB of events through a tee and an ear."""

import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from llm_passthrough.tee import Tee

from bench.looking import listening, through
from bench.measure import Case
from bench.samples import CHAT, GEMINI, events

_BYTES = 1 << 30
_MOST = 20  # MB
_STREAMS = {
    "chat": (b"/v1/chat/completions", CHAT, "\n"),
    "gemini": (b"/models/g:streamGenerateContent", GEMINI, "\r\n"),
}


def cases(share: float) -> list[Case]:
    """Streams of 1 GB, each in a process of its own: what ran before leaves no holes to fill."""
    size = int(_BYTES * share)
    return [
        Case(f"memory, {name}", f"MB more, {size >> 20} MB", partial(_grown, name, size),
             goal=_MOST, once=True)
        for name in _STREAMS
    ]  # fmt: skip


def _grown(name: str, size: int) -> float:
    command = [sys.executable, "-P", "-m", "bench.memory", name, str(size)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(command, env=env, capture_output=True, check=True)  # noqa: S603 - ours
    return float(told.stdout)


def grown(name: str, size: int) -> float:
    """By how many MB this process grows at most while `size` bytes go through."""
    path, template, end = _STREAMS[name]
    chunks = events(template, 1000, end=end)
    through(Tee(1 << 20, time.monotonic, listening(path, "text/event-stream")), chunks)
    before = most = _resident()
    ear = listening(path, "text/event-stream")
    tee = Tee(1 << 20, time.monotonic, ear)
    while tee.size < size:
        through(tee, chunks)
        most = max(most, _resident())
    ear.end()
    return most - before


def _resident() -> float:
    """The memory that this process has, in MB; where that cannot be told, the most it has had."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return pages * resource.getpagesize() / (1 << 20)


if __name__ == "__main__":
    print(grown(sys.argv[1], int(sys.argv[2])))
