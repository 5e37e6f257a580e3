"""A gateway in a process of its own, for as long as a command runs."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from llm_passthrough.cli.running import NoGatewayError, running

_START = 60.0
_DRAIN, _END = 1.0, 10.0
_LOOK = 0.05


class StartError(Exception):
    """The gateway did not start: what it said, line by line."""


class Child:
    """A `serve` that survives Ctrl-C at the terminal and ends when this process does.

    `log` holds what it says; it is removed again when that is nothing.
    """

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        _make(log.parent)
        # -P: what lies in the present folder is not imported.
        command = [sys.executable, "-P", "-m", "llm_passthrough.cli.tethered", "serve", *arguments]
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                command,
                stdin=subprocess.PIPE,  # closed when we are gone, however that comes about
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Windows
            )
        finally:
            os.close(output)

    def wait_ready(self, host: str, port: int) -> None:
        """Wait until it answers. Raises StartError when it ends, or does not for a minute."""
        end = time.monotonic() + _START
        while time.monotonic() < end:
            if self.ended is not None:
                raise StartError(self._said() or f"the gateway ended with {self.ended}")
            try:
                if running(host, port):
                    return
            except NoGatewayError:
                pass  # it may be about to say that the port is taken
            time.sleep(_LOOK)
        raise StartError(self._said() or f"the gateway does not answer on {host}:{port}")

    @property
    def ended(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.poll()

    def stop(self) -> None:
        """End it in order: what is recorded is written."""
        for patience in (_DRAIN, _END):  # a second signal cuts what is still open
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        with contextlib.suppress(OSError):
            if not self.log.stat().st_size:
                self.log.unlink()

    def _said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace").strip()


def _make(folder: Path) -> None:
    """A folder and those above it that are not there yet, each for this user alone."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
