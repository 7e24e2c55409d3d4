"""What a report shows of a search: what it kept, how P came to it, the gap, the losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datanas.codes.architecture import Architecture, Cell
from datanas.report.evaluations import score_text
from datanas.report.page.blocks import Block, Chart, Facts, Frame, Lacking, Prose, Section, Stepper
from datanas.report.page.charts import heat_map, line_chart
from datanas.report.page.drawing import cell_svgs, node_label
from datanas.report.page.folder import Folder, as_number
from datanas.report.page.terms import Terms

_MOST_GROUPS = 4
_PROBS, _FLATNESS = "probs/", "flatness/"


def search_sections(folder: Folder, terms: Terms, frames: int) -> Iterator[Section]:
    """Sections of a search, as far as it is.

    Args:
        frames: epochs that the slider stops at, at most.
    """
    if not folder.metrics:
        yield Section("The search", [Lacking("No epoch has been completed yet, so there is nothing to draw.")])
        return
    yield Section("How the choice was made", [*_stepper(folder, terms, frames), *_decided(folder, terms)])
    yield Section("Supernet, sampled children and the child kept", _gap(folder, terms))
    yield Section("Losses", [*_losses(folder)])


def _stepper(folder: Folder, terms: Terms, limit: int) -> Iterator[Block]:
    lines = [line for line in folder.metrics if any(name.startswith(_PROBS) for name in line)]
    if not lines:
        yield Lacking("This method has no P: it does not learn which operations are likely.")
        return
    groups = [name.removeprefix(_PROBS) for name in lines[-1] if name.startswith(_PROBS)][:_MOST_GROUPS]
    shown = thinned(lines, limit)
    final = folder.architecture
    if final is None and folder.genotypes:  # of a search under way
        final = folder.architecture_of(f"genotypes/{folder.genotypes[max(folder.genotypes)].name}")
    labels = {group: _labels(group, lines[-1][_PROBS + group], final) for group in groups}
    charts, cells = [], dict.fromkeys(line["epoch"] for line in shown)
    for group in groups:
        tables = [line[_PROBS + group] for line in lines]
        largest = max(max(max(row) for row in table) for table in tables)
        rows, columns = labels[group]
        spec = heat_map(rows, columns, tables[-1], "P", largest)
        likeliest = _likeliest(rows, columns, tables[-1])
        cell = group if group == "cell" else f"{group} cell"
        alt = f"Heat map of P of the {cell}, edges by operations, after the last epoch. Likeliest: {likeliest}."
        charts.append(Chart(f"P of the {cell}", spec, alt))
    made: list[Frame] = []
    marks: list[list[list[tuple[int, int]]]] = []
    before: Architecture | None = None
    for epoch in cells:
        path = folder.genotypes.get(epoch)
        architecture = None if path is None else folder.architecture_of(f"genotypes/{path.name}")
        line = next(line for line in shown if line["epoch"] == epoch)
        tables = [[[round(p, 4) for p in row] for row in line[_PROBS + group]] for group in groups]
        is_same = architecture is not None and architecture == before
        svgs = cell_svgs(architecture, f"after epoch {epoch}") if architecture is not None and not is_same else ()
        made.append(Frame(tables, svgs, _said(epoch, architecture, is_same=is_same)))
        marks.append([_open(architecture, group, tables[i]) for i, group in enumerate(groups)])
        before = architecture
    yield Prose(
        ["Move the slider, or press Play, to follow P and the cell that would have been kept through the search."],
        terms.tell("P"),
    )
    yield Stepper(f"{folder.path.name}: epoch of the search", charts, made, marks)
    yield Prose(
        notes=[
            "Rows are edges of the cell, columns candidate operations; a dot marks what would be kept then. Colours "
            "have one scale for all epochs."
        ]
    )


def _decided(folder: Folder, terms: Terms) -> Iterator[Block]:
    points = [
        (line["epoch"], as_number(value), name.removeprefix(_FLATNESS))
        for line in folder.metrics
        for name, value in line.items()
        if name.startswith(_FLATNESS)
    ]
    if points:
        last = folder.metrics[-1]
        ends = ", ".join(
            f"{name.removeprefix(_FLATNESS)} {value:.2f}" for name, value in last.items() if name.startswith(_FLATNESS)
        )
        yield Chart(
            "How undecided P is",
            line_chart(points, "epoch", "normalised entropy", zero=True),
            f"Lines of the entropy of P over the epochs. At the end: {ends}.",
        )
        yield Prose(notes=terms.tell("flatness"))
    numbers = []
    for epoch, path in folder.genotypes.items():
        architecture = folder.architecture_of(f"genotypes/{path.name}")
        if architecture is not None:
            numbers += [(epoch, float(cell.code.sum()), name) for name, cell in architecture.cells.items()]
    if len({epoch for epoch, _, _ in numbers}) > 1 and len(folder.genotypes) <= 400:
        first, last_numbers = numbers[0], numbers[-1]
        yield Chart(
            "Operations in the cell that would be kept",
            line_chart(numbers, "epoch", "operations", zero=True),
            f"Lines of how many operations each cell has, from {first[1]:.0f} ({first[2]}, epoch {first[0]}) to "
            f"{last_numbers[1]:.0f} ({last_numbers[2]}, epoch {last_numbers[0]}).",
        )


def _gap(folder: Folder, terms: Terms) -> Sequence[Block]:
    lines = [line for line in folder.metrics if as_number(line.get("gap/supernet")) is not None]
    if not lines:
        return [Lacking("The gap was not measured yet; search.gap.every says after how many epochs it is.")]
    metric = folder.json("data.json").get("metric")
    metric = metric if isinstance(metric, Mapping) else {}
    share, name = metric.get("is_share") is True, str(metric.get("name", "score"))
    keys = {"child kept": "gap/child", "sampled children, mean": "gap/children_mean", "supernet": "gap/supernet"}
    points = [(line["epoch"], as_number(line.get(key)), label) for label, key in keys.items() for line in lines]
    last = lines[-1]
    shown = [f"{label} {_shown(last.get(key), share=share)}" for label, key in keys.items()]
    gap = as_number(last.get("gap/gap"))
    apart = "unknown" if gap is None else f"{100 * gap:+.1f} points" if share else f"{gap:+.4g}"
    at_end = f"After epoch {last['epoch']}: {', '.join(shown)}; gap {apart}."
    blocks: list[Block] = []
    if len(lines) > 1:
        spec = line_chart(points, "epoch", name, share=share)
        blocks.append(Chart(f"{name} on the part of the data that alpha learns from", spec, f"Three lines. {at_end}"))
    variance = as_number(last.get("gap/children_variance"))
    spread = ""
    if variance is not None:
        unit = "points" if share else ""
        spread = f" The sampled children differ by {variance**0.5:.2g} {unit} (one standard deviation)."
    return [*blocks, Prose([at_end + spread], terms.tell("gap"))]


def _losses(folder: Folder) -> Iterator[Block]:
    names = {"train/loss": "weights", "train/alpha loss": "alpha"}
    points = [
        (line["epoch"], as_number(line.get(key)), label) for key, label in names.items() for line in folder.metrics
    ]
    last = [f"{label} {value:.4g}" for key, label in names.items() if (value := as_number(folder.metrics[-1].get(key)))]
    yield Chart(
        "Loss, mean of each epoch",
        line_chart(points, "epoch", "loss"),
        f"Lines of the loss over the epochs; in the last one {', '.join(last)}.",
        "Weights and alpha learn in turn, on parts of the data that have no example in common.",
    )


def search_facts(folder: Folder) -> Facts | None:
    """What a finished search took and what its cell costs in the supernet."""
    result = folder.json("result.json")
    kept = result.get("kept")
    facts = []
    if (seconds := as_number(result.get("seconds"))) is not None:
        facts.append(("time of the search", duration(seconds)))
    if (memory := as_number(result.get("peak_memory"))) is not None and memory > 0:
        facts.append(("highest memory", f"{memory / 2**20:,.0f} MiB"))
    if (count := as_number(result.get("supernet_parameters"))) is not None:
        facts.append(("parameters of the supernet", f"{count:,.0f}"))
    if isinstance(kept, Mapping) and (operations := as_number(kept.get("operations"))) is not None:
        facts.append(("live operations of the cell", f"{operations:.0f}"))
    truth = result.get("truth")
    if isinstance(truth, Mapping):
        facts += [(f"by the table, {name}", f"{value:.4g}") for name, value in truth.items() if as_number(value)]
    return Facts(facts) if facts else None


def thinned(lines: Sequence[Any], limit: int) -> list[Any]:
    """At most so many, evenly spaced, the first and the last among them."""
    if len(lines) <= limit:
        return list(lines)
    indices = {round(i * (len(lines) - 1) / (limit - 1)) for i in range(limit)}
    return [line for i, line in enumerate(lines) if i in indices]


def duration(seconds: float) -> str:
    """Seconds for people: "42 s", "3 min 5 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def _labels(group: str, table: Sequence[Sequence[float]], final: Architecture | None) -> tuple[list[str], list[str]]:
    cell = _fitting(final, group, table)
    if cell is None:
        return [f"edge {i + 1}" for i in range(len(table))], [f"operation {i + 1}" for i in range(len(table[0]))]
    rows = [f"{node_label(cell, source)} → {node_label(cell, target)}" for source, target in cell.edges]
    return rows, list(cell.primitives)


def _fitting(architecture: Architecture | None, group: str, table: Sequence[Sequence[float]]) -> Cell | None:
    """The cell of a group, where the table is one of its edges and operations."""
    cell = None if architecture is None else architecture.cells.get(group)
    if cell is None or cell.code.shape != (len(table), len(table[0])):
        return None
    return cell


def _open(architecture: Architecture | None, group: str, table: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    cell = _fitting(architecture, group, table)
    return [] if cell is None else [(int(i), int(j)) for i, j in zip(*cell.code.nonzero(), strict=True)]


def _likeliest(rows: Sequence[str], columns: Sequence[str], table: Sequence[Sequence[float]]) -> str:
    entries = [(p, rows[i], columns[j]) for i, row in enumerate(table) for j, p in enumerate(row)]
    return ", ".join(f"{column} on {row} ({p:.2f})" for p, row, column in sorted(entries, reverse=True)[:3])


def _said(epoch: int, architecture: Architecture | None, *, is_same: bool) -> str:
    if architecture is None:
        return f"epoch {epoch}"
    counts = ", ".join(f"{name} {int(cell.code.sum())} operations" for name, cell in architecture.cells.items())
    return f"epoch {epoch}: {counts}{', as before' if is_same else ''}"


def _shown(value: object, *, share: bool) -> str:
    number = as_number(value)
    return "unknown" if number is None else score_text(number, is_share=share)
