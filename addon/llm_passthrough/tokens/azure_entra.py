"""Entra ID tokens for Azure OpenAI, through azure-identity.

https://learn.microsoft.com/azure/ai-services/openai/how-to/managed-identity: the token of a
service principal, or of whatever the default chain finds (environment, workload identity,
managed identity, Azure CLI).
"""

from collections.abc import Callable
from importlib.util import find_spec

from pydantic import SecretStr

from llm_passthrough.tokens.cache import Fetch, Token

SCOPE = "https://cognitiveservices.azure.com/.default"
MISSING = "needs azure-identity; pip install 'llm-passthrough[azure]'"


def installed() -> bool:
    """Whether azure-identity is there."""
    return find_spec("azure") is not None and find_spec("azure.identity") is not None


def service_principal(
    tenant_id: str, client_id: str, client_secret: SecretStr, scopes: tuple[str, ...]
) -> Fetch:
    """Tokens of an application (OAuth 2.0 client credentials, RFC 6749 4.4)."""

    def credential() -> object:
        from azure.identity import ClientSecretCredential

        return ClientSecretCredential(tenant_id, client_id, client_secret.get_secret_value())

    return _fetch(credential, scopes)


def default_chain(scopes: tuple[str, ...]) -> Fetch:
    """Tokens of whatever identity this machine has."""

    def credential() -> object:
        from azure.identity import DefaultAzureCredential

        return DefaultAzureCredential()

    return _fetch(credential, scopes)


def _fetch(make: Callable[[], object], scopes: tuple[str, ...]) -> Fetch:
    made: list[object] = []

    def fetch() -> Token:
        # Made in the thread that fetches: importing the library alone takes half a second.
        if not made:
            made.append(make())
        token = made[0].get_token(*scopes)  # type: ignore[attr-defined]
        return Token(SecretStr(token.token), float(token.expires_on))

    return fetch
