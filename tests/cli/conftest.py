"""Fixtures of the command's tests: the provider under the real providers' names."""

from pathlib import Path

import pytest
from live.authorities import mitmproxys
from live.conftest import authority, tls_provider

__all__ = ["authority", "home", "tls_provider"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home where mitmproxy has its authority already: making one takes long."""
    folder = tmp_path / "it's a home"
    (folder / ".mitmproxy").mkdir(parents=True)
    for name, content in mitmproxys().items():
        (folder / ".mitmproxy" / name).write_bytes(content)
    return folder
