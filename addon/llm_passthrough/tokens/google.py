"""Google access tokens for Vertex AI, through google-auth.

https://google-auth.readthedocs.io: service accounts, authorised users, external accounts
(workload identity federation), impersonation, and application default credentials.
"""

import json
from datetime import UTC
from importlib.util import find_spec
from typing import Any

from pydantic import SecretStr

from llm_passthrough.tokens.cache import Fetch, Token, TokenError

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
MISSING = "needs google-auth; pip install 'llm-passthrough[google]'"
_KINDS = frozenset(
    "service_account authorized_user external_account external_account_authorized_user "
    "impersonated_service_account gdch_service_account".split()
)


def installed() -> bool:
    """Whether google-auth and the transport that it needs are there."""
    return all(find_spec(name) is not None for name in ("google", "google.auth", "requests"))


def check(credentials: SecretStr) -> dict[str, Any]:
    """Credentials as their JSON object. Raises ValueError that says what is wrong, no value."""
    try:
        info = json.loads(credentials.get_secret_value())
    except (ValueError, RecursionError):
        raise ValueError("is no JSON; give a credentials file or its content") from None
    if not isinstance(info, dict) or info.get("type") not in _KINDS:
        raise ValueError(f"has no known `type`; one of {', '.join(sorted(_KINDS))}")
    return info


def from_info(credentials: SecretStr) -> Fetch:
    """Tokens of the credentials in a JSON text (a key file's content)."""
    made: list[Any] = []

    def fetch() -> Token:
        if not made:
            import google.auth

            loaded, _ = google.auth.load_credentials_from_dict(
                check(credentials), scopes=list(SCOPES)
            )
            made.append(loaded)
        return _refreshed(made[0])

    return fetch


def default_credentials() -> Fetch:
    """Tokens of the application default credentials."""
    made: list[Any] = []

    def fetch() -> Token:
        if not made:
            import google.auth

            made.append(google.auth.default(scopes=list(SCOPES))[0])
        return _refreshed(made[0])

    return fetch


def _refreshed(credentials: Any) -> Token:
    from google.auth.transport.requests import Request

    credentials.refresh(Request())
    if not credentials.token or credentials.expiry is None:
        raise TokenError("the token endpoint gave no token")
    # google-auth gives naive datetimes in UTC.
    expires = credentials.expiry.replace(tzinfo=UTC).timestamp()
    return Token(SecretStr(credentials.token), expires)
