"""Entra ID tokens for Azure OpenAI, through azure-identity.

https://learn.microsoft.com/azure/ai-services/openai/how-to/managed-identity: the token of a
service principal, or of whatever the default chain finds (environment, workload identity,
managed identity, Azure CLI). The authority is azure-identity's: AZURE_AUTHORITY_HOST in the
environment, else login.microsoftonline.com.
"""

import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from llm_passthrough.tokens.cache import Fetch, Token
from llm_passthrough.tokens.discreet import hush

if TYPE_CHECKING:
    from azure.identity import ClientSecretCredential, DefaultAzureCredential

SCOPE = "https://cognitiveservices.azure.com/.default"
MISSING = "needs azure-identity; pip install 'llm-passthrough[azure]'"
# The cache in front tries again by itself, and the library's own retries last for minutes: they
# sleep for as long as an endpoint's `Retry-After` says.
_NETWORK = {"connection_timeout": 10, "read_timeout": 20, "retry_total": 0}
_TENANT = re.compile(r"[A-Za-z0-9.-]+")
_SCOPE = re.compile(r"[A-Za-z0-9_.:/-]+")


def installed() -> bool:
    """Whether azure-identity is there."""
    return find_spec("azure") is not None and find_spec("azure.identity") is not None


def service_principal(
    tenant_id: str, client_id: str, client_secret: SecretStr, scopes: tuple[str, ...] = (SCOPE,)
) -> Fetch:
    """Tokens of an application (OAuth 2.0 client credentials, RFC 6749 4.4).

    Raises ValueError that names what is wrong, never its value.
    """
    if not _TENANT.fullmatch(tenant_id):
        raise ValueError("tenant_id is none; a GUID, or such as contoso.onmicrosoft.com")
    if not client_id:
        raise ValueError("client_id is missing")
    if not client_secret.get_secret_value():
        raise ValueError("client_secret is missing")

    def credential(options: dict[str, Any]) -> "ClientSecretCredential":
        from azure.identity import ClientSecretCredential

        return ClientSecretCredential(
            tenant_id, client_id, client_secret.get_secret_value(), **options
        )

    return _fetch(credential, scopes)


def default_chain(scopes: tuple[str, ...] = (SCOPE,)) -> Fetch:
    """Tokens of whatever identity this machine has. Raises ValueError for what is no scope."""

    def credential(options: dict[str, Any]) -> "DefaultAzureCredential":
        from azure.identity import DefaultAzureCredential

        return DefaultAzureCredential(**options)

    return _fetch(credential, scopes)


def _fetch(
    make: Callable[[dict[str, Any]], "ClientSecretCredential | DefaultAzureCredential"],
    scopes: tuple[str, ...],
) -> Fetch:
    if not scopes or not all(map(_SCOPE.fullmatch, scopes)):
        raise ValueError(f"scopes holds what is none; such as {SCOPE}")
    hush()

    def fetch() -> Token:
        # Made in the thread that fetches, as importing the library alone takes half a second, and
        # anew each time: its own cache would hand out a revoked token again.
        with make(_options()) as credential:
            token = credential.get_token(*scopes)
        return Token(SecretStr(token.token), float(token.expires_on))

    return fetch


def _options() -> dict[str, Any]:
    # Instance discovery asks login.microsoftonline.com whether an authority is Microsoft's. One
    # that is named in the environment is trusted: private clouds cannot be known there.
    named = bool(os.environ.get("AZURE_AUTHORITY_HOST"))
    return {**_NETWORK, "disable_instance_discovery": named}
