"""Fixtures of the live tests: one provider and one gateway for a session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.authorities import NAMES, Authority
from live.harness import (
    Gateway,
    Provider,
    Upstream,
    clean_environment,
    config_for,
    names_addon,
)
from live.scene import Scene


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """The demo provider with a journal; it takes any credential."""
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture(scope="session")
def gateway(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """`mitmdump -s addon/passthrough.py` in front of the provider."""
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), config_for(provider.url))
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A provider of raw bytes; a test says in `talk` what it does."""
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def tls_provider(authority: Authority) -> Iterator[Provider]:
    """The demo provider behind TLS, under the real providers' names."""
    provider = Provider(ssl_context=authority.context)
    yield provider
    provider.stop()


@pytest.fixture
def names(tmp_path: Path, tls_provider: Provider) -> Path:
    """A script under which the real providers' names lead to the TLS provider."""
    return names_addon(tmp_path, dict.fromkeys(NAMES, tls_provider.port))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """What a module's cases of the threat catalogue are tried on."""
    scene = Scene(tmp_path_factory.mktemp("scene"))
    yield scene
    scene.stop()


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    """SDKs read keys, base URLs and proxies from the environment: here they find none of these.

    They find one authority there: to load the usual hundred takes a client 0.1 s.
    """
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
