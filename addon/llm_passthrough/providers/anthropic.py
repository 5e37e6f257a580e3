"""Anthropic (https://docs.anthropic.com/en/api/overview): x-api-key and a dated version."""

from llm_passthrough.keyring import Key
from llm_passthrough.providers.base import Ask, Credential, Provider, as_it_is

# The API refuses a request without a version; this is the oldest that is still served.
_VERSION = (b"anthropic-version", b"2023-06-01")


def sign(ask: Ask, key: Key) -> Credential:
    """The key, and a version where the client named none."""
    extra = () if _VERSION[0] in ask.headers else (_VERSION,)
    return Credential(b"x-api-key", extra=extra)


ANTHROPIC = Provider(
    "anthropic", "https://api.anthropic.com", "anthropic", as_it_is, sign, b"/v1/models"
)
