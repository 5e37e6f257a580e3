"""Azure OpenAI (https://learn.microsoft.com/azure/ai-services/openai/reference).

The endpoint belongs to the key. `api-version` is put in only under /openai/deployments/, where
the API demands one, and only when the caller gave none.
"""

from urllib.parse import unquote_to_bytes

from llm_passthrough.keyring import Key
from llm_passthrough.providers.base import Ask, Base, Credential, Provider, Target, as_it_is

DEFAULT_API_VERSION = "2025-04-01-preview"
_PROBE = b"/openai/models?api-version=2024-10-21"
_VERSIONED = b"/openai/deployments/"


def locate(ask: Ask, key: Key, base: Base) -> Target:
    """The key's endpoint, the client's path, and the api-version where it is missing."""
    target = as_it_is(ask, key, base)
    if not ask.path.startswith(_VERSIONED) or _names_version(ask.query):
        return target
    version = b"api-version=" + (key.api_version or DEFAULT_API_VERSION).encode()
    joint = b"?" if ask.query is None else b"&" if ask.query else b""
    return Target(target.origin, target.path + joint + version)


def sign(ask: Ask, key: Key) -> Credential:
    """An Entra ID token as `Authorization: Bearer`; a key as `api-key`, or as `x-api-key` for
    Claude on Azure: by path, never by the model's name."""
    if key.bearer:
        return Credential(b"Authorization", b"Bearer {key}")
    return Credential(b"x-api-key" if ask.path.startswith(b"/anthropic/") else b"api-key")


def _names_version(query: bytes | None) -> bool:
    names = (part.partition(b"=")[0] for part in (query or b"").split(b"&"))
    return any(unquote_to_bytes(name).lower() == b"api-version" for name in names)


AZURE = Provider("azure", None, "openai", locate, sign, _PROBE)
