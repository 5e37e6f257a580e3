"""OpenAI (https://platform.openai.com/docs/api-reference): everything lives under /v1."""

from llm_passthrough.keyring import Key
from llm_passthrough.providers.base import Ask, Base, Provider, Target, bearer


def locate(ask: Ask, key: Key, base: Base) -> Target:
    """`/v1/x` and `/x` both reach `/v1/x`; a base URL that ends in /v1 does not double it."""
    path = ask.path
    if not ask.exact and path != b"/v1" and not path.startswith(b"/v1/"):
        path = b"/v1" + path
    return ask.target(Base(base.origin, base.path.removesuffix(b"/v1")), path)


OPENAI = Provider("openai", "https://api.openai.com", "openai", locate, bearer, b"/v1/models")
