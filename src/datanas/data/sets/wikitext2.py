"""WikiText-2 (Merity et al. 2016), the tokenised version: articles of Wikipedia for word-level language models."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset
from datanas.data.sets.text import read_published
from datanas.data.types.corpus import Split, TextData

FILES: dict[Split, str] = {"train": "wiki.train.tokens", "valid": "wiki.valid.tokens", "test": "wiki.test.tokens"}
LOCATIONS = ("wikitext-2", "wikitext2", "wikitext-2-v1", "wikitext-2-v1.zip", "wikitext-2.zip", "wikitext2.zip")
VOCABULARY = 33_278


@register_dataset("wikitext2")
class WikiText2(Dataset[TextData]):
    """2,088,628, 217,646 and 245,569 words with `<eos>`; the vocabulary has 33,278."""

    class Config(ComponentConfig):
        name: Literal["wikitext2"] = "wikitext2"
        root: Path = Field(
            description="the folder of wiki.train.tokens, of wikitext-2 or of its archive; or a .zip file"
        )

    config: Config

    def load(self) -> TextData:
        return read_published("wikitext2", self.config.root, LOCATIONS, FILES, VOCABULARY)
