"""The document as a picture: bars for the engine, a line for what it is compared with. It needs only a browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from project.bench.panels import Bar, Panel, panels_of
from project.bench.report import number

WIDTH = 760
LEFT, RIGHT = 150, 100
"""Beside the bars, for what they are about and for their values."""
ROOM = WIDTH - LEFT - RIGHT
TOP, HEAD, BAR, GAP, FOOT = 56, 36, 18, 6, 18
LIGHT = ("#2f6feb", "#bf8700", "#8250df", "#1a7f37", "#cf222e", "#0e7490", "#bc4c00", "#6e7781")
DARK = ("#4493f8", "#d29922", "#ab7df8", "#3fb950", "#f85149", "#39c5cf", "#f0883e", "#9198a1")
LEGEND_STEP = 180
DASHES = ("dashed", "dotted")
"""Of the lines, in the order of what they stand for."""

STYLE = """
    svg {{ color-scheme: light dark; }}
    text {{ font: 13px system-ui, sans-serif; }} .title {{ font-weight: 600; font-size: 15px; }}
    .small {{ font-size: 11px; }} .line {{ stroke-width: 2; }}
    .dashed {{ stroke-dasharray: 5 3; }} .dotted {{ stroke-dasharray: 2 2; }}
    {light}
    @media (prefers-color-scheme: dark) {{
    {dark}
    }}
"""


def drawn(document: dict[str, Any], plotted: Sequence[str]) -> str:
    """An SVG of the figures whose names begin with one of ``plotted``; of all, if none does."""
    panels = panels_of(document, plotted)
    about = document["environment"]
    subtitle = (
        f"PostgreSQL {about['postgresql']}, Valkey {about['valkey']}, Python {about['python']}, "
        f"{about['cores']} cores; a commit takes {about['commit_ms']:.2f} ms"
    )
    height = TOP + 8 + sum(_height(panel) for panel in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(document["kind"])}: measured figures</title>',
        f"<style>{STYLE.format(light=_colors('#ffffff', '#1f2328', LIGHT), dark=_colors('#0d1117', '#e6edf3', DARK))}",
        "</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>',
        _text(16, 28, document["kind"], "title"),
        _text(16, 46, subtitle, "small"),
    ]
    top = TOP
    for panel in panels:
        parts += _panel(panel, top)
        top += _height(panel)
    return "\n".join([*parts, "</svg>", ""])


def _colors(ground: str, ink: str, palette: Sequence[str]) -> str:
    colors = [f".c{position} {{ fill: {color}; }}" for position, color in enumerate(palette)]
    return f".ground {{ fill: {ground}; }} text {{ fill: {ink}; }} path {{ stroke: {ink}; }} {' '.join(colors)}"


def _height(panel: Panel) -> int:
    return HEAD + len(panel.bars) * (BAR + GAP) + FOOT * (_has_lines(panel) + _legend_rows(panel))


def _has_lines(panel: Panel) -> bool:
    return any(bar.lines for bar in panel.bars)


def _legend_rows(panel: Panel) -> int:
    per_row = (WIDTH - 32) // LEGEND_STEP
    return -(-len(panel.names) // per_row)


def _panel(panel: Panel, top: int) -> list[str]:
    parts = [_text(16, top + 24, panel.title)]
    for position, bar in enumerate(panel.bars):
        parts += _bar(bar, panel, top + HEAD - 4 + position * (BAR + GAP))
    bottom = top + HEAD + len(panel.bars) * (BAR + GAP) + 8
    if _has_lines(panel):
        parts.append(_text(LEFT, bottom, _meaning(panel), "small"))
        bottom += FOOT
    return [*parts, *_legend(panel, bottom)]


def _bar(bar: Bar, panel: Panel, top: int) -> list[str]:
    middle = top + BAR / 2
    parts = [_text(LEFT - 8, middle + 4, bar.title, "small", anchor="end")]
    start = 0.0
    for name, value in bar.parts:
        color = panel.names.index(name) % len(LIGHT) if name else 0
        across, width = _across(start, panel), max(0.5, value / panel.scale * ROOM)
        parts.append(f'<rect class="c{color}" x="{across:.1f}" y="{top}" width="{width:.1f}" height="{BAR}"/>')
        start += value
    if bar.most > bar.least:
        least, most = _across(bar.least, panel), _across(bar.most, panel)
        parts.append(f'<path class="range" d="M{least:.1f} {middle}H{most:.1f}"/>')
    for dash, (_, value) in zip(DASHES, bar.lines, strict=False):
        parts.append(f'<path class="line {dash}" d="M{_across(value, panel):.1f} {top - 3}V{top + BAR + 3}"/>')
    return [*parts, _text(WIDTH - RIGHT + 10, middle + 5, number(bar.length))]


def _across(value: float, panel: Panel) -> float:
    return LEFT + value / panel.scale * ROOM


def _meaning(panel: Panel) -> str:
    """Of the lines of the last bar that has some."""
    lines = [bar.lines for bar in panel.bars if bar.lines][-1]
    return ", ".join(f"{dash}: {title} {number(value)}" for dash, (title, value) in zip(DASHES, lines, strict=False))


def _legend(panel: Panel, top: int) -> list[str]:
    per_row = (WIDTH - 32) // LEGEND_STEP
    parts = []
    for position, name in enumerate(panel.names):
        row, place = divmod(position, per_row)
        x, y = 16 + place * LEGEND_STEP, top + row * FOOT
        parts.append(f'<rect class="c{position % len(LIGHT)}" x="{x}" y="{y - 9}" width="10" height="10"/>')
        parts.append(_text(x + 16, y, name, "small"))
    return parts


def _text(x: float, y: float, text: str, style: str = "plain", *, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
