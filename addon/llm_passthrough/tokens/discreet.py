"""What may be said when a token cannot be had: never a text that came from an endpoint.

The libraries put an endpoint's answer into their exceptions and into log lines (azure-identity
and google-auth both at WARNING and below), and such an answer may repeat a secret or a token.
"""

import logging
import re
from collections.abc import Iterator

SILENT = logging.CRITICAL + 1
_LOGGERS = (
    "azure msal msal_extensions google.auth google.oauth2 requests urllib3 charset_normalizer"
).split()
TIMED_OUT = "timed out"
"""What stands in the reason for a failure if an endpoint did not answer in time."""
# What a person needs to find the fault: OAuth's error codes (RFC 6749 5.2 and 4.1.2.1), Entra's
# (https://learn.microsoft.com/entra/identity-platform/reference-error-codes), the network's.
_WORDS = re.compile(
    r"AADSTS\d{4,9}|CERTIFICATE_VERIFY_FAILED|CredentialUnavailableError"
    r"|Connection refused|Name or service not known|" + TIMED_OUT + r"|No such file or directory"
    r"|\b(?:invalid_(?:request|client|grant|scope|resource|rapt|subject_token|target|instance)"
    r"|unauthorized_client|unsupported_grant_type|access_denied|server_error"
    r"|temporarily_unavailable|interaction_required|consent_required|account_not_found"
    r"|PERMISSION_DENIED|UNAUTHENTICATED|NOT_FOUND|SERVICE_DISABLED)\b"
)
_LOOK = 64 << 10


def hush() -> None:
    """Silence the loggers of the libraries, whatever the level of the root logger is."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(SILENT)


def told(error: BaseException) -> str:
    """The failure as its class, its HTTP status, and the known words in its text."""
    status = getattr(error, "status_code", None)
    found = [f"HTTP {status}"] if isinstance(status, int) else []
    found += dict.fromkeys(word for part in _chain(error) for word in _words(part))
    kind = type(error).__name__
    return f"{kind} ({', '.join(found)})" if found else kind


def _words(error: BaseException) -> list[str]:
    try:
        text = str(error)[:_LOOK]
    except Exception:  # noqa: BLE001 - the text is a library's; without it the class must do
        return []
    return _WORDS.findall(text)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from; a chain may be a ring."""
    seen: list[BaseException] = []
    while error is not None and not any(error is other for other in seen):
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__
