"""The charts of the comparison as SVG, in the colours of `bench.chart`, with words for those who do not see them.

Bars stand on a logarithmic axis, because what is compared differs by factors of thousands; each has its value beside it, and
its name, so that nothing depends on its colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.chart import STYLE

_WIDTH = 900
_NAMES = 290  # to the left of the axis
_VALUES = 110  # to the right of the longest bar
_BAR, _GAP = 16, 6
_HEADING = 34
_TOP = 56
_BOTTOM = 34
_STYLE = """
    .heading { font-weight: 600 } .axis { font-size: 12px; opacity: 0.8 } .line { stroke: #90a4ae; stroke-width: 0.5 }
"""


@dataclass(frozen=True)
class Bar:
    """`text` is the value as it is read. Ours stand out."""

    name: str
    value: float
    text: str
    ours: bool = False


@dataclass(frozen=True)
class Group:
    """Bars under one heading."""

    heading: str
    bars: Sequence[Bar]


def bar_chart(title: str, unit: str, groups: Sequence[Group], smallest: float) -> str:
    """The picture. What is below `smallest` is drawn as that."""
    greatest = max(bar.value for group in groups for bar in group.bars)
    decades = max(math.ceil(math.log10(greatest / smallest)), 1)
    decade_width = (_WIDTH - _NAMES - _VALUES) / decades

    def length(value: float) -> float:
        return max(math.log10(max(value, smallest) / smallest) * decade_width, 2.0)

    height = _TOP + _BOTTOM + sum(_HEADING + len(group.bars) * (_BAR + _GAP) for group in groups)
    parts = []
    for decade in range(decades + 1):
        x = _NAMES + decade * decade_width
        parts.append(f'<line class="line" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{height - _BOTTOM}"/>')
        label = f"{smallest * 10**decade:,.6g} {unit}"
        parts.append(f'<text class="axis" x="{x:.1f}" y="{height - 14}" text-anchor="middle">{escape(label)}</text>')
    y = float(_TOP)
    for group in groups:
        parts.append(f'<text class="heading" x="12" y="{y + 22:.1f}">{escape(group.heading)}</text>')
        y += _HEADING
        for bar in group.bars:
            drawn, middle = length(bar.value), y + _BAR - 4
            kind = "ours" if bar.ours else "other"
            parts.append(f'<text x="{_NAMES - 8}" y="{middle:.1f}" text-anchor="end">{escape(bar.name)}</text>')
            parts.append(f'<rect class="{kind}" x="{_NAMES}" y="{y:.1f}" width="{drawn:.1f}" height="{_BAR}" rx="2"/>')
            parts.append(f'<text x="{_NAMES + drawn + 6:.1f}" y="{middle:.1f}">{escape(bar.text)}</text>')
            y += _BAR + _GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
            'aria-labelledby="title description">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="description">{escape(_in_words(groups))}</desc>',
            f"<style>{STYLE}{_STYLE}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
            f'<text class="title" x="12" y="26">{escape(title)}</text>',
            '<text class="axis" x="12" y="44">Each line is ten times the one to its left.</text>',
            *parts,
            "</svg>\n",
        ]
    )


def _in_words(groups: Sequence[Group]) -> str:
    return " ".join(
        f"{group.heading}: {'; '.join(f'{bar.name} {bar.text}' for bar in group.bars)}." for group in groups
    )
