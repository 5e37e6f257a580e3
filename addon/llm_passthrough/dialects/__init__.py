"""What operation a request is, by its path alone; never by the name of a model.

The bodies of these operations are read in later modules; a path that no row names is None.
"""

import re

# OpenAI, Azure and everything that is compatible: the first row that fits the end of the path.
_ROWS: tuple[tuple[str, str], ...] = (
    ("chat", r"/chat/completions"),
    ("completions", r"/completions"),
    ("input_tokens", r"/responses/input_tokens"),
    ("responses", r"/responses(/[^/]+(/(cancel|input_items|compact))?)?"),
    ("embeddings", r"/embeddings"),
    ("images", r"/images/(generations|edits|variations)"),
    ("speech", r"/audio/speech"),
    ("transcription", r"/audio/(transcriptions|translations)"),
    ("moderations", r"/moderations"),
    ("realtime", r"/(realtime(/.*)?|ws/google\.[^/]+)"),
    ("count_tokens", r"/messages/count_tokens|/count-tokens:rawPredict|:countTokens"),
    ("message_batches", r"/messages/batches(/.*)?"),
    ("messages", r"/messages|/publishers/anthropic/models/[^/:]+:(rawPredict|streamRawPredict)"),
    ("generate_content", r":(generateContent|streamGenerateContent)"),
    ("embed_content", r":(embedContent|batchEmbedContents|asyncBatchEmbedContent)"),
    ("predict", r":(predict|rawPredict|streamRawPredict|predictLongRunning)"),
    ("uploads", r"/uploads(/.*)?|/upload/[^/]+/files"),
    ("files", r"/files(/.*)?"),
    ("batches", r"/(batches|batchPredictionJobs)(/.*)?|:batchGenerateContent"),
    ("cached_contents", r"/cachedContents(/.*)?"),
    ("interactions", r"/interactions(/.*)?"),
    ("models", r"/models(/[^/:]+)?"),
)
_TABLE = tuple((name, re.compile(rf"(?:{pattern})\Z")) for name, pattern in _ROWS)
_LONGEST = 512


def operation(path: str) -> str | None:
    """The operation of a path without its query, such as `chat` or `generate_content`."""
    end = path[-_LONGEST:]  # bounds the search; no operation's path is that long
    return next((name for name, pattern in _TABLE if pattern.search(end)), None)
