"""What a report shows of a choice among trained networks: a race, a comparison of methods, a fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from datanas.core.shares import share_interval
from datanas.report.comparison import NONE, comparison_rows
from datanas.report.evaluations import Measured, score_text
from datanas.report.page.blocks import Block, Chart, Lacking, Prose, Section, Table, Value
from datanas.report.page.charts import interval_chart
from datanas.report.page.folder import Folder, as_number
from datanas.report.page.terms import Terms
from datanas.report.page.train_part import ends_of


def race_sections(folder: Folder, terms: Terms) -> Iterator[Section]:
    """Candidates, rung by rung."""
    outcome, pool = folder.json("race.json"), folder.json("candidates.json").get("candidates")
    rungs = outcome.get("rungs")
    if not isinstance(rungs, list) or not isinstance(pool, list):
        yield Section("The race", [Lacking("The race is not over, so nothing can be said of its candidates yet.")])
        return
    metric = outcome.get("metric") or {}
    is_counted = metric.get("counts_examples", outcome.get("within") is not None)  # an older race has no metric
    is_share = metric.get("is_share", is_counted)
    examples = outcome.get("examples") if is_counted else None

    text = partial(score_text, is_share=is_share)
    last = len(rungs)
    blocks: list[Block] = []
    rows = [
        {"number": int(number), "origin": pool[int(number)]["origin"], "rung": index, **row}
        for index, rung in enumerate(rungs, start=1)
        for number, row in rung.items()
    ]
    rows.sort(key=lambda row: (-row["rung"], not math.isfinite(row["selection_score"]), -row["selection_score"]))
    final = [(row["number"], _measured(row, text(row["score"]), examples)) for row in rows if row["rung"] == last]
    winner = outcome.get("winner")
    marked = [drawn(each, "winner" if number == winner else "others") for number, each in final]
    spec = interval_chart(marked, "score", share=is_share)
    best = final[0][1]
    blocks.append(
        Chart(
            f"The candidates of the last rung ({last})",
            spec,
            f"Dots with intervals of {len(final)} networks; the best is {best.name} with {best.score}.",
        )
    )
    blocks.append(Prose(notes=terms.tell("rung", "interval")))
    head = ["candidate", "origin", "rung", "score", "channels", "parameters", "multiply-adds"]
    table = [
        [
            Value(str(row["number"]), row["number"]),
            Value(row["origin"]),
            Value(str(row["rung"]), row["rung"]),
            Value(text(row["score"]), row["score"]),
            Value(str(row["channels"]), row["channels"]),
            Value(f"{row['parameters']:,}", row["parameters"]),
            Value(f"{row['macs'] / 1e6:,.1f} M", row["macs"]),
        ]
        for row in rows
    ]
    blocks.append(Table("All candidates, in every rung that they were in", head, table))
    yield Section("The race", blocks)


def _measured(row: Mapping[str, Any], text: str, examples: int | None) -> Measured:
    name = f"{row['number']}: {row['origin']}"
    interval = ends_of(row)
    if interval is None and examples and 0 <= row["score"] <= 1:  # an earlier version measured it
        interval = share_interval(row["score"], examples)
    return Measured(name, text, row["score"], row["parameters"], row["macs"], interval)


def drawn(row: Measured, group: str) -> dict[str, Any]:
    """A row of `interval_chart`."""
    entry: dict[str, Any] = {"name": row.name, "value": row.value, "group": group}
    if row.interval is not None:
        entry["low"], entry["high"] = row.interval
    return entry


def fit_sections(folder: Folder, terms: Terms) -> Iterator[Section]:
    """What the fit was compared with."""
    outcome = folder.json("fit.json")
    compared = outcome.get("compared")
    if not outcome:
        yield Section("The fit", [Lacking("The fit is not over; its runs so far follow.")])
        return
    if not isinstance(compared, list) or not compared:
        yield Section("Compared with", [Lacking("Nothing was compared: the time was too short for a race.")])
        return
    head = ["trained alike, judged before the final training", str(outcome.get("score_name", "score"))]
    head += ["kept one ahead by", "parameters", "multiply-adds"]
    rows = []
    for each in compared:
        ahead = each.get("ahead")
        text = str(each.get("ahead_shown") or "")
        if ahead and not text:  # written before scores other than shares had intervals
            text = "{:+.1f} [{:+.1f}, {:+.1f}] points".format(*(100 * x for x in ahead))
        cells = [Value(each["origin"]), Value(each["shown"], as_number(each["score"]))]
        cells += [Value(text, ahead[0] if ahead else None), Value(f"{each['parameters']:,}", each["parameters"])]
        rows.append([*cells, Value(f"{each['macs'] / 1e6:,.1f} M", each["macs"])])
    yield Section("Compared with", [Table("The last rung of the race, the kept one first", head, rows)])


def comparison_sections(folder: Folder, terms: Terms) -> Iterator[Section]:
    """Methods and controls, ranked, with intervals, and the verdict."""
    data = folder.json("comparison.json")
    if not data:
        text = f"The comparison is not over: datanas compare --resume {folder.path}"
        yield Section("The comparison", [Lacking(text)])
        return
    head, lines, ranked = comparison_rows(data)
    drawn_rows = [
        {
            "name": row["name"],
            "value": row["mean"],
            "group": row["kind"],
            "seeds": [run["score"] for run in row["seeds"].values() if as_number(run.get("score")) is not None],
            **({"low": row["low"], "high": row["high"]} if as_number(row.get("low")) is not None else {}),
        }
        for row in ranked
        if as_number(row.get("mean")) is not None
    ]
    unit = f" ({data['unit']})" if data.get("unit") else ""
    blocks: list[Block] = [Prose([f"Verdict: {data['winner']['text']}."], terms.tell("seeds"))]
    if drawn_rows:
        best = drawn_rows[0]
        alt = f"Dots with intervals of {len(drawn_rows)} rows, the best first: {best['name']} with {best['value']:.4g}."
        blocks.append(
            Chart(
                f"{data['metric']}{unit} by method",
                interval_chart(drawn_rows, f"{data['metric']}{unit}"),
                alt,
                "Dots are means, lines their intervals, ticks below single seeds.",
            )
        )
    filled = [column for column in range(len(head)) if any(line[column] != NONE for line in lines)]
    rows = [[Value(line[0]), *(Value(line[column], _leading(line[column])) for column in filled[1:])] for line in lines]
    blocks.append(Table("All figures; differences are paired by seed", [head[column] for column in filled], rows))
    blocks.append(Prose(notes=terms.tell("paired")))
    controls = [
        f"{row['name']}: {row['note']}." for row in data["rows"] if row["kind"] == "control" and row.get("note")
    ]
    notes = [str(note) for note in data.get("notes") or ()]
    if controls or notes:
        blocks.append(Prose(notes=[*controls, *notes]))
    yield Section("The comparison", blocks)


def _leading(text: str) -> float | None:
    """The number that a text begins with, by which a column is sorted."""
    words: Sequence[str] = text.replace("[", " ").replace(",", " ").replace("%", " ").split()
    scale = {"k": 1e3, "M": 1e6, "G": 1e9}.get(words[1], 1.0) if len(words) > 1 else 1.0
    try:
        return float(words[0].partition("/")[0]) * scale
    except (IndexError, ValueError):
        return None
