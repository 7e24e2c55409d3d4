"""The Penn Treebank (Marcus et al. 1993) as Mikolov et al. (2010) prepared it for word-level language models."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset
from datanas.data.sets.text import read_published
from datanas.data.types.corpus import Split, TextData

FILES: dict[Split, str] = {"train": "ptb.train.txt", "valid": "ptb.valid.txt", "test": "ptb.test.txt"}
LOCATIONS = ("data", "simple-examples/data", "ptb", "penn", "ptb.zip", "penn.zip")
VOCABULARY = 10_000


@register_dataset("ptb")
class Ptb(Dataset[TextData]):
    """929,589, 73,760 and 82,430 words with `<eos>`; the vocabulary has 10,000."""

    class Config(ComponentConfig):
        name: Literal["ptb"] = "ptb"
        root: Path = Field(
            description="the folder of ptb.train.txt, of ptb.zip, ptb, penn or simple-examples; or a .zip"
        )

    config: Config

    def load(self) -> TextData:
        return read_published("ptb", self.config.root, LOCATIONS, FILES, VOCABULARY)
