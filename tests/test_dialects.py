"""What operation a request is, by its path alone."""

import time

import pytest
from llm_passthrough.dialects import operation


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param(path, name, id=path)
        for path, name in (
            ("/v1/chat/completions", "chat"),
            ("/chat/completions", "chat"),
            ("/openai/deployments/gpt-4o/chat/completions", "chat"),
            ("/v1/completions", "completions"),
            ("/v1/responses", "responses"),
            ("/v1/responses/resp_1", "responses"),
            ("/v1/responses/resp_1/cancel", "responses"),
            ("/v1/responses/resp_1/input_items", "responses"),
            ("/v1/responses/resp_1/compact", "responses"),
            ("/v1/responses/input_tokens", "input_tokens"),
            ("/v1/embeddings", "embeddings"),
            ("/v1/images/generations", "images"),
            ("/v1/images/edits", "images"),
            ("/v1/images/variations", "images"),
            ("/v1/audio/speech", "speech"),
            ("/v1/audio/transcriptions", "transcription"),
            ("/v1/audio/translations", "transcription"),
            ("/v1/moderations", "moderations"),
            ("/v1/realtime", "realtime"),
            ("/v1/realtime/sessions", "realtime"),
            (
                "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
                "realtime",
            ),
            ("/v1/messages", "messages"),
            ("/anthropic/v1/messages", "messages"),
            ("/v1/messages/count_tokens", "count_tokens"),
            ("/v1/messages/batches", "message_batches"),
            ("/v1/messages/batches/msgbatch_1/results", "message_batches"),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict",
                "messages",
            ),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude:rawPredict",
                "messages",
            ),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict",
                "count_tokens",
            ),
            ("/v1beta/models/gemini:generateContent", "generate_content"),
            ("/v1beta/models/gemini:streamGenerateContent", "generate_content"),
            ("/v1beta/models/gemini:countTokens", "count_tokens"),
            ("/v1beta/models/gemini:embedContent", "embed_content"),
            ("/v1beta/models/gemini:batchEmbedContents", "embed_content"),
            ("/v1beta/models/gemini:batchGenerateContent", "batches"),
            ("/v1/projects/p/locations/l/publishers/google/models/imagen:predict", "predict"),
            ("/v1beta/models/veo:predictLongRunning", "predict"),
            ("/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict", "predict"),
            ("/v1/files", "files"),
            ("/v1/files/file-1/content", "files"),
            ("/v1/uploads/upload_1/parts", "uploads"),
            ("/upload/v1beta/files", "uploads"),
            ("/v1/batches/batch_1", "batches"),
            ("/v1/projects/p/locations/l/batchPredictionJobs", "batches"),
            ("/v1beta/cachedContents/c1", "cached_contents"),
            ("/v1beta/interactions", "interactions"),
            ("/v1/models", "models"),
            ("/v1beta/models/gemini", "models"),
            ("", None),
            ("/", None),
            ("/v1", None),
            ("/v1/chat/completionsX", None),
            ("/v1/xembeddings", None),
            ("/v1/unknown", None),
            ("/v1/chat/completions\n", None),
        )
    ],
)
def test_the_path_names_the_operation(path: str, name: str | None) -> None:
    assert operation(path) == name


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/responses/" * 6000, id="the start of a row again and again"),
        pytest.param("%2e" * 20_000, id="dots"),
        pytest.param("(" * 60_000, id="brackets"),
        pytest.param("/models/" + "m" * 60_000 + ":x", id="a long name"),
    ],
)
def test_no_path_keeps_the_search_busy(path: str) -> None:
    begun = time.process_time()
    for _ in range(10):
        operation(path)
    assert time.process_time() - begun < 1
