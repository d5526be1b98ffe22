"""Pieces of a page: numbers as a person writes them, inline figures, the file itself. Used by report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from prefrl import plots
from prefrl.errors import UserError


@dataclass(frozen=True)
class Drawing:
    """A figure as it stands on the page."""

    title: str
    svg: Markup
    caption: str


class Drawer:
    """Turns figures into inline SVG whose ids are unique on the page."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, title: str, figure: Figure, caption: str) -> Drawing:
        return self.inline(title, plots.to_svg(figure), caption)

    def inline(self, title: str, svg: str, caption: str) -> Drawing:
        """A figure that is SVG already."""
        self._count += 1
        return Drawing(title, inline_svg(svg, f"f{self._count}-", title), caption)


def inline_svg(svg: str, prefix: str, title: str) -> Markup:
    """SVG to stand inside HTML: no prologue or metadata, scalable, ids made unique by `prefix`."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    opening, rest = svg.split(">", 1)
    opening = re.sub(r'\s(width|height|xmlns|xmlns:xlink)="[^"]*"', "", opening)
    rest = rest.replace("xlink:href=", "href=")
    return Markup(opening + f' role="img" aria-label="{Markup.escape(title)}">' + rest)


def number(value: Any, digits: int = 3) -> str:
    """A number as a person writes it: thousands apart, few digits, a dash for what was not measured."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        return "–"
    if not np.isfinite(value):
        return "–"
    if value == round(value) or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}".replace("-", "−")
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return (f"{value:.{decimals}f}" if decimals < 6 else f"{value:.{digits - 1}e}").replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    if not np.isfinite(seconds):
        return "–"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def mean_and_std(summary: Any) -> str:
    """A summary of evaluation.json as "mean ± std", or a dash."""
    if not isinstance(summary, Mapping):
        return "–"
    return f"{number(summary.get('mean'))} ± {number(summary.get('std'), 2)}"


def flattened(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested options as (name with dots, value) in their order."""
    rows: list[tuple[str, str]] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            rows += flattened(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", "–" if value is None or value == "" else str(value)))
    return rows


def render(template: str, **content: object) -> str:
    """Fill in a template of prefrl/templates; everything but Markup is escaped."""
    loader = jinja2.PackageLoader("prefrl")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.get_template(template).render(content)


def write_page(path: Path, page: str) -> Path:
    """By atomic rename, so that a reader never sees half a page."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}; choose a place that can be written") from error
    return path
