"""Fixtures of the command's tests: the provider under the real providers' names."""

from live.conftest import authority, tls_provider

__all__ = ["authority", "tls_provider"]
