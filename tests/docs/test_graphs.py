"""Means and intervals of graph networks are those of the runs in docs/results, and the README repeats them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from tests.docs.intervals import half_width
from tests.pages import ROOT, numbers, table, text

GRAPHS = "docs/graphs.md"


class TestGraphs:
    kept: Any = json.loads((ROOT / "docs/results/graphs.json").read_text())
    table = table(GRAPHS, "arm")

    def rows(self) -> Iterator[tuple[str, str, Sequence[str]]]:
        graph = ""
        for row in self.table.rows.values():
            graph = row[0].partition(" ")[0] or graph
            yield graph, row[1], row

    def test_means_and_differences_are_those_of_the_seeds(self) -> None:
        count = 0
        for graph, arm, row in self.rows():
            runs = self.kept["graphs"][graph][arm]
            random = self.kept["graphs"][graph]["random in the supernet"]["test"]
            test, mean = runs["test"], self.kept["mean of all"][graph]
            differences = [[value - mean for value in test]]
            differences.append([value - size for value, size in zip(test, runs["same_size"], strict=True)])
            differences.append([value - other for value, other in zip(test, random, strict=True)])
            exact = [statistics.fmean(test), statistics.fmean(runs["percentile"])]
            for values in differences if any(differences[2]) else differences[:2]:
                exact += [statistics.fmean(values), half_width(values)]
            exact.append(statistics.fmean(runs["seconds"]))
            shown = [each for entry in row[2:] for each in numbers(entry)]
            assert all(one.is_rounded(other) for one, other in zip(shown, exact, strict=True)), (graph, arm)
            count += 1
        assert count == 6

    def test_the_table_says_what_all_networks_have(self) -> None:
        for graph in ("Cora", "Citeseer"):
            said = f"{graph} (mean {self.kept['mean of all'][graph]:.1f}, best {self.kept['best'][graph]:.1f})"
            assert said in text(GRAPHS)

    def test_the_readme_says_the_same(self) -> None:
        said = []
        for graph in ("Cora", "Citeseer"):
            arms, mean = self.kept["graphs"][graph], self.kept["mean of all"][graph]
            egs = arms["egs, M = 1"]
            scores = (egs["test"], [mean], egs["same_size"], arms["random in the supernet"]["test"])
            said.append([f"{statistics.fmean(values):.1f}" for values in scores])
        cora, citeseer = said
        assert "Cora {} % test accuracy, a random network {}, one of equal size {}".format(*cora) in text("README.md")
        assert f"random search in the same supernet {cora[3]}" in text("README.md")
        assert "Citeseer {}, {}, {} and {}".format(*citeseer) in text("README.md")


def test_poolings_have_the_means_and_paired_differences_of_their_seeds() -> None:
    kept = json.loads((ROOT / "docs/results/pooling.json").read_text())["poolings"]
    found = table(GRAPHS, "pooling")
    assert found.rows.keys() == kept.keys()
    for name, row in found.rows.items():
        values = kept[name]["test"]
        less = [value - other for value, other in zip(values, kept["mean"]["test"], strict=True)]
        exact = [kept[name]["parameters"], statistics.fmean(values)]
        exact += [] if name == "mean" else [statistics.fmean(less), half_width(less)]
        shown = [each for entry in row[1:] for each in numbers(entry)]
        assert all(one.is_rounded(other) for one, other in zip(shown, exact, strict=True)), name
