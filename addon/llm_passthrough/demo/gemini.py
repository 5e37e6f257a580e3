"""Google's generateContent family, plain and streamed, as Gemini and Vertex speak it.

Shapes: https://ai.google.dev/api/generate-content. Google's SSE ends its lines with CR LF; without
``alt=sse`` a stream is one JSON array that grows.
"""

import json
from collections.abc import Iterable, Iterator

from . import say
from .answers import Answer, Call, Json, RefusedError, encode, mint, plain, sse
from .openai_rest import vector

_JSON = "application/json; charset=UTF-8"


def google(value: object) -> Answer:
    """A JSON answer as Google types it."""
    return plain(value, type=_JSON)


def generate(call: Call) -> Answer:
    """POST .../models/{m}:generateContent."""
    body = _checked(call)
    parts, said = _parts(body)
    return google(_chunk(call, mint("", 22), parts, said, "STOP"))


def stream(call: Call) -> Answer:
    """POST .../models/{m}:streamGenerateContent."""
    _checked(call)
    if call.request.query.get("alt") == "sse":
        return sse(_chunks(call), eol=b"\r\n")
    return Answer(_array(_chunks(call)), type=_JSON)


def _checked(call: Call) -> Json:
    if not call.json.get("contents"):
        raise RefusedError(400, "* GenerateContentRequest.contents: contents is not specified")
    return call.json


def _offered(body: Json) -> list[Json]:
    tools = [tool for tool in body.get("tools") or [] if isinstance(tool, dict)]
    lists = [t.get("functionDeclarations") or t.get("function_declarations") or [] for t in tools]
    return [function for listed in lists for function in listed]


def _parts(body: Json) -> tuple[list[Json], str]:
    """The parts of the answer, and the text that its tokens are counted from."""
    offered = _offered(body)
    if offered and say.wants_tool(body):
        function = offered[0]
        names = ("parameters", "parametersJsonSchema", "parameters_json_schema")
        schema = next((function[name] for name in names if function.get(name)), None)
        arguments = say.sample(schema)
        made = {"functionCall": {"name": function["name"], "args": arguments}}
        return [made], json.dumps(arguments)
    said = say.reply_to(say.last_user_text(body))
    return [{"text": word} for word in say.words(said)], said


def thinks(body: Json) -> bool:
    """Whether the answer counts thoughts: always, unless the budget is zero."""
    config = body.get("generationConfig") or body.get("generation_config") or {}
    thinking = config.get("thinkingConfig") or config.get("thinking_config") or {}
    return thinking.get("thinkingBudget", thinking.get("thinking_budget")) != 0


def usage(body: Json, said: str, *, text_field: str = "candidatesTokenCount") -> Json:
    """usageMetadata; thoughts are not part of the candidates' tokens, the total has both."""
    count = say.count(body, said, reasons=thinks(body))
    details = [{"modality": "TEXT", "tokenCount": count.prompt}]
    value: Json = {"promptTokenCount": count.prompt, text_field: count.text}
    value |= {"totalTokenCount": count.prompt + count.output, "promptTokensDetails": details}
    if count.cached:
        value["cachedContentTokenCount"] = count.cached
        value["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": count.cached}]
    if count.reasoning:
        value["thoughtsTokenCount"] = count.reasoning
    return value


def _chunk(call: Call, id: str, parts: list[Json], said: str, finish: str | None) -> Json:
    if finish and all("text" in part for part in parts):
        parts = [{"text": "".join(part["text"] for part in parts)}]
    candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": usage(call.json, said),
        "modelVersion": call.names["model"],
        "responseId": id,
    }


def _chunks(call: Call) -> Iterator[Json]:
    id, (parts, _) = mint("", 22), _parts(call.json)
    said = ""
    for number, part in enumerate(parts, 1):
        said += part.get("text") or json.dumps(part["functionCall"]["args"])
        yield _chunk(call, id, [part], said, "STOP" if number == len(parts) else None)


def _array(chunks: Iterable[Json]) -> Iterator[bytes]:
    before = b"["
    for chunk in chunks:
        yield before + encode(chunk)
        before = b"\r\n,\r\n"
    yield b"\r\n]\r\n"


def count_tokens(call: Call) -> Answer:
    """POST .../models/{m}:countTokens; the contents may lie in a generateContentRequest."""
    body = call.json.get("generateContentRequest") or call.json
    total = say.count_prompt(body)
    details = [{"modality": "TEXT", "tokenCount": total}]
    return google({"totalTokens": total, "promptTokensDetails": details})


def compute_tokens(call: Call) -> Answer:
    """POST .../models/{m}:computeTokens (Vertex)."""
    return google({"tokensInfo": [{"role": "user", "tokens": ["ZGVtbw=="], "tokenIds": ["7"]}]})


def _values(body: Json) -> list[float]:
    size = body.get("outputDimensionality") or body.get("output_dimensionality") or 768
    return vector(say.last_user_text(body), int(size))


def embed(call: Call) -> Answer:
    """POST .../models/{m}:embedContent."""
    tokens = {"promptTokenCount": say.count_prompt(call.json)}
    return google({"embedding": {"values": _values(call.json)}, "usageMetadata": tokens})


def batch_embed(call: Call) -> Answer:
    """POST .../models/{m}:batchEmbedContents."""
    asked = call.json.get("requests") or []
    return google({"embeddings": [{"values": _values(each)} for each in asked]})


def predict(call: Call) -> Answer:
    """POST .../models/{m}:predict (Vertex), read as an embedding request."""
    predictions = []
    for instance in call.json.get("instances") or []:
        text = say.last_user_text({"instances": [instance]})
        counted = {"truncated": False, "token_count": say.count_text(text)}
        predictions.append({"embeddings": {"values": vector(text, 768), "statistics": counted}})
    characters = len(call.request.body)
    metadata = {"billableCharacterCount": characters}
    return google({"predictions": predictions, "metadata": metadata})
