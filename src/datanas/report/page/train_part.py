"""What a report shows of a training: what the network reaches, how it learned, what its task shows, what it costs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image

from datanas.core.exhibits import Confusion, Exhibit, FigureTable, Pictures
from datanas.core.shares import share_interval
from datanas.report.evaluations import Measured, score_text
from datanas.report.page.blocks import Block, Chart, Gallery, Lacking, Prose, Section, Table, Tile, Value
from datanas.report.page.charts import confusion_chart, line_chart, share_chart
from datanas.report.page.folder import Folder, as_number
from datanas.report.page.terms import Terms

_MOST_PAIRS = 10
_MOST_BARS = 24


def train_sections(folder: Folder, terms: Terms, pictures: int) -> Iterator[Section]:
    """Sections of a training, as far as it is.

    Args:
        pictures: of one kind, at most.
    """
    yield Section("How it learned", [*_curves(folder)])
    exhibits = [block for each in folder.exhibits for block in exhibit_blocks(each, terms, pictures)]
    if exhibits:
        yield Section(f"On the {folder.part} part", exhibits)
    elif folder.overview.state == "complete" and not folder.costs:
        text = (
            "No confusion matrix, no mistakes, no costs by part: the run was made by an earlier version, or as a "
            f"candidate of a race. This makes them: datanas evaluate {folder.path}"
        )
        yield Section("On the test examples", [Lacking(text)])
    if folder.costs:
        yield Section("Where multiply-adds, parameters and time go", [*_costs(folder.costs, terms)])


def measured(folder: Folder) -> Measured | None:
    """The figures of a finished training, with the interval of its score, where that says how uncertain it is."""
    evaluation = folder.json("evaluation.json")
    value, parameters, macs = (as_number(evaluation.get(key)) for key in ("score", "parameters", "macs"))
    if value is None or parameters is None or macs is None:
        return None
    shown = score_text(value, is_share=evaluation.get("error") is not None)
    counted = folder.examples if evaluation.get("part", "test") == folder.part and 0 <= value <= 1 else None
    interval = ends_of(evaluation)
    if interval is None and counted:  # an earlier version measured it
        interval = share_interval(value, counted)
    return Measured(folder.path.name, shown, value, int(parameters), int(macs), interval)


def ends_of(figures: Mapping[str, object]) -> tuple[float, float] | None:
    """The interval that stands beside a score."""
    interval = figures.get("interval")
    if not isinstance(interval, list) or len(interval) != 2:
        return None
    low, high = map(as_number, interval)
    return None if low is None or high is None else (low, high)


def score_lines(folder: Folder, terms: Terms) -> Prose | None:
    """What it reaches, in words."""
    row, evaluation = measured(folder), folder.json("evaluation.json")
    if row is None:
        return None
    name, part = evaluation.get("score_name", "score"), evaluation.get("part", "test")
    line = f"{name} {row.score} on the {part} part"
    notes: tuple[str, ...] = ()
    if row.interval is not None:
        low, high = row.interval
        is_share = evaluation.get("error") is not None
        line += f", 95 % interval {' to '.join(score_text(end, is_share=is_share) for end in (low, high))}"
        count = as_number(evaluation.get("examples")) or folder.examples
        line += f" ({int(count):,} {evaluation.get('examples_are', 'examples')})" if count else ""
        notes = terms.tell("interval")
    figures = evaluation.get("figures")
    others = [f"{key} {number:.4g}" for key, value in _items(figures) if (number := as_number(value)) is not None]
    further = f"Besides: {', '.join(others[:12])}." if others and len(others) <= 12 else ""
    costs = f"{row.parameters:,} parameters, {row.macs / 1e6:,.1f} M multiply-adds for one example."
    return Prose([f"{line}.", costs, *filter(None, [further])], (*notes, *terms.tell("macs")))


def exhibit_blocks(exhibit: Exhibit, terms: Terms, pictures: int) -> Iterator[Block]:
    """What a page shows of an exhibit, whatever task made it."""
    if isinstance(exhibit, Confusion):
        yield from _confusion(exhibit, terms)
    elif isinstance(exhibit, FigureTable):
        yield figure_table(exhibit)
    elif isinstance(exhibit, Pictures):
        tiles = [
            Tile(f"data:image/{each.format()};base64,{each.content}", each.caption, each.alt)
            for each in exhibit.pictures[:pictures]
        ]
        yield Gallery(exhibit.title, tiles, exhibit.note, exhibit.legend, is_wide=_are_wide(exhibit))
    else:
        yield exhibit


def _are_wide(exhibit: Pictures) -> bool:
    """Whether pictures are rows of several, by the shape of the first."""
    if not exhibit.pictures:
        return False
    with Image.open(io.BytesIO(base64.b64decode(exhibit.pictures[0].content))) as picture:
        return picture.width > 1.9 * picture.height


def figure_table(exhibit: FigureTable) -> Table:
    """A table of figures as the page shows one."""
    rows = []
    for row in exhibit.rows:
        cells = []
        for column, entry in zip(exhibit.columns, row, strict=True):
            number = as_number(entry)
            if number is None:
                cells.append(Value(str(entry) if isinstance(entry, str) else "–"))
            elif column in exhibit.shares:
                cells.append(Value(f"{number:.1%}", number))
            else:
                cells.append(Value(f"{number:,.0f}" if number == int(number) else f"{number:.4g}", number))
        rows.append(cells)
    caption = f"{exhibit.title}. {exhibit.note}" if exhibit.note else exhibit.title
    return Table(caption, exhibit.columns, rows)


def _confusion(exhibit: Confusion, terms: Terms) -> Iterator[Block]:
    pairs = sorted(
        (
            (count, name, other, sum(row))
            for name, row in zip(exhibit.classes, exhibit.counts, strict=True)
            for other, count in zip(exhibit.classes, row, strict=True)
            if name != other and count
        ),
        key=lambda pair: -pair[0],
    )[:_MOST_PAIRS]
    most = "; ".join(f"{name} taken for {other} {count} times" for count, name, other, _ in pairs[:3])
    alt = f"Confusion matrix of {len(exhibit.classes)} classes. {f'Most often: {most}.' if most else 'No mistakes.'}"
    yield Chart("Confusion matrix", confusion_chart(exhibit.classes, exhibit.counts), alt)
    yield Prose(notes=terms.tell("confusion"))
    if pairs:
        rows = [
            [Value(name), Value(other), Value(f"{count:,}", count), Value(f"{count / total:.1%}", count / total)]
            for count, name, other, total in pairs
        ]
        yield Table("The most frequent confusions", ("class", "taken for", "times", "of the class"), rows)


def _curves(folder: Folder) -> Iterator[Block]:
    lines = folder.metrics
    if not lines:
        yield Lacking("No epoch has been completed yet, so there is nothing to draw.")
        return
    losses = {"training": "train/loss", "validation": "validation/loss"}
    points = [(line["epoch"], as_number(line.get(key)), name) for name, key in losses.items() for line in lines]
    ends = [f"{name} {value:.4g}" for name, key in losses.items() if (value := as_number(lines[-1].get(key)))]
    spec = line_chart(points, "epoch", "loss")
    yield Chart("Loss", spec, f"Lines of the loss over {len(lines)} epochs; in the last one {', '.join(ends)}.")
    name, share = metric_of(folder)
    scores = [(line["epoch"], as_number(line.get(f"validation/{name}")), "validation") for line in lines]
    if any(value is not None for _, value, _ in scores):
        last = next(value for _, value, _ in reversed(scores) if value is not None)
        shown = score_text(last, is_share=share)
        spec = line_chart(scores, "epoch", name, share=share)
        yield Chart(f"{name} on the validation part", spec, f"A line that ends at {shown}.")
    else:
        yield Lacking("Nothing was held out to watch the score while training (train.validation).")
    rates = [(line["epoch"], as_number(line.get("learning_rate")), "learning rate") for line in lines]
    if any(rate is not None for _, rate, _ in rates):
        spec = line_chart(rates, "epoch", "learning rate", zero=True, height=110)
        yield Chart(
            "Learning rate", spec, f"A line of the learning rate, from {rates[0][1]:.3g} to {rates[-1][1]:.3g}."
        )


def metric_of(folder: Folder) -> tuple[str, bool]:
    """The figure by which the run's networks are compared, and whether it is a share."""
    metric, evaluation = folder.json("data.json").get("metric"), folder.json("evaluation.json")
    if isinstance(metric, Mapping):
        return str(metric.get("name", "score")), metric.get("is_share") is True
    return str(evaluation.get("score_name", "accuracy")), evaluation.get("error") is not None


def _costs(tables: Sequence[FigureTable], terms: Terms) -> Iterator[Block]:
    yield Prose(
        ["Counted for one example; the auxiliary tower, which is for training only, is left out."], terms.tell("size")
    )
    for table in tables:
        names = [str(row[0]) for row in table.rows]
        quantities = {
            column: [as_number(row[index]) or 0.0 for row in table.rows]
            for index, column in enumerate(table.columns[1:], start=1)
        }
        largest = [_largest(names, column, values) for column, values in quantities.items()]
        if len(names) <= _MOST_BARS and quantities:
            yield Chart(f"{table.title}: shares", share_chart(names, quantities), f"Bars; {'; '.join(largest)}.")
        yield figure_table(table)


def _largest(names: Sequence[str], column: str, values: Sequence[float]) -> str:
    total = sum(values) or 1.0
    first = sorted(zip(names, values, strict=True), key=lambda pair: -pair[1])[:3]
    return f"most {column}: {', '.join(f'{name} {value / total:.0%}' for name, value in first)}"


def _items(figures: object) -> Iterator[tuple[str, object]]:
    if isinstance(figures, Mapping):
        yield from ((str(key), value) for key, value in figures.items())
