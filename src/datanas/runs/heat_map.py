"""A table of quantities, such as P, as a small labelled picture that takes some milliseconds to make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_WIDE, _HIGH, _GAP = 22, 14, 4
"""Points of an entry, and between labels and entries."""
_VIRIDIS = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ],
    dtype=float,
)
"""matplotlib's, at nine places evenly spaced."""


@dataclass(frozen=True)
class HeatMap:
    """A table with the names of its rows and columns; entries are at least 0."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]

    def to_png(self) -> bytes:
        """Viridis from 0 to the largest entry, which a line below names; entries that are not finite are white."""
        font = ImageFont.load_default(11)
        table = np.asarray(self.values, float).reshape(len(self.rows), len(self.columns))
        finite = np.isfinite(table)
        largest = float(table[finite].max(initial=0.0))
        colours = _colours(np.where(finite, table, 0.0) / (largest or 1.0))
        colours[~finite] = 255
        left = max((_length(font, each) for each in self.rows), default=0) + 2 * _GAP
        top = max((_length(font, each) for each in self.columns), default=0) + 2 * _GAP
        legend = f"0 to {largest:.3g}"
        width = left + max(_WIDE * len(self.columns), _length(font, legend)) + _GAP
        height = top + _HIGH * len(self.rows) + 2 * _HIGH
        picture = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(picture)
        if colours.size:
            size = (_WIDE * len(self.columns), _HIGH * len(self.rows))
            picture.paste(Image.fromarray(colours).resize(size, Image.Resampling.NEAREST), (left, top))
        for index, name in enumerate(self.rows):
            position = (left - _GAP - _length(font, name), top + index * _HIGH)
            draw.text(position, name, "black", font)
        for index, name in enumerate(self.columns):
            label = Image.new("RGB", (top - _GAP, _HIGH), "white")
            ImageDraw.Draw(label).text((0, 0), name, "black", font)
            picture.paste(label.rotate(90, expand=True), (left + index * _WIDE + (_WIDE - _HIGH) // 2, 0))
        draw.text((left, height - _HIGH - _GAP), legend, "black", font)
        content = BytesIO()
        picture.save(content, "PNG", compress_level=1)
        return content.getvalue()


def _colours(shares: np.ndarray) -> np.ndarray:
    """Of numbers in 0..1 their colours, as bytes along a further axis."""
    positions = np.linspace(0.0, 1.0, len(_VIRIDIS))
    channels = [np.interp(shares, positions, channel) for channel in _VIRIDIS.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _length(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> int:
    return int(font.getlength(text)) + 1
