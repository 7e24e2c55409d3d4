"""The charts of a report as Vega-Lite describes them.

Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart, and lines differ in their dashes too;
quantities are in viridis. Text and rules take the page's ink, so that they are seen on light and dark pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datanas.report.page.blocks import Spec

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
"""Okabe and Ito's without yellow and black, which one of the two backgrounds swallows, and with a grey."""
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [12, 4], [4, 4])
_INK, _FONT = "currentColor", "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
CONFIG = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": "transparent"},
    "axis": {
        "labelColor": _INK,
        "titleColor": _INK,
        "tickColor": _INK,
        "domainColor": _INK,
        "gridColor": _INK,
        "gridOpacity": 0.12,
        "tickOpacity": 0.4,
        "domainOpacity": 0.4,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": 220,
    },
    "legend": {"labelColor": _INK, "titleColor": _INK, "labelFontSize": 11, "titleFontSize": 11, "orient": "top"}
    | {"titleFontWeight": "normal", "symbolStrokeWidth": 2, "labelLimit": 260, "columns": 3},
    "text": {"color": _INK, "fill": _INK, "fontSize": 11},
    "range": {"category": list(PALETTE)},
    "line": {"strokeWidth": 2},
}
"""What all charts have in common."""
Points = Iterable[tuple[float, float | None, str]]
"""(x, y, name of the line); without y there is a gap."""


def line_chart(
    points: Points,
    x: str,
    y: str,
    *,
    share: bool = False,
    zero: bool = False,
    height: int = 190,
) -> Spec:
    """Lines over epochs.

    Args:
        x, y: what the axes are called.
        share: whether y is a share, shown in per cent.
        zero: whether y begins at 0.
    """
    known = [point for point in points if point[1] is not None]
    rows = [{"x": at, "y": value, "line": name} for at, value, name in known]
    names = list(dict.fromkeys(name for _, _, name in known))
    positions = {at for at, _, _ in known}
    y_axis = {"format": ".0%"} if share else {}
    x_axis: dict[str, Any] = {"tickMinStep": 1, "format": "d", "grid": False, "tickCount": min(10, len(positions))}
    vertical = {"field": "y", "type": "quantitative", "title": y, "scale": {"zero": zero}, "axis": y_axis}
    name_scale = {"domain": names, "range": [PALETTE[i % len(PALETTE)] for i in range(len(names))]}
    dash_scale = {"domain": names, "range": [_DASHES[i % len(_DASHES)] for i in range(len(names))]}
    legend = {"title": None} if len(names) > 1 else None
    few = len(positions) <= 40
    layer = {
        "mark": {"type": "line", "point": {"size": 28, "filled": True} if few else False},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": x, "axis": x_axis, "scale": {"nice": False}},
            "y": vertical,
            "color": {"field": "line", "type": "nominal", "scale": name_scale, "legend": legend},
            "strokeDash": {"field": "line", "type": "nominal", "scale": dash_scale, "legend": legend},
            "tooltip": [
                {"field": "line", "title": "line"},
                {"field": "x", "title": x},
                {"field": "y", "title": y, "format": ".2%" if share else ".4g"},
            ],
        },
    }
    return _spec({"data": {"values": rows}, "height": height, "layer": [layer]})


def interval_chart(rows: Sequence[Mapping[str, Any]], axis: str, *, share: bool = False) -> Spec:
    """A dot and an interval for each row, the seeds of a row as small dots below.

    Args:
        rows: `name`, `value`, `group` (by which they are coloured); `low`, `high`, `seeds` where there are any.
    """
    order = [row["name"] for row in rows]
    y = {"field": "name", "type": "nominal", "sort": order, "title": None, "axis": {"grid": False, "ticks": False}}
    drawn = [{key: row[key] for key in ("name", "group", "low", "high")} for row in rows if row.get("low") is not None]
    seeds = [{"name": row["name"], "seed": seed} for row in rows for seed in row.get("seeds", ())]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    colour = _coloured("group", groups)
    along = {"type": "quantitative", "title": axis, "scale": {"zero": False, "padding": 8}}
    along["axis"] = {"format": ".1%"} if share else {}
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": drawn},
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": {**along, "field": "low"}, "x2": {"field": "high"}, "y": y, "color": colour},
        },
        {
            "data": {"values": [{key: row[key] for key in ("name", "value", "group")} for row in rows]},
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {
                "x": {**along, "field": "value"},
                "y": y,
                "color": colour,
                "shape": {**colour, "scale": {"domain": groups}},
                "tooltip": [{"field": "name"}, {"field": "value", "format": ".2%" if share else ".4g"}],
            },
        },
    ]
    if seeds:
        layers.append(
            {
                "data": {"values": seeds},
                "mark": {"type": "tick", "opacity": 0.5, "thickness": 1.5, "color": _INK, "size": 9, "yOffset": 9},
                "encoding": {"x": {**along, "field": "seed"}, "y": y},
            }
        )
    return _spec({"height": 30 * max(len(rows), 1), "layer": layers})


def front_chart(rows: Sequence[Mapping[str, Any]], cost: str, score: str, *, share: bool = False) -> Spec:
    """Scores against what networks cost, the cost on a logarithmic axis, and steps through those that none beats.

    Args:
        rows: `name`, `cost`, `value`, `group`, `on_front`; `low` and `high` where there is an interval.
        cost, score: what the axes are called.
        share: whether the score is a share, shown in per cent.
    """
    groups = list(dict.fromkeys(row["group"] for row in rows))
    colour = _coloured("group", groups)
    along = {"field": "cost", "type": "quantitative", "title": cost, "scale": {"type": "log", "padding": 12}}
    along["axis"] = {"format": "~s", "grid": False, "tickCount": 6}
    up = {"type": "quantitative", "title": score, "scale": {"zero": False}}
    up["axis"] = {"format": ".0%"} if share else {}
    number = ".2%" if share else ".4g"
    tooltip = [{"field": "name", "title": "network"}, {"field": "cost", "title": cost, "format": ","}]
    layers = [
        {
            "transform": [{"filter": "datum.on_front"}],
            "mark": {"type": "line", "interpolate": "step-after", "stroke": _INK, "strokeWidth": 1, "opacity": 0.6},
            "encoding": {"x": along, "y": {**up, "field": "value"}},
        },
        {
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "opacity": 0.6},
            "encoding": {"x": along, "y": {**up, "field": "low"}, "y2": {"field": "high"}, "color": colour},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {
                "x": along,
                "y": {**up, "field": "value"},
                "color": colour,
                "shape": {**colour, "scale": {"domain": groups}},
                "tooltip": [*tooltip, {"field": "value", "title": score, "format": number}],
            },
        },
    ]
    return _spec({"data": {"values": list(rows)}, "height": 260, "layer": layers})


def share_chart(names: Sequence[str], quantities: Mapping[str, Sequence[float]]) -> Spec:
    """For each name a bar of its share of each quantity, so that what takes time can be compared with what is counted.

    Args:
        quantities: by their names as many values as there are names.
    """
    values = []
    for quantity, amounts in quantities.items():
        total = sum(amounts) or 1.0
        for name, value in zip(names, amounts, strict=True):
            share = value / total
            values.append({"name": name, "quantity": quantity, "value": value, "share": share, "text": f"{share:.0%}"})
    several = list(quantities)
    y = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": {"grid": False, "ticks": False}}
    along = {"field": "share", "type": "quantitative", "title": "share", "axis": {"format": ".0%", "tickCount": 4}}
    beside = {"field": "quantity", "type": "nominal", "sort": several}
    tooltip = [{"field": "name"}, {"field": "quantity"}, {"field": "value", "format": ","}, {"field": "text"}]
    colour = _coloured("quantity", several)
    if colour["legend"]:
        colour["legend"]["columns"] = 2  # as wide as a phone has room for beside long names
    bars = {"mark": {"type": "bar"}, "encoding": {"tooltip": tooltip, "color": colour}}
    labels = {
        "mark": {"type": "text", "align": "left", "dx": 3, "fill": _INK, "fontSize": 9},
        "encoding": {"text": {"field": "text"}},
    }
    return _spec(
        {
            "data": {"values": values},
            "height": (10 + 11 * len(several)) * max(len(names), 1),
            "encoding": {"y": y, "x": along, "yOffset": beside},
            "layer": [bars, labels],
        }
    )


def heat_map(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], legend: str, largest: float
) -> Spec:
    """A table of quantities, such as P: viridis from 0 to `largest`; entries with `mark` 1 are framed.

    Its data source `cells` has `row`, `column`, `value` and `mark`, so that a page can put in others.
    """
    cells = [
        {"row": row, "column": column, "value": value, "mark": 0}
        for row, line in zip(rows, values, strict=True)
        for column, value in zip(columns, line, strict=True)
    ]
    position = {
        "x": {
            "field": "column",
            "type": "nominal",
            "sort": list(columns),
            "title": None,
            "axis": {"labelAngle": -40, "grid": False, "ticks": False, "domain": False},
        },
        "y": {
            "field": "row",
            "type": "nominal",
            "sort": list(rows),
            "title": None,
            "axis": {"grid": False, "ticks": False, "domain": False},
        },
    }
    colour = {
        "field": "value",
        "type": "quantitative",
        "scale": {"scheme": "viridis", "domain": [0, largest]},
        "legend": {"title": legend, "gradientLength": 140, "direction": "horizontal", "tickCount": 3, "format": ".2~f"},
    }
    tooltip = [{"field": "row"}, {"field": "column"}, {"field": "value", "title": legend, "format": ".3f"}]
    return _spec(
        {
            "data": {"name": "cells", "values": cells},
            "height": 19 * max(len(rows), 1),
            "encoding": position,
            "layer": [
                {"mark": {"type": "rect", "stroke": None}, "encoding": {"color": colour, "tooltip": tooltip}},
                {
                    "transform": [{"filter": "datum.mark > 0"}],
                    "mark": {"type": "point", "shape": "circle", "filled": True, "size": 42, "opacity": 1}
                    | {"fill": "white", "stroke": "black", "strokeWidth": 1.2},
                },
            ],
        }
    )


def confusion_chart(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Spec:
    """A matrix of shares of each true class, with the counts where there is room for them."""
    cells = []
    for name, row in zip(classes, counts, strict=True):
        total = sum(row) or 1
        for other, count in zip(classes, row, strict=True):
            if count:
                cells.append({"row": name, "column": other, "count": count, "share": round(count / total, 4)})
    labels = {"grid": False, "ticks": False, "domain": False, "labelLimit": 110}
    if len(classes) > 40:
        labels["labels"] = False
    position = {
        "x": {
            "field": "column",
            "type": "nominal",
            "scale": {"domain": list(classes)},
            "title": "taken for",
            "axis": {**labels, "labelAngle": -40},
        },
        "y": {
            "field": "row",
            "type": "nominal",
            "scale": {"domain": list(classes)},
            "title": "class",
            "axis": labels,
        },
    }
    colour = {
        "field": "share",
        "type": "quantitative",
        "scale": {"scheme": "viridis", "domain": [0, 1]},
        "legend": {"title": "share of the class", "gradientLength": 140, "direction": "horizontal", "format": ".0%"},
    }
    tooltip = [
        {"field": "row", "title": "class"},
        {"field": "column", "title": "taken for"},
        {"field": "count"},
        {"field": "share", "format": ".1%"},
    ]
    layers: list[dict[str, Any]] = [{"mark": "rect", "encoding": {"color": colour, "tooltip": tooltip}}]
    if len(classes) <= 14:
        ink = {"condition": {"test": "datum.share > 0.6", "value": "#111"}, "value": "#fff"}
        layers.append(
            {"mark": {"type": "text", "fontSize": 10}, "encoding": {"text": {"field": "count"}, "color": ink}}
        )
    step = 24 if len(classes) <= 20 else max(4, 480 // len(classes))
    return _spec({"data": {"values": cells}, "height": step * len(classes), "encoding": position, "layer": layers})


def _coloured(field: str, names: Sequence[str]) -> dict[str, Any]:
    """How a field of names becomes colours, with a legend where there are several."""
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(names), "range": [PALETTE[i % len(PALETTE)] for i in range(len(names))]},
        "legend": {"title": None} if len(names) > 1 else None,
    }


def _spec(body: Mapping[str, Any]) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        **body,
    }
