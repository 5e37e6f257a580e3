"""Running a command: its exit code, its signals, its files and its terminal are its own."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from llm_passthrough.foreground import CommandError, find

# In a process of its own: what runs a command never hears a signal again.
RUN = """
import os, sys
from llm_passthrough.foreground import CommandError, run
try:
    sys.exit(run(sys.argv[1:], os.environ))
except CommandError as error:
    print(error)
    sys.exit(error.code)
"""
# Tells each signal that it gets, and ends when its input does.
LISTEN = textwrap.dedent(
    """
    import signal, sys
    for name in sys.argv[1:]:
        signal.signal(getattr(signal, name), lambda number, _: print(number, flush=True))
    print("ready", flush=True)
    sys.stdin.read()
    sys.exit(9)
    """
)


def start(*command: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("exit 0", 0, id="success"),
        pytest.param("exit 7", 7, id="its own code"),
        pytest.param("exit 255", 255, id="the largest"),
        pytest.param("kill -KILL $$", 137, id="killed"),
        pytest.param("kill -TERM $$", 143, id="terminated"),
        pytest.param("kill -SEGV $$", 139, id="crashed"),
    ],
)
def test_the_exit_code_is_the_commands_or_says_its_signal(script: str, code: int) -> None:
    process = start("sh", "-c", script)
    process.communicate()
    assert process.returncode == code


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_a_signal_is_the_commands_and_comes_once(name: str) -> None:
    process = start(sys.executable, "-c", LISTEN, name)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    assert process.stdout.readline() == f"{int(getattr(signal, name))}\n"
    out, _ = process.communicate()
    assert (out, process.returncode) == ("", 9)


def test_a_signal_that_the_command_does_not_catch_ends_it() -> None:
    # The tests themselves may run in the background, where SIGINT is ignored.
    process = start(
        "sh",
        "-c",
        "echo ready; exec sleep 60",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130


def test_what_the_command_ignores_from_the_start_it_goes_on_ignoring() -> None:
    """As `nohup` wants it."""
    process = start(
        "sh",
        "-c",
        "echo ready; read line; exit 4",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.communicate("line\n")
    assert process.returncode == 4


def test_no_signal_is_blocked_in_the_command() -> None:
    process = start("grep", "SigBlk", "/proc/self/status")
    out, _ = process.communicate()
    assert int(out.split()[1], 16) == 0


def test_the_exit_code_is_known_even_where_children_are_not_waited_for() -> None:
    process = start(
        "sh", "-c", "exit 6", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    )
    process.communicate()
    assert process.returncode == 6


def test_its_input_output_and_further_files_are_the_commands(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"handed on")
    os.close(write)
    process = start("sh", "-c", f"cat; cat /dev/fd/{read}", pass_fds=[read])
    os.close(read)
    out, _ = process.communicate("typed, ")
    assert out == "typed, handed on"


# -- the program ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "folder").mkdir()
    script = tmp_path / "script"
    script.write_text("no first line\n")
    script.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("program", "code"),
    [
        pytest.param("{}/gone", 127, id="no file"),
        pytest.param("gone", 127, id="nowhere in PATH"),
        pytest.param("{}/text", 126, id="not executable"),
        pytest.param("text", 126, id="not executable, in PATH"),
        pytest.param("{}/folder", 126, id="a folder"),
        pytest.param("", 127, id="no name"),
    ],
)
def test_what_cannot_be_run_has_the_codes_of_a_shell(folder: Path, program: str, code: int) -> None:
    with pytest.raises(CommandError) as error:
        find(program.format(folder), str(folder))
    assert error.value.code == code


def test_what_can_be_run_is_found(folder: Path) -> None:
    find("script", f"/nowhere{os.pathsep}{folder}")
    find(str(folder / "script"), None)


def test_what_the_system_does_not_execute_is_said_in_one_line(folder: Path) -> None:
    process = start(str(folder / "script"))
    out, _ = process.communicate()
    assert out == f"{folder / 'script'}: Exec format error\n"
    assert process.returncode == 126
