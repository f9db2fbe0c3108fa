"""Charts as SVG text: readable by screen readers and on a phone, coloured by the page's style.

Series are coloured by the CSS variables ``--c0`` to ``--c5``, with a fallback where there is no style.
A chart is 440 units wide, little more than a phone, so that its text keeps its size there. Series named
in ``palette`` have their place's colour and marker in every chart; without it, in the order they come.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TypeVar

import numpy as np

COLOURS = ("#6b6b6b", "#b35900", "#0072b2", "#007a5a", "#8e3a9d", "#a3243b")
"""Legible on white, and apart from one another for the colour-blind together with their markers."""
MARKERS = ("circle", "square", "diamond", "up", "down", "bar")
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 440, 58, 14, 32, 44

Points = Sequence[tuple[float, float]]
Point = TypeVar("Point", bound=tuple[float, ...])


class Scale:
    """Maps data to user units."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.span, self.start, self.reach = low, (high - low) or 1.0, start, end - start

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        return self.start + (value - self.low) / self.span * self.reach


def line_chart(
    title: str,
    series: Mapping[str, Points],
    x_label: str,
    y_label: str,
    bands: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
    height: int = 250,
    palette: Sequence[str] = (),
) -> str:
    """Draw one line per series; what is not finite has no place and is left out.

    Args:
        title: what is shown, in words.
        series: name to points (x, y); may be of different lengths.
        x_label: under the axis.
        y_label: above the axis.
        bands: name to (x, low, high), drawn behind the line.
        height: of the plot in user units, without title and legend.
        palette: names in the order of their colours.

    Raises:
        ValueError: no points.
    """
    series = {name: _finite(points) for name, points in series.items()}
    bands = {name: _finite(band) for name, band in (bands or {}).items()}
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    ys += [end for band in bands.values() for _, *ends in band for end in ends]
    if not xs:
        raise ValueError(f"{title}: no points to draw")
    x_ticks, y_ticks = _ticks(min(xs), max(xs)), _ticks(min(ys), max(ys))
    x = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y = Scale(y_ticks[0], y_ticks[-1], height - BOTTOM, TOP)
    parts = _axes(x_ticks, y_ticks, x, y, height, x_label, y_label)
    numbers = _numbers(series, palette)
    for name, points in series.items():
        number, band = numbers[name], bands.get(name, ())
        if band:
            outline = [(px, low) for px, low, _ in band] + [(px, high) for px, _, high in reversed(band)]
            parts.append(
                f'<polygon points="{_path(outline, x, y)}" style="fill:{_colour(number)}" opacity=".15"/>'
            )
        style = f"stroke:{_colour(number)};fill:none;stroke-width:2"
        parts.append(f'<polyline points="{_path(points, x, y)}" style="{style}"/>')
        if len(points) <= 20:
            parts += [_marker(number, x(px), y(py)) for px, py in points]
    return _svg(title, numbers, parts, height)


def interval_chart(
    title: str,
    rows: Mapping[str, Mapping[str, tuple[float, float | None, float | None]]],
    palette: Sequence[str] = (),
) -> str:
    """Draw one band per row, one marker with its interval per series.

    Args:
        title: what is shown, with its unit.
        rows: row name (a culture) to series name (a variant) to (value, low, high).
        palette: names in the order of their colours.

    Raises:
        ValueError: no values.
    """
    numbers = _numbers((name for series in rows.values() for name in series), palette)
    ends = [
        end for series in rows.values() for triple in series.values() for end in triple if end is not None
    ]
    if not ends:
        raise ValueError(f"{title}: no values to draw")
    step, name_line = 14, 18
    height = sum(name_line + step * len(series) + 8 for series in rows.values()) + 28
    ticks = _ticks(min(ends), max(ends))
    x = Scale(ticks[0], ticks[-1], 2 * RIGHT, WIDTH - 2 * RIGHT)
    parts = []
    for tick in ticks:
        at = x(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="8" y2="{height - 24}"/>')
        parts.append(f'<text x="{at:.1f}" y="{height - 8}" text-anchor="middle">{_number(tick)}</text>')
    top = 8
    for row, series in rows.items():
        parts.append(f'<text x="4" y="{top + 14}">{escape(row)}</text>')
        top += name_line + step // 2
        for name, (value, low, high) in series.items():
            number = numbers[name]
            if low is not None and high is not None:
                style = f"stroke:{_colour(number)};stroke-width:2"
                parts.append(
                    f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{top}" y2="{top}" style="{style}"/>'
                )
            parts.append(_marker(number, x(value), top, f"{row}, {name}: {_number(value)}"))
            top += step
        top += 8 - step // 2
    return _svg(title, numbers, parts, height)


def violin_chart(
    title: str,
    rows: Mapping[str, Mapping[str, Sequence[int]]],
    ranks: int = 4,
    palette: Sequence[str] = (),
) -> str:
    """Draw how often each rank was given: a wider strip means more answers (paper, Fig. 5).

    A marker stands at the mean rank; widths compare within a panel.

    Args:
        title: what is shown.
        rows: panel name to series name to the ranks given, 1 (best) to ``ranks``.
        ranks: worst rank.
        palette: names in the order of their colours.

    Raises:
        ValueError: no ranks.
    """
    numbers = _numbers((name for series in rows.values() for name in series), palette)
    if not any(len(given) for series in rows.values() for given in series.values()):
        raise ValueError(f"{title}: no ranks to draw")
    panel = 150
    grid = np.linspace(0.5, ranks + 0.5, 61)
    bumps = np.exp(-(((grid[:, None] - np.arange(1, ranks + 1)) / 0.28) ** 2) / 2)
    wide = (WIDTH - LEFT - RIGHT) / len(numbers)
    parts = []
    for place, (row, series) in enumerate(rows.items()):
        top = 8 + place * panel
        y = Scale(0.5, ranks + 0.5, top + 18, top + panel - 8)
        parts.append(f'<text x="4" y="{top + 12}">{escape(row)}</text>')
        for rank in range(1, ranks + 1):
            at = y(rank)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{rank}</text>')
        given = {name: np.asarray(r) for name, r in series.items() if len(r)}
        shapes = {
            name: bumps @ [np.mean(found == rank) for rank in range(1, ranks + 1)]
            for name, found in given.items()
        }
        widest = max((shape.max() for shape in shapes.values()), default=1.0)
        for name, shape in shapes.items():
            number, half = numbers[name], 0.45 * wide * shape / widest
            centre = LEFT + wide * (list(numbers).index(name) + 0.5)
            side = [(centre + h, y(g)) for h, g in zip(half, grid, strict=True)]
            back = [(centre - h, y(g)) for h, g in zip(half[::-1], grid[::-1], strict=True)]
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in side + back)
            parts.append(f'<polygon points="{points}" style="fill:{_colour(number)}" opacity=".55"/>')
            mean, count = float(given[name].mean()), len(given[name])
            label = f"{row}, {name}: mean rank {mean:.2f}, n = {count}"
            parts.append(_marker(number, centre, y(mean), label))
    return _svg(title, numbers, parts, panel * len(rows) + 12)


def _finite(points: Iterable[Point]) -> list[Point]:
    """Keep the points of which every number is finite."""
    return [point for point in points if all(map(math.isfinite, point))]


def _numbers(names: Iterable[str], palette: Sequence[str]) -> dict[str, int]:
    """Number of each series' colour and marker, in the order of the palette."""
    found = list(dict.fromkeys(names))
    order = [*palette, *(name for name in found if name not in palette)]
    return {name: number for number, name in enumerate(order) if name in found}


def _svg(title: str, numbers: Mapping[str, int], parts: Sequence[str], height: float) -> str:
    """Put title and legend, each on as many lines as it needs, above the plot."""
    head, top = [], 0
    for line in textwrap.wrap(title, 64):
        top += 17
        head.append(f'<text x="4" y="{top}" font-weight="600">{escape(line)}</text>')
    left, top = 12.0, top + 20
    for name, number in numbers.items():
        wide = 28 + 7.4 * len(name)
        if left > 12 and left + wide > WIDTH:
            left, top = 12.0, top + 18
        head.append(_marker(number, left, top - 4))
        head.append(f'<text x="{left + 9:.1f}" y="{top}">{escape(name)}</text>')
        left += wide
    frame = f'viewBox="0 0 {WIDTH} {top + height:.0f}" role="img" aria-label="{escape(title)}"'
    font = 'font-family="system-ui, sans-serif" font-size="12" fill="currentColor"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {frame} {font}><title>{escape(title)}</title>'
        f"<style>.grid{{stroke:currentColor;stroke-opacity:.18}}</style>{''.join(head)}"
        f'<g transform="translate(0 {top})">{"".join(parts)}</g></svg>\n'
    )


def _axes(
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x: Scale,
    y: Scale,
    height: int,
    x_label: str,
    y_label: str,
) -> list[str]:
    parts = [f'<text x="{WIDTH - RIGHT}" y="{height - 6}" text-anchor="end">{escape(x_label)}</text>']
    parts.append(f'<text x="4" y="{TOP - 14}">{escape(y_label)}</text>')
    for tick in y_ticks:
        at = y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in x_ticks:
        at = x(tick)
        if LEFT - 1 <= at <= WIDTH - RIGHT + 1:
            parts.append(
                f'<text x="{at:.1f}" y="{height - BOTTOM + 16}" text-anchor="middle">{_number(tick)}</text>'
            )
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose the range."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _colour(number: int) -> str:
    return f"var(--c{number % 6}, {COLOURS[number % 6]})"


def _path(points: Points, x: Scale, y: Scale) -> str:
    return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)


OUTLINES = {
    "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
    "diamond": ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
    "up": ((0, -5), (5, 4), (-5, 4)),
    "down": ((0, 5), (5, -4), (-5, -4)),
    "bar": ((-6, -1.5), (6, -1.5), (6, 1.5), (-6, 1.5)),
}


def _marker(number: int, x: float, y: float, label: str = "") -> str:
    kind, style = MARKERS[number % 6], f'style="fill:{_colour(number)}"'
    title = f"<title>{escape(label)}</title>" if label else ""
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" {style}>{title}</circle>'
    outline = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in OUTLINES[kind])
    return f'<polygon points="{outline}" {style}>{title}</polygon>'
