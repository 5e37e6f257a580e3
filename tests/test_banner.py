"""What a person sees at start."""

import io
from typing import Any

from llm_passthrough import banner, config
from llm_passthrough.build import Parts, build
from rich.console import Console

KEY = "sk-REAL-0123456789"


def parts(**document: Any) -> Parts:
    document.setdefault("providers", {"openai": {"keys": [{"name": "k", "value": KEY}]}})
    settings, _ = config.parse(document, "test")
    return build(settings, {}, "test")


def lines(*addresses: tuple[str, int], demo: bool = False, **document: Any) -> list[str]:
    return [text for _, text in banner.lines(parts(**document), list(addresses), demo)]


def test_it_says_where_to_connect() -> None:
    first = lines(("127.0.0.1", 8080), ("::1", 8080))[0]
    assert first == "llm-passthrough on http://127.0.0.1:8080, http://[::1]:8080"


def test_it_says_when_no_real_provider_is_used() -> None:
    assert lines(("127.0.0.1", 8080), demo=True)[0].endswith(" (demo provider)")


def test_it_says_of_every_route_whether_it_is_ready_or_what_is_missing() -> None:
    pairs = banner.lines(parts(), [("127.0.0.1", 8080)], False)
    ready = [text.split()[:2] for style, text in pairs if style == "green"]
    missing = [text.split()[:2] for style, text in pairs if style == "yellow"]
    assert ready == [["/openai_passthrough", "openai"]]
    assert missing == [
        ["/anthropic_passthrough", "anthropic"],
        ["/azure_passthrough", "azure"],
        ["/genai_passthrough", "gemini"],
        ["/genai_passthrough", "vertex"],
    ]
    assert any("ANTHROPIC_API_KEY" in text for _, text in pairs)


def test_it_says_where_the_records_go() -> None:
    assert lines(log={"path": "/tmp/r.jsonl"})[-1] == "records: /tmp/r.jsonl"


def test_it_shows_no_key() -> None:
    assert KEY not in "\n".join(lines(("127.0.0.1", 8080)))


def test_the_panel_shows_every_line() -> None:
    pairs = banner.lines(parts(), [("127.0.0.1", 8080)], False)
    out = io.StringIO()
    Console(file=out, width=200).print(banner.panel(pairs))
    shown = out.getvalue()
    assert all(text in shown for _, text in pairs)
    assert len(shown.splitlines()) == len(pairs) + 2
