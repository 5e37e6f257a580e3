"""Fixtures of the token tests: one endpoint for all, and an environment that names nothing else."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from llm_passthrough.tokens import discreet

from tokens.harness import Authority, Records, TokenServer

_FOREIGN = re.compile(r"AZURE|IDENTITY|MSI_|IMDS|GOOGLE|GCE_|GCLOUD|CLOUDSDK|PROXY", re.I)


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    """The endpoint of the session."""
    endpoint = TokenServer(Authority(tmp_path_factory.mktemp("tokens")))
    yield endpoint
    endpoint.stop()


@pytest.fixture
def server(
    endpoint: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TokenServer]:
    """The endpoint, trusted, and no other identity to be found on this machine."""
    for name in [name for name in os.environ if _FOREIGN.search(name)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(endpoint.authority.ca_file))
    monkeypatch.setenv("HOME", str(tmp_path))
    endpoint.reset()
    yield endpoint
    endpoint.gate.set()


@pytest.fixture
def through_proxy(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> TokenServer:
    """The endpoint as a proxy: whatever host a library dials, it is the endpoint."""
    monkeypatch.setenv("HTTPS_PROXY", server.plain_url)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    return server


@pytest.fixture
def records() -> Iterator[Records]:
    """All log records, with the root logger at DEBUG and the libraries' loggers as they come."""
    names = ["", *discreet._LOGGERS]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET if name else logging.DEBUG)
    handler = Records()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
