"""Transport failures as a person understands them."""

import pytest
from llm_passthrough.failures import of_upstream

ORIGIN = "https://api.openai.com"


@pytest.mark.parametrize(
    ("message", "waiting_for", "timed_out", "code", "text"),
    [
        pytest.param(
            "[Errno 111] Connect call failed",
            "connect",
            None,
            "upstream_unreachable",
            f"{ORIGIN} could not be reached: [Errno 111] Connect call failed",
            id="refused",
        ),
        pytest.param(
            "Name or service not known",
            "connect",
            None,
            "upstream_unreachable",
            f"{ORIGIN} could not be reached: Name or service not known",
            id="no such name",
        ),
        pytest.param(
            "Certificate verify failed: certificate has expired",
            "connect",
            None,
            "upstream_tls",
            f"{ORIGIN} could not be reached: Certificate verify failed: certificate has expired",
            id="a bad certificate",
        ),
        pytest.param(
            "TLS handshake failed",
            "connect",
            None,
            "upstream_tls",
            f"{ORIGIN} could not be reached: TLS handshake failed",
            id="a failed handshake",
        ),
        pytest.param(
            "line\r\nbreak \x1b[31m\ud800\u202e end",
            "connect",
            None,
            "upstream_unreachable",
            f"{ORIGIN} could not be reached: line  break  [31m   end",
            id="nothing that a terminal obeys",
        ),
        pytest.param(
            "x" * 10_000,
            "connect",
            None,
            "upstream_unreachable",
            f"{ORIGIN} could not be reached: " + "x" * 200,
            id="not longer than a line",
        ),
        pytest.param(
            "unexpected data: Authorization: Bearer sk-secret",
            "first_byte",
            None,
            "upstream_protocol",
            f"{ORIGIN} closed the connection before it had answered",
            id="what the other side said is not quoted",
        ),
        pytest.param(
            "Cannot parse HTTP response: not a status line: sk-secret",
            "first_byte",
            None,
            "upstream_protocol",
            f"{ORIGIN} gave an answer that is no well-formed HTTP",
            id="an answer that is none",
        ),
        pytest.param(
            "Connection killed",
            "idle",
            "idle after 300 s",
            "upstream_timeout",
            f"{ORIGIN} took too long (idle after 300 s)",
            id="our own deadline",
        ),
        pytest.param(
            "tls",
            "connect",
            "connect after 10 s",
            "upstream_timeout",
            f"{ORIGIN} took too long (connect after 10 s)",
            id="a deadline while connecting",
        ),
    ],
)
def test_a_failure_says_where_it_was_and_what_it_was(
    message: str, waiting_for: str, timed_out: str | None, code: str, text: str
) -> None:
    refusal = of_upstream(message, ORIGIN, waiting_for, timed_out)
    assert (refusal.code, refusal.message) == (code, text)
    assert refusal.message.isprintable()
