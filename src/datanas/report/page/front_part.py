"""What a report shows of a front: scores against a cost, all networks, what searching has gained at equal bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datanas.report.evaluations import score_text
from datanas.report.page.blocks import Block, Chart, Lacking, Prose, Section, Table, Value
from datanas.report.page.charts import front_chart
from datanas.report.page.folder import Folder, as_number
from datanas.report.page.terms import Terms

_UNITS = {"ms": "latency in ms", "B": "bytes"}


def front_sections(folder: Folder, terms: Terms) -> Iterator[Section]:
    """The picture and table of a front, and its gains with their intervals."""
    document = folder.json("pareto.json")
    if not document:
        text = f"The front is not complete: datanas pareto --resume {folder.path}"
        yield Section("The front", [Lacking(text)])
        return
    points = sorted(document["points"], key=lambda each: (each["bound"], each["cost"], each["number"]))
    metric, name = document.get("metric") or {}, str(document["score_name"])
    has_intervals = any(each["interval"] is not None for each in points)
    is_share = metric.get("is_share", has_intervals)  # an older front has no metric
    on_front, cost = set(document["front"]), _UNITS.get(document["unit"], str(document["unit"]))
    yield Section("The front", [*_front(points, on_front, cost, name, terms, is_share=is_share)])
    gains = document.get("gains") or {}
    if gains:
        yield Section("What searching has gained at equal bounds", [*_gains(gains, name, terms, is_share=is_share)])


def _front(
    points: Sequence[Mapping[str, Any]], on_front: set[int], cost: str, name: str, terms: Terms, *, is_share: bool
) -> Iterator[Block]:
    drawn = [_drawn(each, on_front) for each in points if as_number(each["trained"]["score"]) is not None]
    best = [row for row in sorted(drawn, key=lambda row: row["cost"]) if row["on_front"]]
    said = "; ".join(
        f"{_cost(row['cost'])} {cost}: {row['group']}, {score_text(row['value'], is_share=is_share)}" for row in best
    )
    alt = f"Dots of {len(drawn)} networks, {name} against {cost}. On the front: {said or 'none'}."
    yield Chart(f"{name} against {cost}", front_chart(drawn, cost, name, share=is_share), alt)
    has_intervals = any("low" in row for row in drawn)
    yield Prose(notes=terms.tell("front", *(["interval"] if has_intervals else [])))
    head = ["bound", "origin", f"costs ({cost})", "parameters", "multiply-adds", name, "95 %", "front"]
    rows = []
    for each in points:
        trained, ends = each["trained"], each["interval"]
        interval = "" if ends is None else " to ".join(score_text(end, is_share=is_share) for end in ends)
        rows.append(
            [
                Value(_cost(each["bound"]), each["bound"]),
                Value(each["origin"]),
                Value(_cost(each["cost"]), each["cost"]),
                Value(f"{trained['parameters']:,}", trained["parameters"]),
                Value(f"{trained['macs'] / 1e6:,.2f} M", trained["macs"]),
                Value(score_text(trained["score"], is_share=is_share), as_number(trained["score"])),
                Value(interval),
                Value("*" if each["number"] in on_front else ""),
            ]
        )
    shown = [column for column in range(len(head)) if column != head.index("95 %") or has_intervals]
    yield Table("All networks, by bound", [head[i] for i in shown], [[row[i] for i in shown] for row in rows])


def _gains(gains: Mapping[str, Any], name: str, terms: Terms, *, is_share: bool) -> Iterator[Block]:
    unit, form, scale = ("points", "+.1f", 100.0) if is_share else (name, "+.4g", 1.0)
    rows = []
    for origin, gain in gains.items():
        if gain is None:
            rows.append([Value(origin), Value("–"), Value("–"), Value("–"), Value("fewer than two bounds have both")])
            continue
        mean, low, high = (as_number(gain.get(key)) for key in ("mean", "low", "high"))
        interval = "–" if low is None or high is None else f"{scale * low:{form}} to {scale * high:{form}}"
        shown = Value("–") if mean is None else Value(f"{scale * mean:{form}}", mean)
        rows.append(
            [
                Value(origin),
                shown,
                Value(interval),
                Value(str(gain.get("pairs", gain.get("bounds")))),
                Value(str(gain["verdict"])),
            ]
        )
    yield Table(
        "The searched network less the others within the same bound",
        ["others", f"mean ({unit})", "95 %", "bounds", "the searched one is"],
        rows,
    )
    yield Prose(notes=terms.tell("bounds"))


def _drawn(point: Mapping[str, Any], on_front: set[int]) -> dict[str, Any]:
    """A row of `front_chart`."""
    row = {
        "name": f"{point['origin']}, {point['number']}",
        "cost": point["cost"],
        "value": point["trained"]["score"],
        "group": point["origin"],
        "on_front": point["number"] in on_front,
    }
    ends = point["interval"]
    return row if ends is None else {**row, "low": ends[0], "high": ends[1]}


def _cost(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"
