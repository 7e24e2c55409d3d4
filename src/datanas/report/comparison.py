"""A comparison of search methods as a table and as text, from the contents of comparison.json."""

from __future__ import annotations

import csv
import json
import math
import textwrap
from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any, TypeAlias

from datanas.core.text_table import markdown_table

Data: TypeAlias = Mapping[str, Any]

_FIGURES = (
    *("score", "expected", "percentile", "same_size_score", "shuffled_score", "search_score"),
    *("seconds", "memory", "parameters", "macs", "operations", "sparsity", "collapsed", "architecture", "failed"),
)
ENOUGH_SEEDS = 5
"""With fewer, the short version warns of what its differences rest on."""
_WIDTH = 110
NONE = "–"
"""What stands where nothing is known."""


def comparison_csv(data: Data) -> str:
    """One line for each row and seed with all that is known of it, numbers in full."""
    runs = [(row, seed, run) for row in data["rows"] for seed, run in by_seed(row)]
    present = {key for _, _, run in runs for key in run}
    keys = [*_FIGURES, *sorted(present.difference(_FIGURES))]
    page = StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(["name", "kind", "seed", *keys])
    for row, seed, run in runs:
        writer.writerow([row["name"], row["kind"], seed, *(_plain(run.get(key)) for key in keys)])
    return page.getvalue()


def comparison_markdown(data: Data) -> str:
    """The whole comparison: budget, verdict, a table with one line for each row, controls and notes."""
    head, lines_of_rows, _ = comparison_rows(data)
    rows = [[_cell(name), *cells] for name, *cells in lines_of_rows]
    lines = [
        f"# Comparison by {_cell(data['metric'])}",
        "",
        f"{budget_line(data)}  ",
        f"{'Higher' if data['higher_is_better'] else 'Lower'} is better. Differences are paired by seed.",
        "",
        f"**Verdict:** {_cell(data['winner']['text'])}.",
        "",
        markdown_table([head, *rows], right=range(1, len(head))),
        f"Each interval is one of {percent(data)} by itself, not adjusted for the number of rows; "
        "the verdict above is. With few seeds the bootstrap interval of a mean is too narrow; that of a difference is "
        "the wider of the bootstrap's and Student's t.",
    ]
    controls = [row for row in data["rows"] if row["kind"] == "control"]
    notes = [f"{row['name']}: {row['note']}" for row in data["rows"] if row["kind"] != "control" and row.get("note")]
    notes += data.get("notes") or []
    for title, entries in (
        ("Controls", [f"**{_cell(row['name'])}**: {_cell(row.get('note') or NONE)}" for row in controls]),
        ("Notes", [_cell(note) for note in notes]),
    ):
        if entries:
            lines += ["", f"## {title}", "", *(f"- {entry}" for entry in entries)]
    return "\n".join(lines) + "\n"


def comparison_rows(data: Data) -> tuple[list[str], list[list[str]], list[Data]]:
    """The heads of the whole table, a line for each row with the best first, and the rows in that order."""
    columns, rows = _columns(data), ranked(data)
    lines = [[" ".join(row["name"].split()), *(show(row) for show in columns.values())] for row in rows]
    return ["name", *columns], lines, rows


def comparison_text(data: Data) -> str:
    """The short version in lines of at most 110 characters: scores, differences to the reference, verdict."""
    reference = data.get("reference")
    columns = _columns(data)
    chosen = list(columns)[:3]
    heads = ["", "mean ± sd", f"{percent(data)} interval", "difference" if reference else ""]
    table = [heads, *([" ".join(row["name"].split()), *(columns[key](row) for key in chosen)] for row in ranked(data))]
    widths = [max(len(line[i]) for line in table) for i in range(4)]
    widths[0] = max(min(widths[0], _WIDTH - sum(widths[1:]) - 3 * 2), 1)

    lines = [*_wrapped(f"{data['metric']}{unit(data)} by method"), *_wrapped(budget_line(data)), ""]
    for line in table:
        name = textwrap.wrap(line[0], widths[0]) or [""]
        lines += name[:-1]
        cells = [
            f"{name[-1]:<{widths[0]}}",
            *(f"{cell:<{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    lines += [""]
    fewest = _fewest_seeds(data)
    if fewest < ENOUGH_SEEDS:
        lines += _wrapped(
            f"So few seeds ({fewest}) show large differences only. Each interval, and the word behind it, is one of "
            f"{percent(data)} by itself, not adjusted for the number of rows; the verdict is."
        )
    if reference:
        lines += _wrapped(f"Differences are to {reference}, paired by seed.")
    failed = [f"{row['name']} {failed_text(row)}" for row in ranked(data) if has_failures(row)]
    if failed:
        lines += _wrapped(f"Failed: {', '.join(failed)}.")
    lines += _wrapped(f"Verdict: {data['winner']['text']}.")
    return "\n".join(lines) + "\n"


def _columns(data: Data) -> dict[str, Callable[[Data], str]]:
    """The columns of the table after the name; the first three are those of the short version."""
    digits, reference = digits_of(data), data.get("reference")
    interval = f"{percent(data)} interval"
    bootstrap = f"{percent(data)} bootstrap interval"

    def difference(key: str) -> Callable[[Data], str]:
        return lambda row: _difference(row.get(key), digits)

    def average(key: str, show: Callable[[float], str]) -> Callable[[Data], str]:
        return lambda row: _average(row, key, show)

    columns: dict[str, Callable[[Data], str]] = {
        f"mean ± sd{unit(data)}": lambda row: mean_text(row, digits),
        bootstrap: lambda row: _interval(row, f".{digits}f"),
        f"difference to {_cell(reference or 'random')} ({interval})": difference("difference"),
        "difference to random cells of the same size": difference("same_size"),
        "difference to shuffled labels": difference("shuffled"),
        "expected under P": average("expected", lambda value: f"{value:.{digits}f}"),
        "percentile": average("percentile", "{:.1f}".format),
        "seconds": average("seconds", lambda value: f"{value:.1f}" if value < 1000 else f"{value:.0f}"),
        "peak memory": average("memory", lambda value: f"{value / 2**30:.2f} GiB"),
        "parameters": average("parameters", _short),
        "multiply-adds": average("macs", _short),
        "operations": average("operations", lambda value: f"{value:.1f}".removesuffix(".0")),
        "sparsity": average("sparsity", "{:.0%}".format),
        "collapsed": _collapsed,
        "failed": failed_text,
    }
    if not any(row.get("shuffled") for row in data["rows"]):
        del columns["difference to shuffled labels"]
    return columns


def ranked(data: Data) -> list[Data]:
    """The rows by their mean, the best first and those without one last."""
    sign = -1 if data["higher_is_better"] else 1
    return sorted(data["rows"], key=lambda row: sign * row["mean"] if is_number(row.get("mean")) else math.inf)


def by_seed(row: Data) -> list[tuple[str, Data]]:
    """The runs of a row with their seeds, in order."""
    return sorted(row["seeds"].items(), key=lambda item: int(item[0]))


def digits_of(data: Data) -> int:
    """How many decimals give the largest mean four digits; six at most."""
    largest = max((abs(row["mean"]) for row in data["rows"] if is_number(row.get("mean"))), default=0.0)
    return min(max(3 - math.floor(math.log10(largest)), 0), 6) if largest else 2


def mean_text(row: Data, digits: int) -> str:
    """The mean of a row's scores and their deviation."""
    if not is_number(row.get("mean")):
        return NONE
    spread = f"{row['sd']:.{digits}f}" if is_number(row.get("sd")) else NONE
    return f"{row['mean']:z.{digits}f} ± {spread}"


def _interval(entry: Data, form: str) -> str:
    if not (is_number(entry.get("low")) and is_number(entry.get("high"))):
        return NONE
    return f"[{entry['low']:{form}}, {entry['high']:{form}}]"


def _difference(entry: Data | None, digits: int) -> str:
    if not entry or not is_number(entry.get("mean")):
        return NONE
    form = f"+z.{digits}f"
    return f"{entry['mean']:{form}} {_interval(entry, form)}, {entry['verdict']}"


def _average(row: Data, key: str, show: Callable[[float], str]) -> str:
    values = [run[key] for _, run in by_seed(row) if is_number(run.get(key))]
    return show(sum(values) / len(values)) if values else NONE


def _collapsed(row: Data) -> str:
    known = [run["collapsed"] for _, run in by_seed(row) if run.get("collapsed") is not None]
    return f"{sum(known)}/{len(known)}" if known else NONE


def has_failures(row: Data) -> bool:
    """Whether a run of a row has failed."""
    return any(run.get("failed") for _, run in by_seed(row))


def failed_text(row: Data) -> str:
    """How many runs of a row have failed, of how many."""
    return f"{sum(bool(run.get('failed')) for run in row['seeds'].values())}/{len(row['seeds'])}"


def budget_line(data: Data) -> str:
    """What each method may take, and the seeds, in a sentence."""
    budget = dict(data["budget"])
    size = f"{budget.pop('value')} {budget.pop('kind')}"
    if "asked" in budget:
        size += f", the whole epochs nearest to the {budget.pop('asked')} asked for"
    rest = ", ".join(f"{key} {value}" for key, value in budget.items())
    seeds = ", ".join(map(str, data["seeds"]))
    return f"Budget of each: {size}{f' ({rest})' if rest else ''}; seeds {seeds}."


def _fewest_seeds(data: Data) -> int:
    """Of the whole, or in common to two rows of which a difference is shown."""
    entries = [row.get(key) for row in data["rows"] for key in ("difference", "same_size", "shuffled")]
    pairs: list[int] = [entry["pairs"] for entry in entries if entry and is_number(entry.get("mean"))]
    return min([len(data["seeds"]), *pairs])


def percent(data: Data) -> str:
    """How sure the intervals are."""
    return f"{100 * data['confidence']:.4g} %"


def unit(data: Data) -> str:
    """In what the scores are, in brackets."""
    return f" ({data['unit']})" if data.get("unit") else ""


def _short(value: float) -> str:
    """Three digits and a prefix: 12300 is 12.3 k."""
    for scale, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * scale:
            return f"{float(f'{value / scale:.3g}'):g}{prefix}"
    return f"{value:.3g}"


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> Any:
    """A value as a field of a CSV: nothing for null, JSON for truth values, lists and objects."""
    if value is None or (isinstance(value, (int, float, str)) and not isinstance(value, bool)):
        return value
    return json.dumps(value)


def _cell(text: str) -> str:
    """`text` on one line, without what Markdown would take for the end of a cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH)
