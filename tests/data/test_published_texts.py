"""The real texts have the sizes that are published, whether packed or loose."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datanas.data.sets.ptb import Ptb
from datanas.data.sets.text import Text
from datanas.data.sets.wikitext2 import WikiText2

Shared = Callable[[str], Path]
PUBLISHED = pytest.mark.parametrize(
    ("dataset", "file", "sizes", "words"),
    [
        (Ptb, "ptb.zip", (929_589, 73_760, 82_430), 10_000),
        (WikiText2, "wikitext2.zip", (2_088_628, 217_646, 245_569), 33_278),
    ],
)


@PUBLISHED
def test_sizes_are_those_published(shared: Shared, dataset: Any, file: str, sizes: tuple[int, ...], words: int) -> None:
    data = dataset(dataset.Config(root=shared(file).parent)).load()
    assert (len(data.train), len(data.valid), len(data.test)) == sizes
    assert len(data.vocabulary) == words
    assert data.unknown == {"valid": 0, "test": 0}


@PUBLISHED
def test_ids_decode_to_the_words_of_the_file(
    shared: Shared, dataset: Any, file: str, sizes: tuple[int, ...], words: int
) -> None:
    data = dataset(dataset.Config(root=shared(file))).load()
    with zipfile.ZipFile(shared(file)) as archive:
        (name,) = (name for name in archive.namelist() if "valid" in name)
        expected = archive.read(name).decode().replace("\n", " <eos> ").split()
    assert [data.vocabulary[index] for index in data.valid.tolist()] == expected


def test_an_unpacked_text_is_the_same(shared: Shared, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared("ptb.zip")) as archive:
        archive.extractall(tmp_path)
    loose, packed = Ptb(Ptb.Config(root=tmp_path)).load(), Text(Text.Config(root=shared("ptb.zip"))).load()
    assert loose.digest == packed.digest
    assert torch.equal(loose.train, packed.train)


def test_one_published_text_is_not_taken_for_the_other(shared: Shared) -> None:
    with pytest.raises(ValueError, match="has 10,000 words but that of the published text 33,278"):
        WikiText2(WikiText2.Config(root=shared("ptb.zip"))).load()
