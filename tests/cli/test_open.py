"""`llm-passthrough open`: what it says before there is anything to look at."""

from pathlib import Path

import made
import pytest
from click.testing import Result
from llm_passthrough.cli import app
from llm_passthrough.record import line
from llm_passthrough.sinks.sqlite import Sqlite
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def run(*args: object) -> Result:
    """The command; none of these comes so far as to show anything."""
    return CliRunner().invoke(app, ["open", *map(str, args)])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return made.log(tmp_path / "records.jsonl", [made.record("one"), made.record("two")])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "saved.mitm"
    with path.open("wb") as file:
        FlowWriter(file).add(tflow.tflow(resp=True))
    return path


@pytest.mark.parametrize(
    ("options", "line"),
    [
        pytest.param(["server=true"], "option server must be false", id="a port for clients"),
        pytest.param(["web_host=0.0.0.0"], "option web_host must be loopback", id="mitmweb open"),
        pytest.param(["ssl_insecure=true"], "option ssl_insecure must be false", id="unsafe"),
        pytest.param(["mode=reverse:http://x"], "option mode must be regular", id="another mode"),
        pytest.param(["passthrough_view_bytes=x"], "passthrough_view_bytes must be", id="no size"),
    ],
)
def test_what_is_unsafe_for_a_gateway_is_so_here(log: Path, options: list[str], line: str) -> None:
    result = run(log, *(part for option in options for part in ("--set", option)))
    assert result.exit_code == 2
    assert line in result.stderr
    assert "Traceback" not in result.stderr


def test_no_records_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path / "nothing.jsonl")
    assert result.exit_code == 1
    assert "no records here yet" in result.stderr


def test_without_a_file_it_is_the_configured_log(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(f"log: {{ path: {tmp_path}/elsewhere.jsonl }}\n")
    assert f"{tmp_path}/elsewhere.jsonl: no records" in run("--config", config).stderr
    assert ".llm-passthrough/records.jsonl: no records" in run().stderr


@pytest.mark.parametrize(
    "args", [["--model", "claude"], ["--since", "2026-10-01"], ["--outcome", "failed"]]
)
def test_no_call_that_is_wanted_is_one_line(log: Path, args: list[str]) -> None:
    result = run(log, *args)
    assert (result.exit_code, result.stderr) == (1, "llm-passthrough: no calls\n")


def test_saved_flows_are_not_filtered_here(saved: Path) -> None:
    result = run(saved, "--model", "gpt")
    assert result.exit_code == 2
    assert "filtered in mitmweb" in result.stderr


def test_a_wish_that_means_nothing_is_refused(log: Path) -> None:
    assert run(log, "--since", "soonish").exit_code == 2
    assert run(log, "--limit", "0").exit_code == 2


def test_a_database_of_somebody_else_is_one_line(tmp_path: Path) -> None:
    sink = Sqlite(tmp_path / "records.sqlite")
    sink.write(made.record("one"), line(made.record("one")))
    sink.close()
    assert run(tmp_path / "records.sqlite", "--model", "claude").stderr.endswith("no calls\n")
    (tmp_path / "other.db").write_bytes(b"SQLite format 3\x00" + bytes(100))
    assert run(tmp_path / "other.db").exit_code == 1
