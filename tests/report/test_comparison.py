from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from datanas.comparison.statistics import summarise
from datanas.core.errors import StorageError
from datanas.report.comparison import comparison_csv, comparison_markdown, comparison_text
from datanas.report.comparison_picture import draw_comparison

LONG = "egs with a name of many words: temperature 0.5, seven samples a step, cosine schedule"


def run(score: float, **figures: Any) -> dict[str, Any]:
    common = {"expected": 92.0, "percentile": 91.25, "seconds": 50.1, "memory": 2**31, "parameters": 123_456}
    return {"score": score, **common, "macs": 1.5e7, "operations": 5, "collapsed": False, **figures}


def row(name: str, mean: float, kind: str = "method", note: str = "") -> dict[str, Any]:
    generator = np.random.default_rng(len(name))
    seeds = {str(seed): run(mean + float(generator.normal(0, 0.3))) for seed in range(5)}
    return {"name": name, "kind": kind, "note": note, "seeds": seeds}


def comparison(*rows: dict[str, Any], reference: str | None = "random cells", **entries: Any) -> dict[str, Any]:
    data = {
        "metric": "test_acc/cifar10",
        "unit": "%",
        "higher_is_better": True,
        "confidence": 0.95,
        "budget": {"kind": "steps", "value": 780, "batch_size": 64},
        "seeds": list(range(5)),
        "reference": reference,
        "notes": ["All networks learn for 20 epochs."],
        **summarise(rows, reference),
    }
    return data | entries


def usual() -> dict[str, Any]:
    egs, darts = row("egs", 94.0), row("darts", 92.5, note="first order")
    egs["seeds"]["1"] |= {"collapsed": True, "same_size_score": 92.0, "architecture": "|conv~0|+|skip~1|"}
    egs["seeds"]["2"] |= {"same_size_score": 92.3}
    darts["seeds"]["3"] = {"failed": "out of memory,\nafter 3 steps"}
    return comparison(egs, darts, row("random cells", 92.0, "control", "drawn from P"))


def with_seeds(count: int) -> dict[str, Any]:
    """Two rows of so many seeds that differ by two points, by a little more or less from seed to seed."""

    def scores(name: str, mean: float, spread: float) -> dict[str, Any]:
        seeds = {str(seed): run(mean + spread * seed) for seed in range(count)}
        return {"name": name, "kind": "control" if name == "random cells" else "method", "note": "", "seeds": seeds}

    return comparison(scores("egs", 94.0, 0.1), scores("random cells", 92.0, 0.11), seeds=list(range(count)))


def many(number: int = 20) -> dict[str, Any]:
    names = [LONG, *(f"method_{i}" for i in range(number - 2))]
    return comparison(*(row(name, 93 - i / 9) for i, name in enumerate(names)), row("random cells", 92.0, "control"))


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text)))


def table(markdown: str) -> list[dict[str, str]]:
    """The rows of the Markdown's table by the names of their columns."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(cells[0], line, strict=True)) for line in cells[2:]]


def texts(path: Path) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


class TestCsv:
    def test_gives_back_every_figure(self) -> None:
        data = json.loads(json.dumps(usual()))
        lines = parsed(comparison_csv(data))
        assert len(lines) == 15
        for line, (name, seed, figures) in zip(
            lines,
            [(each["name"], seed, figures) for each in data["rows"] for seed, figures in each["seeds"].items()],
            strict=True,
        ):
            assert (line.pop("name"), line.pop("seed")) == (name, seed)
            line.pop("kind")
            for key, value in line.items():
                if key in ("architecture", "failed"):
                    assert value == figures.get(key, "")
                elif value:
                    assert json.loads(value) == figures[key]
                else:
                    assert key not in figures

    def test_has_a_column_for_figures_that_it_does_not_know(self) -> None:
        data = comparison(row("random cells", 92.0))
        data["rows"][0]["seeds"]["0"] |= {"energy": 12.5, "devices": ["a", "b"], "seconds": None}
        first, second = parsed(comparison_csv(data))[:2]
        assert (first["energy"], first["devices"], first["seconds"]) == ("12.5", '["a", "b"]', "")
        assert (second["energy"], second["seconds"]) == ("", "50.1")

    def test_orders_seeds_as_numbers(self) -> None:
        data = comparison(row("random cells", 92.0))
        data["rows"][0]["seeds"] = {"10": run(1.0), "9": run(2.0)}
        assert [line["seed"] for line in parsed(comparison_csv(data))] == ["9", "10"]


class TestMarkdown:
    def test_has_one_line_for_each_row_with_the_best_first(self) -> None:
        assert [line["name"] for line in table(comparison_markdown(usual()))] == ["egs", "darts", "random cells"]
        upwards = comparison_markdown(usual() | {"higher_is_better": False})
        assert [line["name"] for line in table(upwards)] == ["random cells", "darts", "egs"]
        assert "Lower is better." in upwards

    def test_shows_what_is_known_of_a_row(self) -> None:
        data = usual()
        egs, darts, random = table(comparison_markdown(data))
        entry = data["rows"][0]
        assert egs["mean ± sd (%)"] == f"{entry['mean']:.2f} ± {entry['sd']:.2f}"
        assert egs["95 % bootstrap interval"] == f"[{entry['low']:.2f}, {entry['high']:.2f}]"
        assert egs["difference to random cells (95 % interval)"] == (
            f"{entry['difference']['mean']:+.2f} [{entry['difference']['low']:+.2f}, "
            f"{entry['difference']['high']:+.2f}], better"
        )
        assert egs["difference to random cells of the same size"].endswith(", no difference shown")
        assert (egs["expected under P"], egs["percentile"], egs["seconds"]) == ("92.00", "91.2", "50.1")
        assert (egs["peak memory"], egs["parameters"], egs["multiply-adds"]) == ("2.00 GiB", "123 k", "15 M")
        assert (egs["operations"], egs["collapsed"], egs["failed"]) == ("5", "1/5", "0/5")
        assert (darts["collapsed"], darts["failed"]) == ("0/4", "1/5")
        assert random["difference to random cells (95 % interval)"] == "–"

    def test_says_budget_controls_and_notes(self) -> None:
        text = comparison_markdown(usual())
        assert "Budget of each: 780 steps (batch_size 64); seeds 0, 1, 2, 3, 4." in text
        assert "## Controls\n\n- **random cells**: drawn from P\n" in text
        assert "## Notes\n\n- darts: first order\n- All networks learn for 20 epochs.\n" in text
        assert "difference to shuffled labels" not in text

    @pytest.mark.parametrize("shown", [comparison_markdown, comparison_text])
    def test_says_what_was_asked_for_where_that_is_not_what_was_made(self, shown: Callable[[Any], str]) -> None:
        data = usual() | {"budget": {"kind": "steps", "value": 3, "asked": 4}}
        line = "Budget of each: 3 steps, the whole epochs nearest to the 4 asked for; seeds 0, 1, 2, 3, 4."
        assert line in shown(data)
        assert "asked" not in shown(usual())

    def test_shows_shuffled_labels_where_they_were_tried(self) -> None:
        egs = row("egs", 94.0)
        for figures in egs["seeds"].values():
            figures["shuffled_score"] = 92.0
        found = table(comparison_markdown(comparison(egs, row("random cells", 92.0))))
        assert found[0]["difference to shuffled labels"].endswith(", better")

    def test_says_best_only_where_that_is_decided(self) -> None:
        clear = comparison(row("egs", 94.0), row("darts", 92.5), row("random cells", 92.0, "control"))
        assert "egs is best" in comparison_markdown(clear)
        tied = comparison(row("egs", 92.0), row("snas", 92.01), row("random cells", 92.0, "control"))
        for text in (comparison_markdown(tied), comparison_text(tied)):
            assert "best" not in text
            assert "no difference shown between" in text

    def test_missing_figures_are_dashes(self) -> None:
        bare = {"name": "egs", "kind": "method", "note": "", "seeds": {"0": {"score": 93.0}, "1": {"seconds": None}}}
        failed = {"name": "darts", "kind": "method", "note": "", "seeds": {"0": {"failed": "loss is nan"}}}
        egs, darts = table(comparison_markdown(comparison(bare, failed, reference=None)))
        assert (egs["mean ± sd (%)"], egs["95 % bootstrap interval"], egs["seconds"]) == ("93.00 ± –", "–", "–")
        assert {key for key, value in darts.items() if value != "–"} == {"name", "failed"}
        assert darts["failed"] == "1/1"

    def test_a_name_cannot_break_the_table(self) -> None:
        data = comparison(row("odd | name\nin two lines", 92.0), reference=None)
        assert table(comparison_markdown(data).replace(r"\|", "/"))[0]["name"] == "odd / name in two lines"

    @pytest.mark.parametrize(
        ("scale", "shown"), [(1.0, "92.00"), (0.01, "0.9200"), (1e-3, "0.09200"), (1e3, "92000"), (0.0, "0.00")]
    )
    def test_shows_four_digits_of_the_mean(self, scale: float, shown: str) -> None:
        rows = [{"name": "egs", "kind": "method", "note": "", "seeds": {"0": {"score": 92.0 * scale}}}]
        assert table(comparison_markdown(comparison(*rows, reference=None)))[0]["mean ± sd (%)"] == f"{shown} ± –"


class TestText:
    @pytest.mark.parametrize(
        "data", [usual(), many(), comparison(row("egs", 1e-3), row("x" * 200, 0.1), reference=None)]
    )
    def test_keeps_to_110_columns_and_names_every_row(self, data: dict[str, Any]) -> None:
        text = comparison_text(data)
        assert max(map(len, text.splitlines())) <= 110
        for each in data["rows"]:
            assert "".join(each["name"].split()) in "".join(text.split())

    def test_shows_scores_differences_failures_and_the_verdict(self) -> None:
        data = usual()
        text = comparison_text(data)
        assert f"{data['rows'][0]['mean']:.2f} ± " in text
        assert "], better\n" in text
        assert "Failed: darts 1/5." in text
        assert "Differences are to random cells, paired by seed." in text
        assert f"Verdict: {data['winner']['text']}." in " ".join(text.split())

    @pytest.mark.parametrize(("seeds", "is_warned"), [(1, True), (2, True), (4, True), (5, False)])
    def test_warns_of_few_seeds(self, seeds: int, is_warned: bool) -> None:
        text = " ".join(comparison_text(with_seeds(seeds)).split())
        warning = (
            f"So few seeds ({seeds}) show large differences only. Each interval, and the word behind it, is one of "
            "95 % by itself, not adjusted for the number of rows; the verdict is."
        )
        assert (warning in text) is is_warned
        assert ("few seeds" in text) is is_warned
        assert (", better" in text) is (seeds > 1)

    @pytest.mark.parametrize("key", ["difference", "same_size", "shuffled"])
    def test_warns_of_few_pairs_among_more_seeds(self, key: str) -> None:
        data = with_seeds(5)
        data["rows"][0] |= {key: data["rows"][0]["difference"] | {"pairs": 2}}
        assert "So few seeds (2) show" in comparison_text(data)

    def test_does_without_a_reference(self) -> None:
        text = comparison_text(comparison(row("egs", 93.0), row("darts", 92.0), reference=None))
        assert "difference" not in text.lower().replace("no difference shown", "")


class TestPicture:
    def test_names_every_row_in_full_and_the_metric(self, tmp_path: Path) -> None:
        draw_comparison(many(), tmp_path / "a.svg")
        shown = texts(tmp_path / "a.svg")
        for each in many()["rows"]:
            assert each["name"] in shown
        assert "test_acc/cifar10 (%)" in shown
        assert "95 % interval of random cells" in shown

    def test_keeps_names_on_the_sheet(self, tmp_path: Path) -> None:
        """The sheet grows with the longest name, by as much as the name is wide."""
        widths = []
        for name in ("egs", "w" * 150):
            draw_comparison(comparison(row(name, 92.0), reference=None), tmp_path / "a.svg")
            widths.append(float(ElementTree.parse(tmp_path / "a.svg").getroot().attrib["width"].removesuffix("pt")))
        assert widths[1] - widths[0] > 140 * 6

    def test_draws_every_seed(self, tmp_path: Path) -> None:
        marks = []
        for number in (2, 5):
            data = usual()
            data["rows"][0]["seeds"] = {str(seed): run(92.0 + seed / 9) for seed in range(number)}
            draw_comparison(data, tmp_path / "a.svg")
            marks.append((tmp_path / "a.svg").read_text().count("<use "))
        assert marks[1] - marks[0] == 3

    def test_draws_an_interval_where_there_is_one(self, tmp_path: Path) -> None:
        one = {"name": "gdas", "kind": "method", "note": "", "seeds": {"0": run(92.0)}}
        draw_comparison(comparison(row("egs", 93.0), row("darts", 92.0), one, reference=None), tmp_path / "a.svg")
        assert (tmp_path / "a.svg").read_text().count("stroke-width: 1.6") == 2 + 1  # and the legend's

    def test_draws_controls_in_grey_before_the_band_of_the_reference(self, tmp_path: Path) -> None:
        colours = []
        for kind, reference in (("method", None), ("control", None), ("control", "random cells")):
            data = comparison(row("egs", 93.0), row("random cells", 92.0, kind), reference=reference)
            draw_comparison(data, tmp_path / "a.svg")
            text = (tmp_path / "a.svg").read_text()
            colours.append([text.count(colour) for colour in ("#2f6db5", "#9aa3ad", "#f3e9d2")])
        as_method, as_control, with_band = colours
        assert as_method[0] > as_control[0]
        assert as_method[1] < as_control[1]
        assert as_control[2] == 0
        assert with_band == [*as_control[:2], 2]

    def test_says_who_failed(self, tmp_path: Path) -> None:
        failed = {
            "name": "gdas",
            "kind": "method",
            "note": "",
            "seeds": {"0": {"failed": "nan"}, "1": {"failed": "nan"}},
        }
        draw_comparison(comparison(failed, row("random cells", 92.0)), tmp_path / "a.svg")
        assert "–  (2/2 failed)" in texts(tmp_path / "a.svg")

    @pytest.mark.parametrize("suffix", ["svg", "png"])
    def test_equal_data_give_equal_bytes(self, suffix: str, tmp_path: Path) -> None:
        a, b = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
        draw_comparison(usual(), a)
        draw_comparison(json.loads(json.dumps(usual())), b)
        assert a.read_bytes() == b.read_bytes()
        draw_comparison(many(3), b)
        assert a.read_bytes() != b.read_bytes()

    def test_svg_is_the_same_in_another_process(self, tmp_path: Path) -> None:
        draw_comparison(usual(), tmp_path / "a.svg")
        (tmp_path / "comparison.json").write_text(json.dumps(usual()))
        program = (
            "import sys, json; from datanas.report.comparison_picture import draw_comparison;"
            "draw_comparison(json.load(open(sys.argv[1])), sys.argv[2])"
        )
        arguments = [sys.executable, "-c", program, str(tmp_path / "comparison.json"), str(tmp_path / "b.svg")]
        subprocess.run(arguments, check=True, env={"PYTHONPATH": ":".join(sys.path)})
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()

    @pytest.mark.parametrize("rows", [[], [{"name": "$odd_{", "kind": "method", "note": "", "seeds": {}}]])
    def test_draws_what_little_there_is(self, rows: list[dict[str, Any]], tmp_path: Path) -> None:
        data = comparison(*rows, reference=None)
        draw_comparison(data, tmp_path / "a.svg")
        assert all(each["name"] in texts(tmp_path / "a.svg") for each in data["rows"])

    def test_refuses_other_formats(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.pdf: a picture's name must end in \.svg or \.png"):
            draw_comparison(usual(), tmp_path / "a.pdf")

    def test_names_the_file_that_it_cannot_write(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match=r"file/a\.svg: cannot be written"):
            draw_comparison(usual(), tmp_path / "file" / "a.svg")


def test_imports_neither_torch_nor_matplotlib() -> None:
    program = (
        "import sys; import datanas.report.comparison;"
        "sys.exit(not {'torch', 'matplotlib', 'scipy'}.isdisjoint(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})
