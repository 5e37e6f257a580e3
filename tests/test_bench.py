"""The benchmarks run, and say what they measured; how quick anything is, no test asserts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCHEDSTAT = Path("/proc/self/schedstat")


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "bench", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_every_case_runs_and_is_told_on_the_screen_and_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    run = bench("--no-http", "--share", "0.0005", "--rounds", "1", "--json", str(file))
    assert run.returncode == 0, run.stderr
    results = {row["name"]: row for row in json.loads(file.read_text())["results"]}
    for group in ("chunk", "100 KB", "record", "loop", "memory", "pages", "mitmweb"):
        assert [name for name in results if group in name], group
    for name, row in results.items():
        assert name in run.stdout
        assert len(row["values"]) == 1
        assert row["median"] == row["best"] >= 0
        assert (row["ratio"] is None) is (row["against"] is None)


@pytest.mark.skipif(not SCHEDSTAT.exists(), reason="processes do not tell here what they use")
def test_calls_go_through_real_gateways_and_are_told_in_a_table_and_a_picture(
    tmp_path: Path,
) -> None:
    json_file, table, picture = (tmp_path / name for name in ("x.json", "x.md", "x.svg"))
    files = ["--json", json_file, "--markdown", table, "--svg", picture]
    run = bench(
        *("--share", "0.0005", "--rounds", "1", "--only", "1 KB, 1 connection: serve"),
        *map(str, files),
    )
    assert run.returncode == 0, run.stderr
    results = {row["name"]: row for row in json.loads(json_file.read_text())["results"]}
    for way in ("bare mitmdump", "serve"):
        assert results[f"1 KB, 1 connection: {way}"]["ratio"] > 0
        assert way in table.read_text()
        assert way in run.stdout
    assert picture.read_text().startswith("<?xml")


def test_only_the_cases_that_are_named_run_and_what_they_are_compared_with(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    run = bench("--share", "0.0005", "--rounds", "3", "--only", "gemini, ch", "--json", str(file))
    assert run.returncode == 0, run.stderr
    results = json.loads(file.read_text())["results"]
    assert [row["name"] for row in results] == ["bare tee, chunk", "gemini, chunk"]
    assert all(len(row["values"]) == 3 for row in results)


def test_a_name_that_no_case_has_is_refused() -> None:
    run = bench("--only", "nonsense")
    assert run.returncode == 2
    assert "no case has such a name" in run.stderr


def test_a_soak_of_some_hundred_requests_ends_well() -> None:
    """Each with its end and its record, and no file left open; scripts/soak does 200,000."""
    run = subprocess.run(
        [sys.executable, "-P", "-m", "bench.soak", "--requests", "300"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "addon"), str(ROOT)))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "301 requests in" in run.stdout
    assert "every request ended and has its record; no file was left open" in run.stdout
