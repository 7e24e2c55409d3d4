"""A comparison of search methods as a table, as text and as a picture, all from the contents of comparison.json."""

from __future__ import annotations

import csv
import json
import math
import os
import textwrap
from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any, TypeAlias

from datanas.core.text_table import markdown_table
from datanas.report.canvas import save_picture
from datanas.report.layout import FAINT, INK, LABEL, PALE, TITLE, text_width, unmathed

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
_METHOD = "#2f6db5"
_BAND = "#f3e9d2"
_ROW, _PLOT, _MARGIN = 0.28, 5.0, 0.25  # inches
_LEGEND = ("mean of a method", "of a control", "one seed", "95 % interval", "95 % interval of ")
_DPI = 150


def comparison_csv(data: Data) -> str:
    """One line for each row and seed with all that is known of it, numbers in full."""
    runs = [(row, seed, run) for row in data["rows"] for seed, run in _by_seed(row)]
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
        f"{_budget_line(data)}  ",
        f"{'Higher' if data['higher_is_better'] else 'Lower'} is better. Differences are paired by seed.",
        "",
        f"**Verdict:** {_cell(data['winner']['text'])}.",
        "",
        markdown_table([head, *rows], right=range(1, len(head))),
        f"Each interval is one of {_percent(data)} by itself, not adjusted for the number of rows; "
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
    columns, ranked = _columns(data), _ranked(data)
    lines = [[" ".join(row["name"].split()), *(show(row) for show in columns.values())] for row in ranked]
    return ["name", *columns], lines, ranked


def comparison_text(data: Data) -> str:
    """The short version in lines of at most 110 characters: scores, differences to the reference, verdict."""
    reference = data.get("reference")
    columns = _columns(data)
    chosen = list(columns)[:3]
    heads = ["", "mean ± sd", f"{_percent(data)} interval", "difference" if reference else ""]
    table = [heads, *([" ".join(row["name"].split()), *(columns[key](row) for key in chosen)] for row in _ranked(data))]
    widths = [max(len(line[i]) for line in table) for i in range(4)]
    widths[0] = max(min(widths[0], _WIDTH - sum(widths[1:]) - 3 * 2), 1)

    lines = [*_wrapped(f"{data['metric']}{_unit(data)} by method"), *_wrapped(_budget_line(data)), ""]
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
            f"{_percent(data)} by itself, not adjusted for the number of rows; the verdict is."
        )
    if reference:
        lines += _wrapped(f"Differences are to {reference}, paired by seed.")
    failed = [f"{row['name']} {_failed(row)}" for row in _ranked(data) if _has_failures(row)]
    if failed:
        lines += _wrapped(f"Failed: {', '.join(failed)}.")
    lines += _wrapped(f"Verdict: {data['winner']['text']}.")
    return "\n".join(lines) + "\n"


def draw_comparison(data: Data, path: str | os.PathLike[str]) -> None:
    """Draw every row's seeds, mean and interval into an SVG or PNG file; equal data give equal bytes.

    Raises:
        ValueError: the file's suffix is neither .svg nor .png.
        StorageError: the file cannot be written.
    """
    save_picture(lambda: _figure(data), path, dpi=_DPI)


def _figure(data: Data) -> Any:
    from matplotlib.figure import Figure

    rows = _ranked(data)
    names = [" ".join(row["name"].split()) for row in rows]
    digits = _digits(data)
    sides = [f"{_mean(row, digits)}{f'  ({_failed(row)} failed)' if _has_failures(row) else ''}" for row in rows]
    left = max([text_width(name, LABEL) for name in names], default=0.0) + _MARGIN + 0.15
    right = max([text_width(side, LABEL) for side in sides], default=0.0) + _MARGIN + 0.15
    legend = text_width("".join(_LEGEND) + str(data.get("reference")), LABEL) + 2.0
    title, axis = f"Comparison by {data['metric']}", f"{data['metric']}{_unit(data)}"
    width = max(left + _PLOT + right, 2 * _MARGIN + legend, 2 * _MARGIN + 1.2 * text_width(title, TITLE))
    characters = int((width - 2 * _MARGIN) / text_width("n" * 100, LABEL) * 100)
    header = [
        line
        for text in (_budget_line(data), f"Verdict: {data['winner']['text']}.")
        for line in textwrap.wrap(text, characters)
    ]
    top = _MARGIN + 0.3 + 0.19 * len(header) + 0.15
    body = _ROW * max(len(rows), 1)
    bottom = 0.85
    height = top + body + bottom

    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(_MARGIN / width, 1 - _MARGIN / height, unmathed(title), size=TITLE, weight="bold", color=INK, va="top")
    for i, line in enumerate(header):
        y = 1 - (_MARGIN + 0.3 + 0.19 * i) / height
        figure.text(_MARGIN / width, y, unmathed(line), size=LABEL, color=INK, va="top")
    axes = figure.add_axes((left / width, bottom / height, _PLOT / width, body / height))
    axes.set(ylim=(len(rows) - 0.5 if rows else 0.5, -0.5), yticks=range(len(rows)))
    axes.set_yticklabels([unmathed(name) for name in names], size=LABEL, color=INK)
    axes.tick_params(axis="x", labelsize=LABEL, color=FAINT, labelcolor=INK)
    axes.tick_params(axis="y", length=0)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.grid(axis="x", color=PALE, zorder=0)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    axes.set_xlabel(unmathed(axis), size=LABEL, color=INK)

    band = next((row for row in rows if row["name"] == data.get("reference")), None)
    has_band = band is not None and _is_number(band.get("low")) and _is_number(band.get("high"))
    if band is not None and has_band:
        axes.axvspan(band["low"], band["high"], color=_BAND, linewidth=0, zorder=0.5)
    for y, (row, side) in enumerate(zip(rows, sides, strict=True)):
        colour = FAINT if row["kind"] == "control" else _METHOD
        _draw_row(axes, y, row, colour)
        axes.text(1.02, y, side, transform=axes.get_yaxis_transform(), size=LABEL, color=INK, va="center_baseline")
    if not any(_is_number(row.get("mean")) for row in rows):
        axes.set(xticks=[])
    _draw_legend(figure, data, _MARGIN / width, (bottom - 0.5) / height, band["name"] if band and has_band else None)
    return figure


def _draw_row(axes: Any, y: int, row: Data, colour: str) -> None:
    seeds = [run["score"] for _, run in _by_seed(row) if _is_number(run.get("score"))]
    dots = {"linestyle": "none", "marker": "o", "color": colour}
    if seeds:
        # A little below, where neither the interval nor the mean hides them.
        axes.plot(seeds, [y + 0.22] * len(seeds), **dots, markersize=3.5, alpha=0.45, markeredgewidth=0, zorder=3)
    if _is_number(row.get("low")) and _is_number(row.get("high")):
        axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=2)
    if _is_number(row.get("mean")):
        axes.plot([row["mean"]], [y], **dots, markersize=6, markeredgecolor="white", markeredgewidth=0.8, zorder=4)


def _draw_legend(figure: Any, data: Data, x: float, y: float, band: str | None) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgewidth": 0}
    keys: list[Any] = [
        Line2D([], [], **dot, color=_METHOD, markersize=6.5, label="mean of a method"),
        Line2D([], [], **dot, color=FAINT, markersize=6.5, label="of a control"),
        Line2D([], [], **dot, color=_METHOD, markersize=3.5, alpha=0.45, label="one seed"),
        Line2D([], [], color=_METHOD, linewidth=1.6, label=f"{_percent(data)} interval"),
    ]
    if band:
        keys.append(Patch(color=_BAND, linewidth=0, label=unmathed(f"{_percent(data)} interval of {band}")))
    figure.legend(
        handles=keys,
        loc="upper left",
        bbox_to_anchor=(x, y),
        ncols=len(keys),
        frameon=False,
        fontsize=LABEL,
        labelcolor=INK,
        borderaxespad=0,
        borderpad=0,
        columnspacing=1.2,
        handletextpad=0.4,
        handlelength=1.4,
    )


def _columns(data: Data) -> dict[str, Callable[[Data], str]]:
    """The columns of the table after the name; the first three are those of the short version."""
    digits, reference = _digits(data), data.get("reference")
    interval = f"{_percent(data)} interval"
    bootstrap = f"{_percent(data)} bootstrap interval"

    def difference(key: str) -> Callable[[Data], str]:
        return lambda row: _difference(row.get(key), digits)

    def average(key: str, show: Callable[[float], str]) -> Callable[[Data], str]:
        return lambda row: _average(row, key, show)

    columns: dict[str, Callable[[Data], str]] = {
        f"mean ± sd{_unit(data)}": lambda row: _mean(row, digits),
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
        "failed": _failed,
    }
    if not any(row.get("shuffled") for row in data["rows"]):
        del columns["difference to shuffled labels"]
    return columns


def _ranked(data: Data) -> list[Data]:
    """The rows by their mean, the best first and those without one last."""
    sign = -1 if data["higher_is_better"] else 1
    return sorted(data["rows"], key=lambda row: sign * row["mean"] if _is_number(row.get("mean")) else math.inf)


def _by_seed(row: Data) -> list[tuple[str, Data]]:
    return sorted(row["seeds"].items(), key=lambda item: int(item[0]))


def _digits(data: Data) -> int:
    """How many decimals give the largest mean four digits; six at most."""
    largest = max((abs(row["mean"]) for row in data["rows"] if _is_number(row.get("mean"))), default=0.0)
    return min(max(3 - math.floor(math.log10(largest)), 0), 6) if largest else 2


def _mean(row: Data, digits: int) -> str:
    if not _is_number(row.get("mean")):
        return NONE
    spread = f"{row['sd']:.{digits}f}" if _is_number(row.get("sd")) else NONE
    return f"{row['mean']:z.{digits}f} ± {spread}"


def _interval(entry: Data, form: str) -> str:
    if not (_is_number(entry.get("low")) and _is_number(entry.get("high"))):
        return NONE
    return f"[{entry['low']:{form}}, {entry['high']:{form}}]"


def _difference(entry: Data | None, digits: int) -> str:
    if not entry or not _is_number(entry.get("mean")):
        return NONE
    form = f"+z.{digits}f"
    return f"{entry['mean']:{form}} {_interval(entry, form)}, {entry['verdict']}"


def _average(row: Data, key: str, show: Callable[[float], str]) -> str:
    values = [run[key] for _, run in _by_seed(row) if _is_number(run.get(key))]
    return show(sum(values) / len(values)) if values else NONE


def _collapsed(row: Data) -> str:
    known = [run["collapsed"] for _, run in _by_seed(row) if run.get("collapsed") is not None]
    return f"{sum(known)}/{len(known)}" if known else NONE


def _has_failures(row: Data) -> bool:
    return any(run.get("failed") for _, run in _by_seed(row))


def _failed(row: Data) -> str:
    return f"{sum(bool(run.get('failed')) for run in row['seeds'].values())}/{len(row['seeds'])}"


def _budget_line(data: Data) -> str:
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
    pairs: list[int] = [entry["pairs"] for entry in entries if entry and _is_number(entry.get("mean"))]
    return min([len(data["seeds"]), *pairs])


def _percent(data: Data) -> str:
    return f"{100 * data['confidence']:.4g} %"


def _unit(data: Data) -> str:
    return f" ({data['unit']})" if data.get("unit") else ""


def _short(value: float) -> str:
    """Three digits and a prefix: 12300 is 12.3 k."""
    for scale, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * scale:
            return f"{float(f'{value / scale:.3g}'):g}{prefix}"
    return f"{value:.3g}"


def _is_number(value: Any) -> bool:
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
