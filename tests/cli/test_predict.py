"""`datanas predict`: a line an input, a table on request, and bad input in one sentence with its exit code."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import datanas


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "bright.png"
    Image.fromarray(np.full((8, 8, 3), 220, np.uint8)).save(file)
    return file


def test_a_line_an_input_with_the_likeliest_classes(cli: Callable[..., Any], chain: Any, image: Path) -> None:
    outcome = cli("predict", chain.train, image, image, "--top", 2, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    ((first, second),) = datanas.load(chain.train).predict(image).top(2)
    line = f"{image}  {first[0]} {first[1]:.2f}  {second[0]} {second[1]:.2f}"
    assert outcome.out.splitlines() == [line, line]
    assert cli("predict", chain.train, image).out.count(" 0.") == 3


def test_a_table(cli: Callable[..., Any], chain: Any, image: Path, tmp_path: Path) -> None:
    odd = image.rename(tmp_path / 'a, "b".png')
    assert cli("predict", chain.train, odd, "--top", 1, "--csv", tmp_path / "found.csv").code == 0
    header, row = csv.reader((tmp_path / "found.csv").open())
    assert header == ["input", "class_1", "probability_1"]
    assert row[0] == str(odd)
    assert 1 / 3 <= float(row[2]) <= 1


def test_an_export_from_its_folder_as_its_card_says(
    cli: Callable[..., Any], chain: Any, image: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    assert cli("export", chain.train, folder).code == 0
    assert 'datanas.load("mine").predict("picture.jpg")' in (folder / "README.md").read_text()
    assert cli("predict", folder, image).out == cli("predict", chain.train, image).out


def test_texts_and_continuations(cli: Callable[..., Any], text_chain: Any, tmp_path: Path) -> None:
    file = text_chain.text / "test.txt"
    outcome = cli("predict", text_chain.train, file, "--csv", tmp_path / "found.csv")
    score = datanas.evaluate(text_chain.train).score
    assert outcome.out == f"{file}  perplexity {score:.2f}  (84 words, 0 of them unknown)\n"
    assert (tmp_path / "found.csv").read_text().splitlines()[0] == "input,perplexity,words,unknown"
    first = cli("predict", text_chain.train, "--continue", "a big dog", "--words", 3)
    assert first.out.startswith("a big dog ")
    assert cli("predict", text_chain.train, "--continue", "a big dog", "--words", 3).out == first.out
    drawn = [cli("predict", text_chain.train, "--continue", "a", "--seed", seed).out for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def refused(outcome: Any, code: int, message: str) -> None:
    assert (outcome.code, outcome.out) == (code, "")
    assert "Traceback" not in outcome.err
    (line,) = [line for line in outcome.err.splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: ")
    assert message in line


def test_bad_usage(cli: Callable[..., Any], chain: Any, text_chain: Any, image: Path) -> None:
    refused(cli("predict", chain.train), 2, f"nothing is given to predict; say what: datanas predict {chain.train}")
    refused(cli("predict", chain.train, image, "--top", 0), 2, "--top must be at least 1")
    refused(cli("predict", chain.train, image, "--batch-size", 0), 2, "batch_size must be at least 1")
    refused(cli("predict", chain.train, image, "--device", "abacus"), 2, "device: 'abacus'")
    refused(cli("predict", chain.train, image, "-o", "x"), 2, "--output: is of no use for the network of")
    refused(cli("predict", chain.train, "--continue", "a"), 2, "--continue: is of no use")
    refused(cli("predict", text_chain.train, image, "--support", "x"), 2, "whose task is language")
    refused(cli("predict", chain.train, image, "--tpo", 1), 2, "--tpo")


def test_no_trained_network(cli: Callable[..., Any], chain: Any, image: Path, tmp_path: Path) -> None:
    refused(cli("predict", chain.search, image), 3, f"train its cell: datanas train {chain.search}")
    refused(cli("predict", tmp_path, image), 3, "neither the run folder of a training nor")
    refused(cli("predict", image, image), 3, "is a file; a folder is needed")


def test_bad_inputs(cli: Callable[..., Any], chain: Any, text_chain: Any, image: Path, tmp_path: Path) -> None:
    table = tmp_path / "found.csv"
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "nan.npy", np.full((8, 8), np.nan))
    np.savez(tmp_path / "labels.npz", y=np.arange(3), z=np.arange(3))
    bad = {
        tmp_path / "none.png": "no such file or folder",
        tmp_path / "empty": "holds no images",
        chain.train / "network.safetensors": "not an image; images, folders of images",
        text_chain.text / "train.txt": "not an image",
        tmp_path / "nan.npy": "NaN or infinite",
        tmp_path / "labels.npz": "are labels without images",
    }
    for path, message in bad.items():
        refused(cli("predict", chain.train, path, "--csv", table), 8, message)
    refused(cli("predict", text_chain.train, image), 8, "NUL bytes")
    assert not table.exists()


def test_broken_ones_among_many(cli: Callable[..., Any], chain: Any, image: Path) -> None:
    broken = image.with_name("broken.png")
    broken.write_bytes(image.read_bytes()[:50])
    refused(cli("predict", chain.train, image, broken), 8, f"{broken}: ")
    outcome = cli("predict", chain.train, image, broken, "--skip-broken")
    assert outcome.code == 0
    assert outcome.out == cli("predict", chain.train, image).out
    assert f"skipped 1 broken of 2 images: {broken}" in outcome.err
