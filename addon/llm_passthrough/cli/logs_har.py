"""Records as an HTTP Archive 1.2 (http://www.softwareishard.com/blog/har-12-spec/)."""

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from llm_passthrough import __version__
from llm_passthrough.cli.logs_view import dumped

type Json = dict[str, Any]


def har(records: Iterable[Json]) -> Iterator[str]:
    """The archive in pieces, so that it never stands whole in memory."""
    creator = dumped({"name": "llm-passthrough", "version": __version__})
    yield f'{{"log": {{"version": "1.2", "creator": {creator}, "entries": [\n'
    comma = ""
    for record in records:
        yield comma + dumped(entry(record))
        comma = ",\n"
    yield "\n]}}\n"


def entry(record: Json) -> Json:
    """One record as an entry; -1 is HAR's word for unknown."""
    timing = _part(record, "timing_ms")
    total, first = _number(timing.get("total")), _number(timing.get("first_byte"))
    receive = total - first if total >= 0 and first >= 0 else -1
    return {
        "startedDateTime": record.get("time"),
        "time": max(total, 0),
        "request": _request(_part(record, "request")),
        "response": _response(_part(record, "response")),
        "cache": {},
        "timings": {"send": 0, "wait": first, "receive": round(receive, 3)},
        "comment": f"{record.get('id')} {record.get('outcome')}{_turn(record)}",
    }


def _turn(record: Json) -> str:
    """Which turn of a WebSocket it is, where it is one."""
    return f" turn {record.get('turn')} of {record['part_of']}" if record.get("part_of") else ""


def _request(request: Json) -> Json:
    url = request.get("url")
    said = {
        "method": request.get("method"),
        "url": url,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _headers(request),
        "queryString": _query(url) if isinstance(url, str) else [],
        "headersSize": -1,
        "bodySize": _number(request.get("bytes")),
    }
    if request.get("body") is not None:
        post = {"mimeType": _type(request), "text": request["body"]}
        said["postData"] = post | _encoding(request, "comment")
    return said


def _response(response: Json) -> Json:
    content = {"size": _number(response.get("bytes")), "mimeType": _type(response)}
    if response.get("body") is not None:
        content |= {"text": response["body"]} | _encoding(response, "encoding")
    return {
        "status": response.get("status") or 0,
        "statusText": "",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _headers(response),
        "content": content,
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": _number(response.get("bytes")),
    }


def _encoding(side: Json, name: str) -> Json:
    return {name: "base64"} if side.get("encoding") == "base64" else {}


def _headers(side: Json) -> list[Json]:
    pairs = side.get("headers")
    pairs = pairs if isinstance(pairs, list) else []
    return [{"name": pair[0], "value": pair[1]} for pair in pairs if _is_pair(pair)]


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)


def _type(side: Json) -> str:
    kinds = [one["value"] for one in _headers(side) if one["name"].lower() == "content-type"]
    return kinds[0] if kinds else ""


def _query(url: str) -> list[Json]:
    try:
        pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    except ValueError:
        return []
    return [{"name": name, "value": value} for name, value in pairs]


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else -1


def _part(record: Json, name: str) -> Json:
    value = record.get(name)
    return value if isinstance(value, dict) else {}
