"""What a report says of several runs together: a table, their scores, their curves and their cells side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from datanas.report.evaluations import evaluation_verdict
from datanas.report.page.blocks import Block, Chart, Drawing, Prose, Section, Table, Value
from datanas.report.page.charts import interval_chart, line_chart
from datanas.report.page.choice_part import drawn
from datanas.report.page.drawing import cell_svgs
from datanas.report.page.folder import Folder, as_number
from datanas.report.page.terms import Terms
from datanas.report.page.train_part import measured, metric_of

Named = tuple[str, str, Folder]
"""What a run is called, its anchor, and its folder."""
_MOST_LINES = 7
DIFFERENT = "These runs are of different tasks or data, so their scores say nothing of each other."


def together_sections(runs: Sequence[Named], terms: Terms) -> Iterator[Section]:
    """Sections about all runs."""
    yield Section("The runs", [*_runs(runs)])
    if not are_alike(runs):
        return
    yield from _scores(runs, terms)
    curves = [*_curves(runs)]
    if curves:
        yield Section("Curves side by side", curves)
    drawn_cells = [*_cells(runs)]
    if drawn_cells:
        yield Section("Cells side by side", drawn_cells)


def are_alike(runs: Sequence[Named]) -> bool:
    """Whether all are of one task and data set, as far as they say."""
    return len({folder.overview.about for _, _, folder in runs if folder.overview.about}) <= 1


def _runs(runs: Sequence[Named]) -> Iterator[Block]:
    if not are_alike(runs):
        yield Prose(warnings=[DIFFERENT])
    head = ["run", "kind", "state", "epochs", "score", "parameters", "multiply-adds", "task and data"]
    rows = []
    for name, anchor, folder in runs:
        each, row = folder.overview, measured(folder) if folder.overview.kind == "train" else None
        rows.append(
            [
                Value(name, link=anchor),
                Value(each.kind),
                Value(each.state),
                Value(each.progress),
                Value(each.score or "–", None if row is None else row.value),
                Value("–" if each.parameters is None else f"{each.parameters:,}", each.parameters),
                Value("–" if each.macs is None else f"{each.macs / 1e6:,.1f} M", each.macs),
                Value(each.about or "–"),
            ]
        )
    yield Table("Sorted by a click on a head; names lead to the runs", head, rows)


def _scores(runs: Sequence[Named], terms: Terms) -> Iterator[Section]:
    rows = []
    for name, _, folder in runs:
        row = measured(folder) if folder.overview.kind == "train" else None
        if row is not None:
            rows.append((name, row, folder))
    if len(rows) < 2:
        return
    share = all(metric_of(folder)[1] for _, _, folder in rows)
    metric = metric_of(rows[0][2])[0]
    shown = [{**drawn(row, "networks"), "name": name} for name, row, _ in rows]
    alt = f"Dots of {metric}: {', '.join(f'{name} {row.score}' for name, row, _ in rows)}."
    blocks: list[Block] = [Chart(f"{metric} on the test part", interval_chart(shown, metric, share=share), alt)]
    counted = [row for _, row, _ in rows if row.interval is not None]
    if len(counted) == len(rows):
        about = rows[0][2].json("evaluation.json").get("metric") or {}
        verdict = evaluation_verdict(counted, higher_is_better=about.get("higher_is_better", True))
        blocks.append(Prose([f"By these intervals: {verdict}."], terms.tell("interval")))
    yield Section("Scores side by side", blocks)


def _curves(runs: Sequence[Named]) -> Iterator[Block]:
    for kind, key, title in (
        ("train", "train/loss", "Training loss"),
        ("train", "validation", "on the validation part"),
        ("search", "gap/child", "Score of the child kept, with the weights of the search"),
        ("search", "train/loss", "Loss of the supernet's weights"),
    ):
        chosen = [(name, folder) for name, _, folder in runs if folder.overview.kind == kind and folder.metrics]
        share, points, what = False, [], "loss"
        for name, folder in chosen[:_MOST_LINES]:
            field = key
            if key != "train/loss":
                what, share = metric_of(folder)
                field = f"validation/{what}" if key == "validation" else key
            points += [(line["epoch"], as_number(line.get(field)), name) for line in folder.metrics]
        lines = {name for _, value, name in points if value is not None}
        if len(lines) > 1:
            title = f"{what} {title}" if key == "validation" else title
            alt = f"Lines over the epochs of {', '.join(sorted(lines))}."
            yield Chart(title, line_chart(points, "epoch", what, share=share), alt)


def _cells(runs: Sequence[Named]) -> Iterator[Block]:
    shown = set()
    for name, _, folder in runs:
        architecture = folder.architecture
        if architecture is not None and architecture not in shown:
            shown.add(architecture)
            yield Drawing(cell_svgs(architecture)[:2], name)
    if not shown:
        return
    several = len([1 for _, _, folder in runs if folder.architecture is not None])
    if several > len(shown):
        yield Prose(notes=["Runs that train the same cell are drawn once, under the first one's name."])
