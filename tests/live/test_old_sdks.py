"""The snippets of the README with the SDKs of a generation ago.

`scripts/test` installs them apart into .venv/old-sdks; LLM_PASSTHROUGH_OLD_SDKS names another
folder. They send other credential headers and other API versions than today's.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from live.harness import ROOT, SIGNED, Gateway, Provider, clean_environment, credentials

FOLDER = Path(os.environ.get("LLM_PASSTHROUGH_OLD_SDKS") or ROOT / ".venv" / "old-sdks")

pytestmark = pytest.mark.skipif(
    not (FOLDER / "openai").is_dir(),
    reason=f"no older SDKs in {FOLDER}; scripts/test installs them",
)


# One process for all: to load the SDKs takes longer than to use them.
SCRIPT = """
import runpy, sys
for snippet in sys.argv[1:]:
    runpy.run_path(snippet)
"""
SNIPPETS = ["openai_chat", "anthropic_messages", "azure_chat", "gemini_generate", "vertex_generate"]


@dataclass(frozen=True)
class Ran:
    """What came of one snippet."""

    said: str
    seen: Any
    record: dict[str, Any]


@pytest.fixture(scope="module")
def ran(provider: Provider, gateway: Gateway) -> dict[str, Ran]:
    """All snippets, run by a Python that finds the older SDKs before all others."""
    before, told = len(provider.seen), len(gateway.records())
    env = {"PYTHONPATH": str(FOLDER), "LLM_PASSTHROUGH_URL": gateway.url}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT]
        + [str(Path(__file__).parent / "snippets" / f"{snippet}.py") for snippet in SNIPPETS],
        env=clean_environment() | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    records = gateway.records(told + len(SNIPPETS))[told:]
    parts = zip(done.stdout.splitlines(), provider.seen[before:], records, strict=True)
    return {snippet: Ran(*part) for snippet, part in zip(SNIPPETS, parts, strict=True)}


@pytest.mark.parametrize(
    ("snippet", "name", "target", "operation", "model", "sent"),
    [
        pytest.param(
            "openai_chat",
            "openai",
            "/v1/chat/completions",
            "chat",
            "gpt-4o-mini",
            "OpenAI/Python 2.8.1",
            id="openai",
        ),
        pytest.param(
            "anthropic_messages",
            "anthropic",
            "/v1/messages",
            "messages",
            "claude-haiku-4-5",
            "Anthropic/Python 0.75.0",
            id="anthropic-with-x-api-key",
        ),
        pytest.param(
            "azure_chat",
            "azure",
            "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
            "chat",
            "gpt-4o",
            "AzureOpenAI/Python 2.8.1",
            id="azure-with-two-credentials",
        ),
        pytest.param(
            "gemini_generate",
            "gemini",
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "generate_content",
            "gemini-2.5-flash",
            "google-genai-sdk/1.52.0",
            id="gemini-of-v1beta",
        ),
        pytest.param(
            "vertex_generate",
            "vertex",
            "/v1beta1/publishers/google/models/gemini-2.5-flash:generateContent",
            "generate_content",
            "gemini-2.5-flash",
            "google-genai-sdk/1.52.0",
            id="vertex-with-an-api-key",
        ),
    ],
)
def test_a_snippet_works_with_the_older_sdk_too(
    ran: dict[str, Ran],
    snippet: str,
    name: str,
    target: str,
    operation: str,
    model: str,
    sent: str,
) -> None:
    seen, record = ran[snippet].seen, ran[snippet].record
    assert "You said: Hello!" in ran[snippet].said
    assert seen.target == target
    assert sent.encode() in seen.head
    assert credentials(seen.headers) == [SIGNED[name]]
    assert b"dummy-key" not in seen.head + seen.body
    assert record["provider"] == name
    assert record["key"] == f"{name}-main"
    assert record["operation"] == operation
    assert record["model"]["requested"] == model
    assert record["outcome"] == "ok"
    assert "dummy-key" not in json.dumps(record)
