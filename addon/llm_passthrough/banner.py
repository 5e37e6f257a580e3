"""What a person sees at start: where to connect, and what is ready or missing."""

from rich.panel import Panel
from rich.text import Text

from llm_passthrough.build import Parts, log_path
from llm_passthrough.status import ready


def lines(
    parts: Parts,
    addresses: list[tuple[str, int]],
    demo: bool,
    web_url: str | None = None,
    workers: int = 1,
) -> list[tuple[str, str]]:
    """Pairs of a style and a text: one a route and one a fact.

    `web_url` is mitmweb's, with the token that lets in: for a terminal, not for a log.
    """
    shown = ", ".join(f"http://{_host(host)}:{port}" for host, port in addresses)
    more = " (demo provider)" if demo else f" ({workers} workers)" if workers > 1 else ""
    out = [("bold", f"llm-passthrough on {shown}{more}")]
    for route in sorted(parts.routes.table, key=lambda route: route.prefix):
        for upstream in route.upstreams:
            name = f"{route.prefix:<24} {upstream.provider.name:<10} "
            style = "green" if upstream.missing is None else "yellow"
            out.append((style, name + ready(upstream)))
    if web_url is not None:
        out.append(("", f"look at it: {web_url}"))
    out.append(("dim", f"records: {log_path(parts.config)}"))
    return out


def panel(pairs: list[tuple[str, str]]) -> Panel:
    """The lines in a box."""
    text = Text("\n").join(Text(line, style=style) for style, line in pairs)
    return Panel.fit(text, border_style="dim")


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
