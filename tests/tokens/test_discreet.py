"""What is said of a failure, and that the libraries' loggers are silent."""

import logging

import pytest
from llm_passthrough.tokens.discreet import hush, told

from tokens.harness import Records

SECRET = "client-SECRET-0123456789"


class HttpError(Exception):
    """As azure-core's errors are: with a status."""

    def __init__(self, text: str, status_code: object) -> None:
        super().__init__(text)
        self.status_code = status_code


class Mute(Exception):
    """Has no text that can be had."""

    def __str__(self) -> str:
        raise RuntimeError(SECRET)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def ring() -> Exception:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    return first


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(ValueError(SECRET), "ValueError", id="the class only"),
        pytest.param(
            ValueError(f"AADSTS7000215: Invalid client secret {SECRET}"),
            "ValueError (AADSTS7000215)",
            id="Entra's code",
        ),
        pytest.param(
            ValueError(f"invalid_grant: Bad Request {SECRET} invalid_grant"),
            "ValueError (invalid_grant)",
            id="OAuth's code, once",
        ),
        pytest.param(
            ValueError(f"my_invalid_grant_{SECRET}"), "ValueError", id="a part of a word is none"
        ),
        pytest.param(
            HttpError(SECRET, 503), "HttpError (HTTP 503)", id="the status of an HTTP answer"
        ),
        pytest.param(HttpError(SECRET, SECRET), "HttpError", id="a status that is none"),
        pytest.param(
            caused(OSError(SECRET), OSError("[SSL: CERTIFICATE_VERIFY_FAILED] for " + SECRET)),
            "OSError (CERTIFICATE_VERIFY_FAILED)",
            id="what it came from",
        ),
        pytest.param(ring(), "ValueError", id="a chain that is a ring"),
        pytest.param(Mute(), "Mute", id="an error without a text"),
        pytest.param(ValueError("x" * 10_000_000), "ValueError", id="an error as long as a body"),
    ],
)
def test_a_failure_is_told_by_its_class_and_known_words(error: Exception, said: str) -> None:
    assert told(error) == said


@pytest.mark.parametrize(
    "name",
    [
        "azure.identity._internal.get_token_mixin",
        "azure.core.pipeline.policies.http_logging_policy",
        "msal.application",
        "google.auth.transport.requests",
        "google.oauth2._client",
        "urllib3.connectionpool",
        "requests",
    ],
)
def test_a_hushed_library_logs_nothing_even_with_the_root_logger_at_debug(
    records: Records, name: str
) -> None:
    hush()
    logging.getLogger(name).critical("%s", SECRET)
    assert records.texts == []
