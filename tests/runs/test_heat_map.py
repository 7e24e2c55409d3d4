"""Pictures of tables have the right colours at the right places."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
from PIL import Image

from datanas.runs.heat_map import _HIGH, _WIDE, HeatMap

DARK, LIGHT, WHITE = (68, 1, 84), (253, 231, 37), (255, 255, 255)


def colours(table: HeatMap) -> list[list[tuple[int, ...]]]:
    """The colour in the middle of each entry, found from the picture's first dark or light corner on."""
    with Image.open(BytesIO(table.to_png())) as picture:
        points = np.asarray(picture.convert("RGB"))
    ys, xs = np.nonzero((points == DARK).all(axis=-1) | (points == LIGHT).all(axis=-1))
    top, left = ys.min(), xs.min()
    return [
        [tuple(map(int, points[top + y * _HIGH + 4, left + x * _WIDE + 4])) for x in range(len(table.columns))]
        for y in range(len(table.rows))
    ]


def test_colours_go_from_nothing_to_the_largest() -> None:
    assert colours(HeatMap(["a", "b"], ["x", "y", "z"], [[0, 0.1, 0.2], [0.2, 0, 0.1]])) == [
        [DARK, (33, 144, 141), LIGHT],
        [LIGHT, DARK, (33, 144, 141)],
    ]


def test_what_is_not_finite_is_white_and_counts_for_nothing() -> None:
    assert colours(HeatMap(["a"], ["x", "y", "z"], [[0, math.nan, 3]])) == [[DARK, WHITE, LIGHT]]


def test_zeros_and_nothing_at_all_can_be_drawn() -> None:
    assert colours(HeatMap(["a"], ["x"], [[0]])) == [[DARK]]
    assert HeatMap([], [], []).to_png().startswith(b"\x89PNG")


def test_names_are_drawn() -> None:
    values = [[0.0, 1.0]]
    assert HeatMap(["a"], ["x", "y"], values).to_png() != HeatMap(["b"], ["x", "y"], values).to_png()
    assert HeatMap(["a"], ["x", "y"], values).to_png() != HeatMap(["a"], ["x", "z"], values).to_png()
