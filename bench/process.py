"""Processes that are measured: started, watched from outside, ended."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor time of a process in seconds: all of it, and that of its first thread."""

    all: float
    first: float

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.all - other.all, self.first - other.first)


def available() -> bool:
    """Whether this system tells what is needed (proc(5), /proc/PID/task/TID/schedstat)."""
    return Path("/proc/self/schedstat").exists()


def cpu(pid: int) -> Cpu:
    """What a process has used so far, to the nanosecond."""
    spent = {
        int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9
        for task in Path(f"/proc/{pid}/task").iterdir()
    }
    return Cpu(sum(spent.values()), spent[pid])


def resident(pid: int) -> float:
    """The memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def start(command: Sequence[str], cwd: Path, **env: str) -> "subprocess.Popen[str]":
    """A process that can be told something and may answer; what it complains of is in a file."""
    kept = {k: v for k, v in os.environ.items() if "API_KEY" not in k and "PROXY" not in k.upper()}
    with (cwd / "errors.log").open("a") as errors:
        return subprocess.Popen(  # noqa: S603 - programs of ours, or found by their name
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=cwd,
            env=kept | env,
        )


def stop(process: "subprocess.Popen[str]") -> None:
    """End a process, in order if it can."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
