"""Google access tokens for Vertex AI, through google-auth.

https://google-auth.readthedocs.io: service accounts, authorised users, external accounts
(workload identity federation), impersonation, and application default credentials.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pydantic import SecretStr

from llm_passthrough.tokens.cache import Fetch, Token, TokenError
from llm_passthrough.tokens.discreet import hush

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
MISSING = "needs google-auth; pip install 'llm-passthrough[google]'"
_TIMEOUT = 20.0
_AWS = "urn:ietf:params:aws:token-type:aws4_request"


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where google-auth reads one type of credentials, and which fields it cannot do without."""

    module: str
    method: str
    fields: tuple[str, ...]


_EXTERNAL = ("audience", "subject_token_type", "token_url", "credential_source")
_USER = ("client_id", "client_secret", "refresh_token")
_KINDS = {
    "service_account": _Kind(
        "google.oauth2.service_account",
        "from_service_account_info",
        ("client_email", "private_key", "token_uri"),
    ),
    "authorized_user": _Kind("google.oauth2.credentials", "from_authorized_user_info", _USER),
    "external_account": _Kind("google.auth.identity_pool", "from_info", _EXTERNAL),
    "external_account_authorized_user": _Kind(
        "google.auth.external_account_authorized_user", "from_info", (*_USER, "token_url")
    ),
    "impersonated_service_account": _Kind(
        "google.auth.impersonated_credentials",
        "from_impersonated_service_account_info",
        ("source_credentials", "service_account_impersonation_url"),
    ),
}


def installed() -> bool:
    """Whether google-auth and the transport that it needs are there."""
    return all(find_spec(name) is not None for name in ("google", "google.auth", "requests"))


def check(credentials: SecretStr) -> dict[str, Any]:
    """Credentials as their JSON object. Raises ValueError that says what is wrong, no value."""
    try:
        info = json.loads(credentials.get_secret_value())
    except (ValueError, RecursionError):
        raise ValueError("is no JSON; give a credentials file or its content") from None
    kind = info.get("type") if isinstance(info, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"has no known `type`; one of {', '.join(sorted(_KINDS))}")
    missing = [name for name in _KINDS[kind].fields if not info.get(name)]
    if missing:
        raise ValueError(f"lacks {', '.join(missing)}; download the {kind} file anew")
    key = info.get("private_key")
    if kind == "service_account" and not (isinstance(key, str) and "PRIVATE KEY-----\n" in key):
        raise ValueError(r"has a private_key that is no PEM; its line breaks are `\n` in the JSON")
    return dict(info)


def from_info(credentials: SecretStr, scopes: tuple[str, ...] = SCOPES) -> Fetch:
    """Tokens of the credentials in a JSON text (a key file's content). Raises as `check` does."""
    check(credentials)
    return _fetch(lambda request: _load(check(credentials)), scopes)


def default_credentials(scopes: tuple[str, ...] = SCOPES) -> Fetch:
    """Tokens of the application default credentials."""

    def load(request: Any) -> Any:
        import google.auth

        # Without scopes, as with them it would ask for the name of the project, over the network.
        return google.auth.default(request=request)[0]

    return _fetch(load, scopes)


def _load(info: dict[str, Any]) -> Any:
    kind = _KINDS[info["type"]]
    module = kind.module
    source = info.get("credential_source")
    if info.get("subject_token_type") == _AWS:
        module = "google.auth.aws"
    elif isinstance(source, dict) and source.get("executable"):
        module = "google.auth.pluggable"
    return getattr(import_module(module).Credentials, kind.method)(info)


def _fetch(load: Callable[[Any], Any], scopes: tuple[str, ...]) -> Fetch:
    hush()

    def fetch() -> Token:
        import requests
        from google.auth.credentials import with_scopes_if_required

        # Made anew each time: credentials keep the token of what they stand upon, which may be
        # the one that was revoked.
        with requests.Session() as session:
            request = _request(session)
            credentials = with_scopes_if_required(load(request), list(scopes))
            credentials.refresh(request)
        if not credentials.token or credentials.expiry is None:
            raise TokenError("the token endpoint gave no token, or did not say when it ends")
        # google-auth gives naive datetimes in UTC.
        expires = credentials.expiry.replace(tzinfo=UTC).timestamp()
        return Token(SecretStr(credentials.token), expires)

    return fetch


def _request(session: Any) -> Any:
    """google-auth's transport, with less patience than its two minutes."""
    from google.auth.transport.requests import Request

    class Bounded(Request):
        def __call__(
            self,
            url: str,
            method: str = "GET",
            body: bytes | None = None,
            headers: Any = None,
            timeout: float | None = None,
            **more: Any,
        ) -> Any:
            send: Any = super().__call__
            # A redirection (307) would carry the secret to whatever host it names.
            more.setdefault("allow_redirects", False)
            return send(url, method, body, headers, timeout or _TIMEOUT, **more)

    return Bounded(session)
