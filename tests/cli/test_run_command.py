"""`llm-passthrough run`, as far as it comes without its command: what it refuses, and how."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from live.harness import Upstream, Wire, free_port
from llm_passthrough.cli import app
from llm_passthrough.cli.child import Child, StartError
from llm_passthrough.cli.running import running
from typer.testing import CliRunner

from cli.test_running import LISTED, answering

GATEWAY = answering({"/health": {"log": {"written": 0}}, "/": {"routes": LISTED}})


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["run", *arguments], env={"HOME": str(home), "LLM_PASSTHROUGH_CONFIG": ""}
    )


def file_with(folder: Path, document: dict[str, Any]) -> str:
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(document))
    return str(file)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        pytest.param("no-such-program", 127, "command not found", id="not there"),
        pytest.param("/", 126, "cannot be executed", id="not executable"),
    ],
)
def test_for_a_command_that_cannot_be_run_no_gateway_is_started(
    tmp_path: Path, command: str, code: int, said: str
) -> None:
    result = run(tmp_path, "--demo", "--", command)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"llm-passthrough: {command}: {said}\n"
    assert list(tmp_path.iterdir()) == []


def test_without_a_command_it_says_what_it_takes(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "COMMAND" in result.stderr


@pytest.mark.parametrize("options", [["--demo"], ["--config", "{}"]])
def test_a_gateway_that_is_not_what_was_asked_for_is_not_joined(
    tmp_path: Path, options: list[str]
) -> None:
    """Else what was meant for the demo would cost money."""
    there = Upstream(GATEWAY)
    file = file_with(tmp_path, {})
    options = [option.format(file) for option in options]
    result = run(tmp_path, *options, "--port", str(there.port), "--", "false")
    there.stop()
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"a gateway runs already on 127.0.0.1:{there.port}" in result.stderr


def test_a_port_that_something_else_has_is_said(tmp_path: Path) -> None:
    def talk(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    there = Upstream(talk)
    result = run(tmp_path, "--port", str(there.port), "--", "false")
    there.stop()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no llm-passthrough gateway" in result.stderr


def test_a_demo_has_no_configuration(tmp_path: Path) -> None:
    result = run(tmp_path, "--demo", "--config", file_with(tmp_path, {}), "--", "false")
    assert result.exit_code == 2
    assert result.stderr == "llm-passthrough: --demo takes no --config\n"


def test_a_gateway_that_does_not_start_says_why_itself(tmp_path: Path) -> None:
    key = {"value": "env.NOT_SET_ANYWHERE"}
    file = file_with(tmp_path, {"providers": {"openai": {"keys": [key]}}})
    result = run(tmp_path, "--config", file, "--mode", "base-url", "--port", "0", "--", "false")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"llm-passthrough: {file}: providers.openai.keys[0].value: "
        "the environment variable NOT_SET_ANYWHERE is not set, or empty; set it\n"
    )


def test_a_log_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = file_with(tmp_path, {"log": {"path": f"{tmp_path}/file/records.jsonl"}})
    result = run(tmp_path, "--config", file, "--mode", "base-url", "--port", "0", "--", "false")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


# -- the gateway's process ------------------------------------------------------------------------


def test_a_gateway_runs_until_it_is_stopped(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    port, log = free_port(), tmp_path / "new" / "folder" / "gateway.log"
    child = Child(["--demo", "--port", str(port)], log)
    try:
        child.wait_ready("127.0.0.1", port)
        assert child.ended is None
        folders = (log.parent, log.parent.parent)
        assert [path.stat().st_mode & 0o777 for path in (log, *folders)] == [0o600, 0o700, 0o700]
        if (maps := Path(f"/proc/{child._process.pid}/maps")).exists():
            assert "markupsafe" not in maps.read_text(), "Flask's, of an addon that serve has not"
    finally:
        child.stop()
    assert child.ended == 0
    assert running("127.0.0.1", port) is None
    assert not log.exists(), "it had nothing to say"


def test_a_gateway_that_ends_while_it_starts_is_not_waited_for(tmp_path: Path) -> None:
    child = Child(["--no-such-option"], tmp_path / "gateway.log")
    try:
        with pytest.raises(StartError, match="No such option"):
            child.wait_ready("127.0.0.1", free_port())
    finally:
        child.stop()
