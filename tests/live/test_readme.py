"""What the README shows works as it stands."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from live.harness import ROOT, SIGNED, Gateway, Provider, clean_environment, credentials

README = (ROOT / "README.md").read_text()
SNIPPETS = README[README.index("<!-- snippets") : README.index("<!-- /snippets -->")]
BLOCKS = re.findall(r"```python\n(.*?)```", SNIPPETS, re.S)
DEPLOYMENT = "/openai/deployments/gpt-4o/chat/completions"
EXPRESS = "/v1beta1/publishers/google/models/gemini-2.5-flash"
ROWS = [
    # provider, detected_by, target, operation, model; in the order of the README
    ("openai", "prefix", "/v1/chat/completions", "chat", "gpt-4o"),
    ("anthropic", "prefix", "/v1/messages", "messages", "claude-haiku-4-5"),
    ("azure", "prefix", f"{DEPLOYMENT}?api-version=2024-10-21", "chat", "gpt-4o"),
    (
        "gemini",
        "default",
        "/v1/models/gemini-2.5-flash:generateContent",
        "generate_content",
        "gemini-2.5-flash",
    ),
    ("vertex", "path", f"{EXPRESS}:generateContent", "generate_content", "gemini-2.5-flash"),
]

type Run = Callable[[str], str]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a program in this process, which has the SDKs imported; returns what it prints."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)

    def run(code: str) -> str:
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
        return capsys.readouterr().out

    return run


def test_there_are_five_snippets() -> None:
    assert len(BLOCKS) == 5


@pytest.mark.parametrize(
    ("block", "name", "rule", "target", "operation", "model"),
    [pytest.param(block, *row, id=row[0]) for block, row in zip(BLOCKS, ROWS, strict=False)],
)
def test_a_snippet_works_word_for_word(
    here: Run,
    provider: Provider,
    gateway: Gateway,
    block: str,
    name: str,
    rule: str,
    target: str,
    operation: str,
    model: str,
) -> None:
    before, told = len(provider.seen), len(gateway.records())
    assert "You said: Hello!" in here(block.replace("http://localhost:8080", gateway.url))
    (seen,) = provider.seen[before:]
    assert (seen.method, seen.target) == ("POST", target)
    assert credentials(seen.headers) == [SIGNED[name]]
    assert b"dummy-key" not in seen.head + seen.body
    (record,) = gateway.records(told + 1)[told:]
    assert record["provider"] == name
    assert record["detected_by"] == rule
    assert record["key"] == f"{name}-main"
    assert record["operation"] == operation
    assert record["model"]["requested"] == model
    assert record["outcome"] == "ok"
    assert record["request"]["body"] == seen.body.decode()
    assert record["route"] == f"/{'genai' if name in ('gemini', 'vertex') else name}_passthrough"
    assert "dummy-key" not in json.dumps(record)


def test_a_snippet_is_a_whole_program(gateway: Gateway, tmp_path: Path) -> None:
    """By itself it runs to its end; importing an SDK takes seconds, so this is one of them."""
    result = subprocess.run(
        [sys.executable, "-c", BLOCKS[0].replace("http://localhost:8080", gateway.url)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=clean_environment(),
    )
    assert result.returncode == 0, result.stderr
    assert "You said: Hello!" in result.stdout


def test_the_files_that_the_readme_names_exist() -> None:
    for name in re.findall(r"\]\(([^):#]+)\)", README):
        assert (ROOT / name).exists(), name
