"""Runs a command in the foreground: its terminal, its signals and its exit code are its own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

NOT_FOUND = 127
NOT_EXECUTABLE = 126
# Signals that are for the command when they are sent to us.
_PASSED = {
    getattr(signal, name)
    for name in ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
}
_TYPED = {getattr(signal, name) for name in ("SIGINT", "SIGQUIT") if hasattr(signal, name)}


class CommandError(Exception):
    """The command cannot be run: a line, and the exit code that shells have for it."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.code = code


def find(program: str, path: str | None) -> None:
    """Whether a program can be found and executed. Raises CommandError."""
    if shutil.which(program, path=path):
        return
    folders = [""] if os.path.dirname(program) else os.get_exec_path({"PATH": path or ""})
    if program and any(Path(folder, program).exists() for folder in folders):
        raise CommandError(f"{program}: cannot be executed", NOT_EXECUTABLE)
    raise CommandError(f"{program}: command not found", NOT_FOUND)


def run(command: list[str], env: Mapping[str, str]) -> int:
    """The exit code of a command, or 128 and the number of the signal that ended it.

    From here on signals are the command's: none ends this process any more. Raises CommandError.
    """
    if sys.platform == "win32":
        return _run_on_windows(command, env)
    # Somebody may have had us inherit that children are not waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    watched = {*_PASSED, signal.SIGCHLD}
    # Blocked before the command starts: none is lost between its start and the first wait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        process = subprocess.Popen(  # noqa: S603 - that is what was asked for
            command,
            env=env,
            close_fds=False,  # ours are not inherited; those that we were given are for it
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before),
        )
    except OSError as error:
        raise CommandError(f"{command[0]}: {error.strerror}", NOT_EXECUTABLE) from None
    while (code := process.poll()) is None:
        number, typed = _wait(watched)
        # What was typed at the terminal the command has got itself.
        if number in _PASSED and not typed:
            process.send_signal(number)
    return code if code >= 0 else 128 - code


def _wait(watched: set[signal.Signals]) -> tuple[int, bool]:
    """The next signal, and whether a terminal sent it to all of its foreground group."""
    if hasattr(signal, "sigwaitinfo"):
        info = signal.sigwaitinfo(watched)
        return info.si_signo, info.si_code > 0 and info.si_signo in _TYPED
    number = signal.sigwait(watched)  # macOS does not say who sent it
    return number, number in _TYPED and _in_foreground()


def _in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def _run_on_windows(command: list[str], env: Mapping[str, str]) -> int:
    """There Ctrl-C reaches all processes of a console, and other signals do not exist."""
    try:
        process = subprocess.Popen(command, env=env)  # noqa: S603 - as above
    except OSError as error:
        raise CommandError(f"{command[0]}: {error.strerror}", NOT_EXECUTABLE) from None
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
