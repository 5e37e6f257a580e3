"""The plots of the dashboard as SVG, drawn by pygal (https://www.pygal.org) where there is one."""

from collections.abc import Callable
from typing import Any

from llm_passthrough.ledger.sums import Group
from llm_passthrough.pages.series import Series
from llm_passthrough.shown import duration, money, tokens

try:
    import pygal
except ImportError:  # an extra: the page says how to install it
    pygal = None

MISSING = "pip install 'llm-passthrough[pages]'"
"""The line that mends a dashboard without plots."""

_WIDTH, _HEIGHT = 640, 260
_LIGHT = ("#3b6fb6", "#d9822b", "#4a9d6f", "#b65c8f", "#7a6bb8", "#5aa6b5", "#a58a3c", "#8a929c")
_DARK = ("#6ea2e8", "#e8a35c", "#74c69d", "#d98bb8", "#a79be0", "#84c7d6", "#cdb56a", "#9aa3ad")
_INK_LIGHT = ("#24292f", "#6e7781", "#e4e7eb")
_INK_DARK = ("#c9d1d9", "#8b949e", "#2d333b")
_MAJOR_LABELS = 6
_LEGEND = 24  # pygal reckons the legend's last row into the margin
_SVG = "{http://www.w3.org/2000/svg}"


def is_installed() -> bool:
    """Whether there is anything to draw with."""
    return pygal is not None


def svg(name: str, series: Series, *, dark: bool) -> bytes:
    """The plot of that name. Raises KeyError where there is none."""
    return bytes(CHARTS[name][1](series, dark))


def _calls(series: Series, dark: bool) -> bytes:
    chart = _chart(pygal.StackedBar, series, dark, _whole)
    for name in series.names:
        chart.add(name, [group.calls or None for group in series.by_name[name]])
    return _drawn(chart)


def _tokens(series: Series, dark: bool) -> bytes:
    chart = _chart(pygal.StackedBar, series, dark, lambda value: tokens(round(value)))
    pieces = series.by_piece
    chart.add("from cache", [group.cache_read_tokens for group in pieces])
    chart.add("other input", [_less(group) for group in pieces])
    chart.add("output", [group.output_tokens for group in pieces])
    return _drawn(chart)


def _cost(series: Series, dark: bool) -> bytes:
    currency = series.currency
    chart = _chart(pygal.StackedBar, series, dark, lambda value: money(value, currency))
    for name in series.names:
        chart.add(name, [group.cost.get(currency) for group in series.by_name[name]])
    return _drawn(chart)


def _errors(series: Series, dark: bool) -> bytes:
    chart = _chart(pygal.StackedBar, series, dark, _whole)
    for name in sorted(series.failed):
        chart.add(name, [count or None for count in series.failed[name]])
    return _drawn(chart)


def _first_token(series: Series, dark: bool) -> bytes:
    return _quantiles(series, dark, lambda group: group.first_token)


def _total(series: Series, dark: bool) -> bytes:
    return _quantiles(series, dark, lambda group: group.total)


def _quantiles(series: Series, dark: bool, times: Callable[[Group], Any]) -> bytes:
    chart = _chart(pygal.Line, series, dark, duration)
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        chart.add(name, [times(group).quantile(share) for group in series.by_piece])
    return _drawn(chart)


CHARTS: dict[str, tuple[str, Callable[[Series, bool], bytes]]] = {
    "calls": ("calls", _calls),
    "cost": ("cost", _cost),
    "tokens": ("tokens", _tokens),
    "errors": ("errors, by outcome", _errors),
    "first": ("first token, p50 and p95", _first_token),
    "total": ("whole call, p50 and p95", _total),
}
"""The plots by their name in the address, with their titles."""


def _chart(kind: Any, series: Series, dark: bool, told: Callable[[float], str]) -> Any:
    labels = series.labels()
    every = max(len(labels) // _MAJOR_LABELS, 1)
    return kind(
        width=_WIDTH,
        height=_HEIGHT,
        style=_style(dark),
        js=(),
        margin=6,
        margin_bottom=_LEGEND,
        spacing=6,
        show_legend=True,
        legend_at_bottom=True,
        legend_at_bottom_columns=4,
        legend_box_size=9,
        truncate_legend=24,
        x_labels=labels,
        x_labels_major=labels[::every],
        show_minor_x_labels=False,
        truncate_label=-1,
        value_formatter=lambda value: "" if value is None else told(value),
        show_dots=len(labels) < 2 or kind is pygal.Line,
        dots_size=1.6,
        no_data_text="nothing in this time",
        allow_interruptions=True,
        y_labels_major_count=3,
        show_minor_y_labels=False,
        min_scale=2,
        max_scale=6,
        include_x_axis=True,
        disable_xml_declaration=False,
    )


def _style(dark: bool) -> Any:
    text, faint, line = _INK_DARK if dark else _INK_LIGHT
    return pygal.style.Style(
        background="transparent",
        plot_background="transparent",
        foreground=faint,
        foreground_strong=text,
        foreground_subtle=line,
        guide_stroke_color=line,
        major_guide_stroke_color=line,
        guide_stroke_dasharray="0",
        major_guide_stroke_dasharray="0",
        colors=_DARK if dark else _LIGHT,
        font_family="system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif",
        label_font_size=11,
        major_label_font_size=11,
        legend_font_size=12,
        no_data_font_size=14,
        opacity=".9",
        stroke_width="1.6",
        transition="0s",
    )


def _drawn(chart: Any) -> bytes:
    """The plot without pygal's scripts: an image is all that it is."""
    chart.add_xml_filter(_without_scripts)
    return bytes(chart.render())


def _without_scripts(root: Any) -> Any:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("script", f"{_SVG}script"):
                parent.remove(child)
    return root


def _less(group: Group) -> int | None:
    if group.input_tokens is None:
        return None
    return max(group.input_tokens - (group.cache_read_tokens or 0), 0)


def _whole(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else ""
