"""What the README shows works as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from live.harness import ROOT, Gateway, clean_environment

README = (ROOT / "README.md").read_text()
SNIPPETS = README[README.index("<!-- snippets") : README.index("<!-- /snippets -->")]
BLOCKS = re.findall(r"```python\n(.*?)```", SNIPPETS, re.S)


def test_there_are_five_snippets() -> None:
    assert len(BLOCKS) == 5


@pytest.mark.parametrize("block", BLOCKS, ids=["openai", "anthropic", "azure", "gemini", "vertex"])
def test_a_snippet_works_word_for_word(block: str, gateway: Gateway, tmp_path: Path) -> None:
    code = block.replace("http://localhost:8080", gateway.url)
    result = subprocess.run(
        [sys.executable, "-c", code],
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
