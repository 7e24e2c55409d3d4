"""search, derive, train, evaluate, profile on a text: what is written and printed of a language model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from datanas import Architecture
from datanas.runs import read_metrics

FIGURES = re.compile(r"valid perplexity (\S+) \(loss \S+\), test perplexity (\S+) \(loss \S+\), \d+ parameters, ")


@pytest.mark.parametrize("command", ["train", "evaluate", "lstm"])
def test_perplexities_are_printed(command: str, text_chain: Any) -> None:
    found = FIGURES.match(text_chain.printed[command].out)
    assert found, text_chain.printed[command].out
    assert all(1 < float(number) < 100 for number in found.groups())


def test_no_share_is_printed(text_chain: Any) -> None:
    for command, outcome in text_chain.printed.items():
        assert command == "profile" or "%" not in outcome.out + outcome.err  # it has shares of costs
        assert "error" not in outcome.out + outcome.err


def test_evaluate_prints_what_training_printed_and_wrote(text_chain: Any) -> None:
    assert text_chain.printed["evaluate"].out.splitlines() == text_chain.printed["train"].out.splitlines()[:1]
    written = json.loads((text_chain.train / "evaluation.json").read_text())
    valid, test = FIGURES.match(text_chain.printed["train"].out).groups()
    assert (f"{written['validation']['score']:.1f}", f"{written['score']:.1f}") == (valid, test)
    assert (written["score_name"], written["error"]) == ("perplexity", None)


def test_a_search_keeps_one_recurrent_cell(text_chain: Any) -> None:
    kept = Architecture.load(text_chain.search / "architecture.json")
    assert (kept.space, set(kept.cells)) == ("recurrent_cell", {"recurrent"})
    assert Architecture.load(text_chain.search.parent / "derived.json") == kept
    assert Architecture.load(text_chain.train / "architecture.json") == kept
    printed = text_chain.printed["search"].out
    assert re.search(
        r"^perplexity: supernet [\d.]+, sampled children [\d.]+, child kept [\d.]+$", printed, re.MULTILINE
    )
    assert all(line["gap/child"] > 1 for line in read_metrics(text_chain.search))


def test_a_convolutional_cell_is_told_what_a_text_takes(text_chain: Any, refused: Any, runs: Path) -> None:
    message = (
        "task.name: darts_v2 of space conv_cell cannot be trained on task language, which takes recurrent cells, such "
        "as darts_v2_rnn; it is for tasks such as classification"
    )
    refused(2, message, "train", "darts_v2", *text_chain.settings(runs))


def test_profile_counts_what_training_counted(text_chain: Any) -> None:
    written = json.loads((text_chain.train / "evaluation.json").read_text())
    lines = dict(line.split(maxsplit=1) for line in text_chain.printed["profile"].out.partition("\n\n")[0].splitlines())
    assert lines["parameters"] == f"{written['parameters']:,}"
    assert lines["multiply-adds"].endswith(" M a word")


def test_other_text_of_the_same_words_is_measured(text_chain: Any, cli: Any, tmp_path: Any) -> None:
    for file in text_chain.text.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "test.txt").write_text("a dog sees a cat\n")
    found = FIGURES.match(cli("evaluate", text_chain.train, "--data.root", tmp_path).out)
    printed = FIGURES.match(text_chain.printed["train"].out)
    assert found
    assert printed
    assert found[1] == printed[1]
    assert found[2] != printed[2]
