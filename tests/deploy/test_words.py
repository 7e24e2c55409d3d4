"""A network of words from its folder: perplexities are those of evaluation, and continuations follow its scores."""

from __future__ import annotations

import math
import random
import shutil
from pathlib import Path

import pytest
import torch

import datanas
from datanas.core.errors import CheckpointError, ConfigError, DataError
from datanas.data.types.corpus import Source, encode_known
from datanas.deploy.export import export
from datanas.deploy.words import TextPredictor
from datanas.engine.evaluation import evaluate

WORDS = ["a", "big", "small", "red", "dog", "cat", "sees", "likes"]


def lines(seed: int, count: int, words: list[str] = WORDS) -> str:
    chance = random.Random(seed)
    return "".join(" ".join(chance.choices(words, k=5)) + "\n" for _ in range(count))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training whose validation text holds a word that training text does not."""
    root = tmp_path_factory.mktemp("words")
    (root / "text").mkdir()
    for seed, (part, words) in enumerate({"train": WORDS, "valid": [*WORDS, "new"], "test": WORDS}.items()):
        (root / "text" / f"{part}.txt").write_text(lines(seed, 40, words))
    config = {
        "run": {"root": str(root), "name": "run"},
        "device": "cpu",
        "data": {"name": "text", "root": str(root / "text")},
        "task": {"name": "language", "sequence": 8},
        "train": {"channels": 4, "epochs": 2, "batch_size": 4},
    }
    return datanas.train("darts_v2_rnn", config, quiet=True).path


@pytest.fixture(params=["run", "export"])
def predictor(request: pytest.FixtureRequest, run: Path, tmp_path: Path) -> TextPredictor:
    """From either folder, without the text."""
    if request.param == "export":
        path = export(run, tmp_path / "exported")
    else:
        path = tmp_path / "copy"
        shutil.copytree(run, path)
        config = (path / "config.yaml").read_text()
        (path / "config.yaml").write_text(config.replace(str(run.parent / "text"), str(tmp_path / "gone")))
    found = datanas.load(path)
    assert isinstance(found, TextPredictor)
    return found


def test_the_perplexity_of_the_test_text_is_that_of_evaluation(run: Path, predictor: TextPredictor) -> None:
    (found,) = predictor.predict(run.parent / "text" / "test.txt")
    assert found.perplexity == evaluate(run).score
    assert (found.words, found.unknown) == (240, 0)


def test_a_text_itself_and_unknown_words(predictor: TextPredictor) -> None:
    found = predictor.predict(["the dog sees a cat\n", "a dog"])
    assert [(each.name, each.words, each.unknown) for each in found] == [("text 0", 6, 1), ("text 1", 3, 0)]


def test_a_folder_of_texts(run: Path, predictor: TextPredictor) -> None:
    found = predictor.predict(run.parent / "text")
    assert [Path(each.name).name for each in found] == ["test.txt", "train.txt", "valid.txt"]
    assert found[2].unknown > 0


def test_words_follow_by_their_scores(predictor: TextPredictor) -> None:
    vocabulary, longest = predictor.vocabulary, 0
    for seed in range(6):
        torch.manual_seed(seed)
        for weights in predictor.network.parameters():  # so that a word depends on those before it
            torch.nn.init.normal_(weights, std=2.0)
        tokens = [vocabulary.index(word) for word in ("<eos>", "a", "dog")]
        for _ in range(8):
            logits = predictor.network(torch.tensor(tokens)[:, None]).logits[-1, 0]
            logits[vocabulary.index("<unk>")] = -math.inf
            tokens.append(int(logits.argmax()))
        longest = max(longest, len({*tokens[3:]}))
        words = " ".join(vocabulary[token] for token in tokens[3:])
        assert predictor.continue_text("a dog", 8).split() == words.replace("<eos>", "").split()
    assert longest > 1


def test_drawn_words_are_those_of_their_seed(predictor: TextPredictor) -> None:
    first = predictor.continue_text("a dog", 30, seed=1)
    assert predictor.continue_text("a dog", 30, seed=1) == first
    assert predictor.continue_text("a dog", 30, seed=2) != first
    assert "<unk>" not in first


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no texts were given"),
        (3, "int is no text"),
        ("none.txt", "none.txt: No such file"),
        (torch.zeros(3, 8, 8), "Tensor is no text"),
    ],
)
def test_what_is_no_text_is_refused(predictor: TextPredictor, given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        predictor.predict(given)


def test_an_image_is_no_text(predictor: TextPredictor, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with pytest.raises(DataError, match=r"a\.png: holds NUL bytes"):
        predictor.predict(tmp_path / "a.png")


def test_no_words_and_no_temperature_are_refused(predictor: TextPredictor) -> None:
    with pytest.raises(ConfigError, match="words must be at least 1"):
        predictor.continue_text("a", 0)
    with pytest.raises(ConfigError, match="temperature must be above 0"):
        predictor.continue_text("a", 1, temperature=0.0)
    with pytest.raises(ConfigError, match="gives no probabilities of classes"):
        predictor.predict_proba("a dog")


def test_a_vocabulary_of_another_network_is_refused(run: Path, tmp_path: Path) -> None:
    folder = export(run, tmp_path / "exported")
    (folder / "vocabulary.txt").write_text("<eos>\na\n")
    with pytest.raises(CheckpointError, match=r"the vocabulary has 2 words, the network \d+"):
        datanas.load(folder)


def test_words_without_a_sign_for_unknown_ones() -> None:
    ids, unknown = encode_known(Source("x", "b a\nc"), ("a", "<eos>", "<unk>", "b"))
    assert (ids.tolist(), unknown) == ([3, 0, 1, 2, 1], 1)
    with pytest.raises(DataError, match="holds the word 'c', which the network does not know"):
        encode_known(Source("x", "a c"), ("a", "<eos>"))
