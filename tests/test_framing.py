"""Framing: which answers are passed on as they come, and which end with their connection."""

import pytest
from llm_passthrough.framing import ends_with_connection, is_streamed
from mitmproxy.http import Headers

LONGEST = 1000


@pytest.mark.parametrize(
    ("fields", "streamed"),
    [
        pytest.param(
            {"content-type": "application/json", "content-length": "12"}, False, id="json"
        ),
        pytest.param({"content-length": "1000"}, False, id="as long as is buffered"),
        pytest.param({"content-length": "1001"}, True, id="longer than is buffered"),
        pytest.param({"content-length": "0"}, False, id="nothing"),
        pytest.param({"content-length": "-1"}, True, id="a length that is none"),
        pytest.param({"content-length": ""}, True, id="an empty length"),
        pytest.param({"transfer-encoding": "chunked"}, True, id="chunked"),
        pytest.param({}, True, id="until the connection ends"),
        *(
            pytest.param({"content-type": kind, "content-length": "12"}, True, id=kind)
            for kind in (
                "text/event-stream",
                "Text/Event-Stream; charset=utf-8",
                "application/x-ndjson",
                "application/octet-stream",
                "audio/mpeg",
                "video/mp4",
            )
        ),
        pytest.param(
            {"content-type": "text/plain", "content-length": "12"}, False, id="text is no stream"
        ),
    ],
)
def test_an_answer_streams_by_its_type_without_a_length_or_beyond_the_buffer(
    fields: dict[str, str], streamed: bool
) -> None:
    assert is_streamed(fields, LONGEST) is streamed
    spelt = Headers([(name.title().encode(), value.encode()) for name, value in fields.items()])
    assert is_streamed(spelt, LONGEST) is streamed


@pytest.mark.parametrize(
    ("fields", "does"),
    [
        pytest.param({"content-length": "3"}, False, id="a length"),
        pytest.param({"transfer-encoding": "chunked"}, False, id="chunks"),
        pytest.param({"content-type": "text/event-stream"}, True, id="neither"),
    ],
)
def test_without_length_and_chunks_a_body_ends_with_its_connection(
    fields: dict[str, str], does: bool
) -> None:
    assert ends_with_connection(fields) is does
